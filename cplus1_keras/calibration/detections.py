"""A threshold of detections whose promise counts images."""

import dataclasses

import numpy as np

from cplus1_keras.calibration.thresholds import threshold_at_fpr
from cplus1_keras.labels import is_negative


def calibrate_detections(records, fpr, confidence=0.95, score=None, allowed=0):
    """Lowest threshold at which, of all images, at most the share `fpr` has a false detection.

    A false detection is one with the label `NEGATIVE`: it hits nothing, or the background. With `allowed` = k an image
    may have k of them: what counts is its (k+1)-th highest score of these, -inf where it has fewer. So each image is
    one decision, and bound and errors are those of `threshold_at_fpr`.

    Args:
        records: Iterable of `tasks.Record`s of images, whose entries are detections.
        fpr, confidence, score: As for `threshold_at_fpr`.
        allowed: k, an int >= 0.

    Returns:
        A `Calibration` with rule `"fpr"`.

    >>> from cplus1_keras.tasks.records import Record
    >>> labels, found = np.array([0, -1]), np.linspace(0, 1, 60)
    >>> records = [Record(labels, np.zeros(2, int), np.array([2, worst]), f"{worst}") for worst in found]
    >>> print(calibrate_detections(records, 0.1))  # doctest: +NORMALIZE_WHITESPACE
    Accept score >= 0.9831: 1 of 60 images with a false detection (1.67 %);
    at 95 % confidence at most 7.66 %; asked: 10 %.
    """
    if isinstance(allowed, bool) or allowed != int(allowed) or allowed < 0:
        raise ValueError(f"`allowed` is a number of false detections, an int >= 0. Received: allowed={allowed!r}")
    worst, groups = [], []
    for record in records:
        false = np.sort(np.asarray(record.scores)[is_negative(np.asarray(record.labels))])[::-1]
        worst.append(false[allowed] if len(false) > allowed else -np.inf)
        groups.append(record.group)
    found = threshold_at_fpr(np.array(worst, "float32"), fpr, confidence, score, np.array(groups))
    many = "a false detection" if not allowed else f"more than {allowed} false detection{'s' * (allowed > 1)}"
    event = f"images with {many}"
    return dataclasses.replace(found, event=event, at=lambda threshold: found.at(threshold, event=event))
