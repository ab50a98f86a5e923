"""`python -m export.predict SAVEDMODEL FILES`; see `cplus1_keras.predict`."""

from cplus1_keras.predict import main

if __name__ == "__main__":
    main()
