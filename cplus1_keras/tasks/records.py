"""What a task says of one image: all that calibration, figures and reports read."""

from typing import NamedTuple

import numpy as np

from cplus1_keras.labels import NEGATIVE, UNKNOWN

ROLES = {"known": None, "negative": NEGATIVE, "unknown": UNKNOWN}
"""The label of each role that is not a class."""


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


def split_by_class(record, values, names, class_names):
    """Triples (role, class name, where) of the decisions of one image; a name is None where `values` do not tell it.

    Args:
        record: A `Record`.
        values: Which class of the source each decision is of, in the shape of the labels; one more axis, the first,
            where it is a stranger by several; None where the source does not say. Of detections they are those of the
            objects, and `record.more["which"]` says which one each hits, -1 being none.
        names: Dict from these values to class names.
        class_names: Names of the known classes, or None to leave knowns out.

    >>> from cplus1_keras.tasks import Record
    >>> [(role, name) for role, name, _ in split_by_class(Record(np.array(-2), None, None, ""), 7, {7: "seven"}, None)]
    [('unknown', 'seven')]
    """
    labels = np.asarray(record.labels)
    if class_names is not None:
        for label in np.unique(labels[labels >= 0]).tolist():
            yield "known", class_names[label], labels == label
    hits = np.asarray(record.more.get("which", 0))
    if "which" in record.more and values is not None:
        values = np.append(values, -1)[hits]
    layers = [None] if values is None or not np.size(values) else np.asarray(values).reshape(-1, *labels.shape)
    for layer in layers:
        for role in ("negative", "unknown"):
            inside = (labels == ROLES[role]) & (hits >= 0)
            for value in np.unique(layer[inside]).tolist() if layer is not None else [None] * bool(inside.any()):
                name, own = (None, True) if layer is None else (names[value], layer == value)
                yield role, name, inside & own
    for role in ("negative", "unknown"):
        nothing = (labels == ROLES[role]) & (hits < 0)
        if nothing.any():
            yield role, None, nothing
