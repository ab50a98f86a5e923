"""What judging knows of one image, whatever the task."""

from typing import NamedTuple

import numpy as np


class Record(NamedTuple):
    """The decisions about one image, judged: three arrays of one shape, (), (H, W), (C,) or (boxes,).

    Args:
        labels: Integers in the package's convention.
        predictions: Known class of each decision, before any rejection.
        scores: float32, higher = more known.
        group: What counts as independent: the image, or the video that it is from.
        more: What a task's own figures need.
    """

    labels: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray
    group: str
    more: dict = {}  # noqa: RUF012  nothing writes into it
