"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

from cplus1_keras.train import console

if __name__ == "__main__":
    console()
