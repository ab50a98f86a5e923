"""`python -m export RUN`; see `cplus1_keras.export`."""

from cplus1_keras.export import console

if __name__ == "__main__":
    console()
