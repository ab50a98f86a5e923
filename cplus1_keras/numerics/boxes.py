"""Boxes (x1, y1, x2, y2) in pixels, continuous: areas are (x2 - x1)(y2 - y1). Shapes (..., 4) broadcast to one another.

Of each box of (M, 4) with each of (N, 4): `iou(ops.expand_dims(a, 1), b)`, shape (M, N).
"""

from keras import ops

from cplus1_keras.numerics.arithmetic import divide


def area(boxes):
    """The area (...) of boxes (..., 4), 0 where a side is not positive.

    >>> float(area(np.array([1.0, 1.0, 4.0, 3.0])))
    6.0
    """
    x1, y1, x2, y2 = (boxes[..., side] for side in range(4))
    return ops.maximum(x2 - x1, 0) * ops.maximum(y2 - y1, 0)


def iou(boxes, others):
    """Intersection over union (...) of two boxes each, in [0, 1]; 0 where both are empty.

    >>> round(float(iou(np.array([0.0, 0.0, 2.0, 2.0]), np.array([1.0, 0.0, 3.0, 2.0]))), 4)
    0.3333
    """
    shared, union = _shared_and_union(boxes, others)
    return divide(shared, union)


def giou(boxes, others):
    """Generalised intersection over union (...), in [-1, 1]: IoU less the empty share of the smallest box around both.

        GIoU = IoU - |H \\ (A ∪ B)| / |H|

    Reference: Rezatofighi et al., "Generalized intersection over union", CVPR 2019, algorithm 1.

    >>> float(giou(np.array([0.0, 0.0, 1.0, 1.0]), np.array([3.0, 0.0, 4.0, 1.0])))
    -0.5
    """
    shared, union = _shared_and_union(boxes, others)
    low, high = ops.minimum(boxes[..., :2], others[..., :2]), ops.maximum(boxes[..., 2:], others[..., 2:])
    hull = area(ops.concatenate([low, high], axis=-1))
    return divide(shared, union) - divide(hull - union, hull)


def _shared_and_union(boxes, others):
    low, high = ops.maximum(boxes[..., :2], others[..., :2]), ops.minimum(boxes[..., 2:], others[..., 2:])
    shared = area(ops.concatenate([low, high], axis=-1))
    return shared, area(boxes) + area(others) - shared


def encode(points, boxes):
    """The distances (left, top, right, bottom), (..., 4), from points (..., 2 or more: x, y) to the sides of boxes.

    All are positive for a point inside its box.

    >>> np.array(encode(np.array([2.0, 2.0]), np.array([0.0, 1.0, 5.0, 3.0]))).tolist()
    [2.0, 1.0, 3.0, 1.0]
    """
    at = points[..., :2]
    return ops.concatenate([at - boxes[..., :2], boxes[..., 2:] - at], axis=-1)


def decode(points, distances):
    """The boxes (..., 4) whose sides have these distances from the points: `decode(points, encode(points, b))` is b.

    >>> np.array(decode(np.array([2.0, 2.0]), np.array([2.0, 1.0, 3.0, 1.0]))).tolist()
    [0.0, 1.0, 5.0, 3.0]
    """
    at = points[..., :2]
    return ops.concatenate([at - distances[..., :2], at + distances[..., 2:]], axis=-1)
