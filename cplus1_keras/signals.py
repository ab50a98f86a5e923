"""Ctrl-C and SIGTERM end a program of the package with a sentence, after it has tidied up."""

import math
import signal
import time


def stop_on_signals():
    """Both raise KeyboardInterrupt; what comes within 2 seconds of one must not cut its tidying up."""
    last = -math.inf

    def stop(number, frame):
        nonlocal last
        if time.monotonic() - last > 2:
            last = time.monotonic()
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and a shell's `&` ask for
            signal.signal(number, stop)
