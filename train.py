"""Train an open-set classifier: `python train.py --help`. The program is `cplus1_keras.train`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while TensorFlow loads ends without a traceback

from cplus1_keras.train import main

if __name__ == "__main__":
    main()
