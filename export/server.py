"""`python -m export.server RUN`; see `cplus1_keras.server`."""

from cplus1_keras.server import main

if __name__ == "__main__":
    main()
