"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

from cplus1_keras.train import main

if __name__ == "__main__":
    main()
