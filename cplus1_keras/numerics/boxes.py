"""Boxes (x1, y1, x2, y2) in pixels, continuous: areas are (x2 - x1)(y2 - y1). Shapes (..., 4) broadcast to one another.

Of each box of (M, 4) with each of (N, 4): `iou(ops.expand_dims(a, 1), b)`, shape (M, N).
"""

import math

from keras import ops

from cplus1_keras.numerics.arithmetic import divide

LARGEST_GROWTH = math.log(1000 / 16)
"""No side grows more than this by a delta, so that areas stay finite."""


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


def to_deltas(anchors, boxes, stds=(1.0, 1.0, 1.0, 1.0)):
    """What moves anchors (..., 4) onto boxes: shifts in sides of the anchor, and logarithms of how its sides grow.

        ((x - x_a) / w_a, (y - y_a) / h_a, log(w / w_a), log(h / h_a)) / stds,   (x, y) being centres

    Sides count as at least 1e-6 pixels.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015, Eq 2.

    >>> np.array(to_deltas(np.array([0.0, 0.0, 4.0, 2.0]), np.array([2.0, 0.0, 6.0, 2.0]))).tolist()
    [0.5, 0.0, 0.0, 0.0]
    """
    (center, side), (other, goal) = _center_and_side(anchors), _center_and_side(boxes)
    side, goal = ops.maximum(side, 1e-6), ops.maximum(goal, 1e-6)
    found = ops.concatenate([(other - center) / side, ops.log(goal / side)], axis=-1)
    return found / ops.convert_to_tensor(stds, found.dtype)


def from_deltas(anchors, deltas, stds=(1.0, 1.0, 1.0, 1.0)):
    """The boxes (..., 4) that anchors become by deltas: `from_deltas(a, to_deltas(a, b))` is b, up to a growth of 62.5.

    >>> np.array(from_deltas(np.array([0.0, 0.0, 4.0, 2.0]), np.array([0.5, 0.0, 0.0, 0.0]))).tolist()
    [2.0, 0.0, 6.0, 2.0]
    """
    deltas = deltas * ops.convert_to_tensor(stds, deltas.dtype)
    center, side = _center_and_side(anchors)
    center = center + deltas[..., :2] * side
    half = side * ops.exp(ops.minimum(deltas[..., 2:], LARGEST_GROWTH)) / 2
    return ops.concatenate([center - half, center + half], axis=-1)


def _center_and_side(boxes):
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def clip(boxes, size):
    """Boxes (..., 4) cut at an image, whose `size` is (2,): height, width.

    >>> np.array(clip(np.array([-1.0, 2.0, 9.0, 9.0]), np.array([4.0, 8.0]))).tolist()
    [0.0, 2.0, 8.0, 4.0]
    """
    size = ops.cast(size, boxes.dtype)
    return ops.clip(boxes, 0.0, ops.stack([size[1], size[0], size[1], size[0]]))


def sample_masks(masks, frames, regions, size):
    """Masks that fill boxes of their own, `frames`, at the middles of cells of other boxes; 0 outside of the frames.

    Bilinear between the middles of the masks' cells, and beyond the outer ones as there.

    Args:
        masks: (..., S, S).
        frames, regions: (..., 4).
        size: Cells (height, width) of each region.

    Returns:
        (..., height, width).

    >>> frame, image = np.array([1.0, 0.0, 3.0, 2.0]), np.array([0.0, 0.0, 4.0, 2.0])
    >>> np.array(sample_masks(np.array([[1.0, 0.5], [0.0, 1.0]]), frame, image, (2, 4))).tolist()
    [[0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    side = masks.shape[-1]
    rows, columns = (_shares(frames, regions, axis, number, side) for axis, number in zip((1, 0), size, strict=True))
    return ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, -1, -2))


def _shares(frames, regions, axis, number, side):
    """How much each of `number` cells of regions takes of each of `side` cells of frames, (..., number, side)."""
    low, high = (ops.expand_dims(regions[..., k], -1) for k in (axis, axis + 2))
    start, end = (ops.expand_dims(frames[..., k], -1) for k in (axis, axis + 2))
    middles = (ops.cast(ops.arange(number, dtype="int32"), low.dtype) + 0.5) / ops.cast(number, low.dtype)
    at = divide(low + (high - low) * middles - start, end - start) * side
    inside = ops.cast((at >= 0) & (at <= side) & (end > start), low.dtype)
    at = ops.expand_dims(ops.clip(at - 0.5, 0, side - 1), -1)
    share = ops.maximum(1 - ops.abs(at - ops.cast(ops.arange(side, dtype="int32"), low.dtype)), 0)
    return share * ops.expand_dims(inside, -1)
