"""A quiet start: what TensorFlow says of itself while it is imported is held back."""

import contextlib
import os
import re
import sys
import tempfile

_NOTES = re.compile(rb"WARNING: All log messages before absl|[IW]\d{4} |To enable the following instructions")


@contextlib.contextmanager
def quiet_import():
    """Hold back TensorFlow's notes on its start, and nothing else; TF_CPP_MIN_LOG_LEVEL=0 in the environment shows all.

    They come from C++, before TensorFlow reads that variable, so that standard error itself is looked through.

    >>> with quiet_import():
    ...     import tensorflow
    """
    if "tensorflow" in sys.modules or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    try:
        shown = os.dup(2)
    except OSError:  # a service may have closed it
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            file.seek(0)
            for line in file:
                if not _NOTES.match(line):
                    os.write(2, line)
