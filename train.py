"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow tells of each GPU that is not there

from cplus1_keras.train import main

if __name__ == "__main__":
    main()
