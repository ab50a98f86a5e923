"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

import os
import sys

if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":  # told before Keras looks for it
    sys.exit(f"train.py: runs need KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND={os.environ['KERAS_BACKEND']}")

from cplus1_keras.train import main

if __name__ == "__main__":
    main()
