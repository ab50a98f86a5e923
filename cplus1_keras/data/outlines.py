"""Masks of objects, small and in their boxes: what training needs, whatever the size of the image."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

SIDE = 56
"""Cells of a mask along each side of its box; a mask head predicts 28."""

BYTES = SIDE * SIDE // 8


class Outline(NamedTuple):
    """An object's mask: `runs`, COCO's compressed run lengths in its image, and `mask`, (BYTES,) bits in its box."""

    runs: bytes
    mask: np.ndarray


def into_box(polygons, box):
    """Polygons [x1, y1, x2, y2, ...] in pixels as they lie in a box that is SIDE x SIDE.

    >>> into_box([[2, 2, 6, 2, 6, 4]], (2, 2, 6, 4))
    [[0.0, 0.0, 56.0, 0.0, 56.0, 56.0]]
    """
    low, side = np.array(box[:2], "float64"), np.subtract(box[2:], box[:2], dtype="float64")
    points = [np.asarray(polygon, "float64").reshape(-1, 2) for polygon in polygons if len(polygon) >= 6]
    return [((own - low) / side * SIDE).reshape(-1).tolist() for own in points] or [[0.0] * 6]


def cut(mask, box):
    """Of a mask (H, W) of an image what lies in a box, at the middles of SIDE x SIDE cells.

    >>> cut(np.eye(4), (0, 0, 4, 4)).sum()
    np.float64(784.0)
    """
    middles = (np.arange(SIDE) + 0.5) / SIDE
    rows, columns = (
        np.clip((box[k] + middles * (box[k + 2] - box[k])).astype(int), 0, mask.shape[1 - k] - 1) for k in (1, 0)
    )
    return mask[rows[:, None], columns]


def pack(mask):
    """A mask (SIDE, SIDE) of 0 and 1 as bits, (BYTES,) uint8.

    >>> unpack(tf.constant(pack(np.eye(SIDE)))[None]).numpy()[0, 3, :5]
    array([0, 0, 0, 1, 0], dtype=uint8)
    """
    return np.packbits(np.asarray(mask, "uint8").reshape(-1))


def unpack(bits):
    """Masks (M, SIDE, SIDE) uint8 of bits (M, BYTES), in a graph."""
    places = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
    return tf.reshape(tf.bitwise.right_shift(bits[..., None], places) & 1, [-1, SIDE, SIDE])
