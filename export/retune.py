"""`python -m export.retune SAVEDMODEL`; see `cplus1_keras.retune`."""

from cplus1_keras.retune import main

if __name__ == "__main__":
    main()
