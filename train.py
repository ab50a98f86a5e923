"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

import os
import signal
import sys

if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":  # told before Keras looks for it
    sys.exit(f"train.py: runs need KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND={os.environ['KERAS_BACKEND']}")
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while TensorFlow loads ends without a traceback

from cplus1_keras.train import main

if __name__ == "__main__":
    main()
