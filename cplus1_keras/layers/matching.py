"""Which object a box belongs to, and which boxes train."""

from keras import ops

from cplus1_keras.labels import IGNORE, NEGATIVE, is_known
from cplus1_keras.numerics import divide
from cplus1_keras.numerics.boxes import area, iou

COVERED = 0.5
"""A box of which this share lies in an object of no known class is no background."""


def match_boxes(boxes, objects, labels, positive, negative, force=False):
    """The label of each box, and the object of a known class that it overlaps most.

    Its label is that of this object from an IoU of `positive` on; below `negative` it is background, unless half of it
    lies in an unknown or ignored object; else, and without an area, it is ignored.

    Args:
        boxes: (B, R, 4).
        objects, labels: (B, M, 4) and (B, M), M >= 1; those without an area are padding, and last.
        positive, negative: IoUs.
        force: Whether each object of a known class has its nearest boxes at least, if their IoU is `negative` or more.

    Returns:
        Labels (B, R) int32, and rows (B, R) of `objects`.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.2.

    >>> boxes, objects = np.array([[[0.0, 0, 4, 4], [0, 0, 9, 9], [5, 5, 9, 9]]]), np.array([[[0.0, 0, 4, 5]]])
    >>> np.array(match_boxes(boxes, objects, np.array([[2]]), 0.7, 0.3)[0]).tolist()
    [[2, -1, -1]]
    """
    boxes, objects = ops.cast(boxes, "float32"), ops.cast(objects, "float32")
    labels, known = ops.cast(labels, "int32"), is_known(labels)
    own = area(boxes)
    best, which = ops.zeros_like(own), ops.zeros_like(own, dtype="int32")
    nearest = covered = ops.zeros_like(own, dtype="bool")

    # One object after the other: all pairs of 260,000 anchors and 500 objects would not fit.
    def look(m, state):
        best, which, nearest, covered = state
        other, label = ops.take(objects, m, axis=1)[:, None], ops.take(labels, m, axis=1)[:, None]
        overlap = ops.where(is_known(label), iou(boxes, other), 0.0)
        better = overlap > best
        highest = ops.maximum(ops.max(overlap, axis=1, keepdims=True), max(negative, 1e-6))
        strange = (label == IGNORE) | ~(is_known(label) | (label == NEGATIVE))
        shared = ops.concatenate(
            [ops.maximum(boxes[..., :2], other[..., :2]), ops.minimum(boxes[..., 2:], other[..., 2:])], axis=-1
        )
        inside = strange & (divide(area(shared), own) >= COVERED)
        which = ops.where(better, m, which)
        return ops.where(better, overlap, best), which, nearest | (overlap >= highest), covered | inside

    count = ops.max(ops.sum(ops.cast(area(objects) > 0, "int32"), axis=1))
    state = ops.fori_loop(0, count, look, (best, which, nearest, covered))
    best, which, nearest, covered = state
    mine = ops.take_along_axis(labels, which, axis=1)
    found = ops.where((best < negative) & ~covered, NEGATIVE, IGNORE)
    hits = (best >= positive) | (nearest if force else False)
    found = ops.where(hits & ops.any(known, axis=1, keepdims=True), mine, found)
    return ops.where(own > 0, found, IGNORE), which


def sample_labels(labels, count, share, order):
    """The labels (B, R) of a random choice, the others being ignored: known ones first, up to a share, then negatives.

    Args:
        labels: (B, R) int32.
        count: How many are chosen in each image, at most.
        share: Of these at most so many are known, in (0, 1].
        order: (R,) ints, a permutation of 0, 1, ..., R - 1: the last of it are chosen.

    >>> np.array(sample_labels(np.array([[3, -1, 5, -1, -1]]), 3, 0.4, np.array([4, 0, 1, 2, 3]))).tolist()
    [[3, -100, -100, -1, -1]]
    """
    order = ops.cast(order, "float32")  # exact up to 16 million
    known, negative = is_known(labels), labels == NEGATIVE
    known = known & (order >= _last(known, order, max(1, int(count * share)), None))
    left = count - ops.sum(ops.cast(known, "int32"), axis=1, keepdims=True)
    chosen = known | (negative & (order >= _last(negative, order, count, left)))
    return ops.where(chosen, labels, IGNORE)


def _last(which, order, most, number):
    """The place in the order from which on `number` (B, 1) of those in `which` lie, or `most` where None."""
    size = ops.shape(which)[1]
    most = min(most, size) if isinstance(size, int) else ops.minimum(most, size)
    places = ops.top_k(ops.where(which, order, -1.0), most)[0]
    if number is None:
        return places[:, -1:]
    found = ops.take_along_axis(places, ops.clip(number - 1, 0, most - 1), axis=1)
    return ops.where(number > 0, found, float("inf"))


def truth(layer, tensors):
    """The data set's boxes (B, M, 4) and labels (B, M), with a row of padding more, for batches without a box."""
    missing = [name for name in ("boxes", "box_labels") if name not in tensors]
    if missing:
        raise ValueError(
            f"`{layer.name}` needs `boxes` (batch, boxes, 4) and `box_labels` (batch, boxes) from the data set: "
            f"`fit(images, {{'boxes': ..., 'box_labels': ...}})`. Missing: {missing}"
        )
    boxes = ops.pad(ops.cast(tensors["boxes"], "float32"), [[0, 0], [0, 1], [0, 0]])
    return boxes, ops.pad(ops.cast(tensors["box_labels"], "int32"), [[0, 0], [0, 1]], constant_values=IGNORE)
