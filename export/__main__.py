"""`python -m export RUN`; see `cplus1_keras.export`."""

from cplus1_keras.export import main

if __name__ == "__main__":
    main()
