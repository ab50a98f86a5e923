"""`python -m export.score SAVEDMODEL --input ... --output ...`; see `cplus1_keras.bulk`."""

from cplus1_keras.bulk.__main__ import main

if __name__ == "__main__":
    main()
