"""What a task says of one image: all that calibration, figures and reports read."""

from typing import NamedTuple

import numpy as np


class Record(NamedTuple):
    """Labels and scores of one image, or of its pixels, boxes or classes.

    Of label sets entry c has `predictions[c] = c`; `labels[c]` is c where class c is present, `NEGATIVE` where it is
    absent, `IGNORE` where it is not annotated; where an image shows no known class but an unknown one, the absent
    entries are `UNKNOWN`. So recall is CCR, and false alarms are FPR.
    """

    labels: np.ndarray
    """Integers in the package's convention, of shape (), (H, W), (C,) or (boxes,)."""
    predictions: np.ndarray
    """Class indices of the knowns, before any rejection, of that shape."""
    scores: np.ndarray
    """Float32 of that shape, higher = more known."""
    group: str
    """What counts as independent: the image, or the video that it is from."""
    more: dict = {}  # noqa: RUF012 - nothing writes into it
    """What a task's own figures need beside."""
