"""Overlaps of boxes against counting the cells of a grid, and the way to distances and back."""

import numpy as np
from keras import ops

from cplus1_keras.numerics import boxes

RANDOM = np.random.default_rng(0)
SIDE = 12


def some(count):
    low = RANDOM.integers(0, SIDE - 1, (count, 2))
    return np.concatenate([low, low + RANDOM.integers(1, SIDE - low)], axis=-1).astype("float64")


def painted(box):
    grid = np.zeros((SIDE, SIDE), bool)
    x1, y1, x2, y2 = box.astype(int)
    grid[y1:y2, x1:x2] = True
    return grid


def by_counting(a, b):
    one, other = painted(a), painted(b)
    union = (one | other).sum()
    hull = painted(np.concatenate([np.minimum(a, b)[:2], np.maximum(a, b)[2:]])).sum()
    iou = (one & other).sum() / union
    return one.sum(), iou, iou - (hull - union) / hull


def test_overlaps_by_counting_cells():
    first, second = some(40), some(40)
    expected = np.array([by_counting(a, b) for a, b in zip(first, second, strict=True)])
    assert (expected[:, 1] == 0).any()
    assert (expected[:, 2] < -0.3).any()
    np.testing.assert_allclose(boxes.area(first), expected[:, 0])
    np.testing.assert_allclose(boxes.iou(first, second), expected[:, 1])
    np.testing.assert_allclose(boxes.giou(first, second), expected[:, 2])


def test_all_pairs_by_broadcasting():
    first, second = some(5), some(3)
    pairs = boxes.iou(ops.expand_dims(first, 1), second)
    np.testing.assert_allclose(pairs, [[by_counting(a, b)[1] for b in second] for a in first])


def test_laws():
    every = some(30)
    np.testing.assert_allclose(boxes.iou(every, every), 1)
    np.testing.assert_allclose(boxes.giou(every, every), 1)
    far = np.array([[0.0, 0, 1, 1], [1e6, 0, 1e6 + 1, 1]])
    np.testing.assert_allclose(boxes.giou(far[0], far[1]), -1, atol=1e-5)
    inverted = np.array([3.0, 3.0, 1.0, 5.0])
    assert float(boxes.area(inverted)) == 0
    assert float(boxes.iou(inverted, inverted)) == float(boxes.giou(inverted, inverted)) == 0  # 0 / 0


def test_distances_and_back():
    points, every = np.array([[3.0, 4.0, 8.0]]), some(20)
    distances = boxes.encode(points, every)
    np.testing.assert_allclose(distances[:, 0], 3 - every[:, 0])
    np.testing.assert_allclose(distances[:, 3], every[:, 3] - 4)
    np.testing.assert_allclose(boxes.decode(points, distances), every)
