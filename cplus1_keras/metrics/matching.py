"""Which object each detection of an image finds, hits or misses."""

from typing import NamedTuple

import numpy as np

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, is_known

MISTAKES = ("wrong class", "wrong place", "background", "unknown taken for known")


def overlaps(boxes, objects, labels):
    """Overlap (n, m) of detections and objects: IoU; for ignored objects the part of the detection that lies inside.

    Boxes are x1, y1, x2, y2. Objects without an area overlap with nothing.

    >>> overlaps(np.array([[0, 0, 2, 2]]), np.array([[0, 1, 2, 3], [0, 1, 2, 3]]), np.array([0, IGNORE])).tolist()
    [[0.3333333333333333, 0.5]]
    """
    boxes, objects = (np.asarray(each, "float64").reshape(-1, 4) for each in (boxes, objects))
    low = np.maximum(boxes[:, None, :2], objects[:, :2])
    high = np.minimum(boxes[:, None, 2:], objects[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    own, other = (np.prod(each[:, 2:] - each[:, :2], axis=-1) for each in (boxes, objects))
    union = np.where(np.asarray(labels) == IGNORE, own[:, None], own[:, None] + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def hit(boxes, objects, labels, iou=0.5, predictions=None, unjudged=()):
    """The object that each detection hits, and its label.

    That is the one with the largest IoU, if it reaches `iou`; else an ignored one that holds as large a part of the
    detection; else none, and the label is `NEGATIVE`. What does not hit an object of its own class, and that is one of
    `unjudged`, has the label `IGNORE`.

    Args:
        boxes, objects: Boxes (n, 4) of detections and (m, 4) of objects; padding has no area.
        labels: Labels (m,) of the objects.
        iou: In (0, 1).
        predictions: Class indices (n,) of the detections; only `unjudged` wants them.
        unjudged: Classes of which not every object has a box, as in LVIS.

    Returns:
        Index (n,) of the object, -1 for none, and its label (n,) int32.

    >>> objects, labels = np.array([[0, 0, 8, 8], [9, 9, 12, 12]]), np.array([3, UNKNOWN])
    >>> hit(np.array([[0, 0, 8, 7], [20, 20, 30, 30], [9, 9, 12, 12]]), objects, labels)
    (array([ 0, -1,  1]), array([ 3, -1, -2], dtype=int32))
    """
    labels = np.asarray(labels, "int32")
    shares = overlaps(boxes, objects, labels)
    best, found = np.full(len(shares), -1), np.full(len(shares), NEGATIVE, "int32")
    if labels.size:
        ignored = labels == IGNORE
        real, crowd = np.where(ignored, 0, shares), np.where(ignored, shares, 0)
        best = np.where(real.max(axis=1) >= iou, real.argmax(axis=1), best)
        best = np.where((best < 0) & (crowd.max(axis=1) >= iou), crowd.argmax(axis=1), best)
        found = np.where(best < 0, NEGATIVE, labels[best]).astype("int32")
    if len(unjudged):
        found = np.where(np.isin(predictions, unjudged) & (found != predictions), IGNORE, found).astype("int32")
    return best, found


def match(boxes, predictions, confidences, objects, labels, iou=0.5, classes=None):
    """Which detections of an image find an object of their class, and which count for nothing, as COCO decides.

    By falling confidence each takes the free object of its class with the largest IoU, if that reaches `iou`. One that
    takes none counts for nothing where an ignored object holds that part of it.

    Args:
        boxes, predictions, confidences: Boxes (n, 4), class indices (n,) and confidences (n,) of detections.
        objects, labels, iou: As for `hit`.
        classes: (m,): an ignored object counts for detections of this class alone, a crowd of it; for all if `IGNORE`.
            None: for all.

    Returns:
        Two arrays of booleans (n,).

    >>> box = np.array([[0, 0, 8, 8]])
    >>> match(np.repeat(box, 2, axis=0), np.array([0, 0]), np.array([0.5, 0.9]), box, np.array([0]))[0]
    array([False,  True])
    """
    labels, shares = np.asarray(labels), overlaps(boxes, objects, labels)
    right, free = np.zeros(len(shares), bool), is_known(labels)
    for i in np.argsort(-np.asarray(confidences), kind="stable"):
        own = np.where(free & (labels == predictions[i]), shares[i], 0)
        if own.max(initial=0) >= iou:
            right[i], free[own.argmax()] = True, False
    classes = labels if classes is None else np.asarray(classes)
    own = (classes == IGNORE) | (classes == np.asarray(predictions)[:, None])
    inside = np.where((labels == IGNORE) & own, shares, 0).max(axis=1, initial=0) >= iou
    return right, inside & ~right


class Image(NamedTuple):
    """What is kept of an image: its detections, its objects, and the scores that each unknown object was found with."""

    boxes: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    labels: np.ndarray
    surest: np.ndarray  # whether no other detection of the unknown object that this one hits has a lower score
    objects: np.ndarray
    object_labels: np.ndarray
    areas: np.ndarray
    classes: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray


def mistakes(image):
    """The kind of mistake of each detection of an `Image`, one of `MISTAKES`, or "" for what is right or ignored.

    The place is wrong where a detection overlaps with a known object, with an IoU of 0.1 or more, that it does not
    hit, or that a more confident one of its class has found.
    """
    known = is_known(image.object_labels)
    near = overlaps(image.boxes, image.objects[known], image.object_labels[known]).max(axis=1, initial=0) >= 0.1
    labels, same = image.labels, image.labels == image.predictions
    kinds = [(is_known(labels) & ~same), (is_known(labels) & same) | (near & (labels == NEGATIVE))]
    kinds += [labels == NEGATIVE, labels == UNKNOWN]
    return np.where(image.right | image.ignored, "", np.select(kinds, MISTAKES, ""))
