"""Which box each point of FCOS belongs to, against loops written from the paper, and what becomes of odd boxes."""

import keras
import numpy as np
import pytest

from cplus1_keras import layers
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

RANDOM = np.random.default_rng(0)


def maps(strides, height, width, batch=1):
    return [np.zeros((batch, -(-height // s), -(-width // s), 2), "float32") for s in strides]


def assign(layer, boxes, labels, size=(90, 70)):
    """What the layer gives for lists of boxes and labels, one for each image."""
    boxes, labels = np.array(boxes, "float32"), np.array(labels)
    points = layer(maps(layer.strides, *size, batch=len(boxes)))
    given = {"points": points, "boxes": boxes, "box_labels": labels}
    found = layers.complete([layer], given, training=True)
    return {name: np.array(found[name]) for name in ("points", "labels", "box_targets", "centerness_targets")}


def by_loops(boxes, labels, strides, ranges, radius, height, width):
    """Tian et al. (2019), sections 3.1 to 3.3, point by point and box by box, and the package's labels of no class."""
    rows = []
    for stride, (least, largest) in zip(strides, ranges, strict=True):
        for row in range(-(-height // stride)):
            for column in range(-(-width // stride)):
                x, y = stride // 2 + column * stride, stride // 2 + row * stride
                best, inside_of = None, set()
                for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
                    sides = x - x1, y - y1, x2 - x, y2 - y
                    if min(sides) <= 0:
                        continue
                    inside_of.add(label)
                    if label < 0 or not least <= max(sides) <= largest:
                        continue
                    off = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                    if radius is not None and off >= radius * stride:
                        continue
                    if best is None or (x2 - x1) * (y2 - y1) < best[0]:
                        best = (x2 - x1) * (y2 - y1), label, sides
                if best is None:
                    label = next((none for none in (IGNORE, UNKNOWN) if none in inside_of), NEGATIVE)
                    rows.append((label, (0, 0, 0, 0), 0, (x, y, stride)))
                else:
                    left, top, right, bottom = best[2]
                    ratio = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
                    rows.append((best[1], best[2], ratio**0.5, (x, y, stride)))
    return [np.array(column, "float32") for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("strides", "ranges", "radius"),
    [((8, 16, 32), None, 1.5), ((8, 16, 32), None, None), ((4, 8), ((-1, 20), (12, 40)), 2.5), ((16,), None, 1.0)],
)
def test_points_against_loops(strides, ranges, radius):
    layer = layers.FCOSPoints(strides, ranges, radius)
    height, width = 90, 70  # odd multiples of no stride
    random = np.random.default_rng(1)
    boxes = random.uniform(-5, 60, (9, 9, 4)).astype("float32")
    boxes[..., 2:] = boxes[..., :2] + random.choice([6, 15, 40, 63, 90], (9, 9, 2))
    boxes[:2] = np.round(boxes[:2] / 4) * 4  # sides at points, and ties at the limits of the ranges
    labels = random.choice([0, 1, 2, 3, 4, NEGATIVE, UNKNOWN, IGNORE], (9, 9), p=[0.14] * 5 + [0.1] * 3)
    boxes[3, 5:], labels[3, 5:] = 0, IGNORE  # padding
    boxes[4], labels[4] = 0, IGNORE  # an image without a box
    found, seen = assign(layer, boxes, labels, (height, width)), set()
    for image in range(len(boxes)):
        expected = by_loops(boxes[image], labels[image], strides, layer.regress_ranges, radius, height, width)
        np.testing.assert_array_equal(found["labels"][image], expected[0])
        np.testing.assert_allclose(found["box_targets"][image], expected[1], atol=1e-4)
        np.testing.assert_allclose(found["centerness_targets"][image], expected[2], atol=1e-5)
        np.testing.assert_array_equal(found["points"][image], expected[3])
        seen |= set(expected[0])
    assert seen > {NEGATIVE, UNKNOWN, IGNORE}
    assert len(seen) > 5


def test_the_published_ranges():
    ranges = layers.FCOSPoints((8, 16, 32, 64, 128)).regress_ranges
    assert ranges == ((-1, 64), (64, 128), (128, 256), (256, 512), (512, float("inf")))
    assert layers.FCOSPoints((16,)).regress_ranges == ((-1, float("inf")),)


def test_a_point_as_far_as_the_limit_belongs_to_both_levels():
    """The paper: a location is negative if the distance is larger than m_i or smaller than m_(i-1)."""
    found = assign(layers.FCOSPoints((8, 16), ((-1, 20), (20, 99)), None), [[[0, 0, 24, 16]]], [[3]], (16, 32))
    fine, coarse = found["labels"][0, :8].reshape(2, 4), found["labels"][0, 8:]
    assert fine[:, 0].tolist() == [3, 3]  # x = 4: 20 to the right side
    assert coarse[0] == NEGATIVE  # x = 8: 16 is too near for it
    found = assign(layers.FCOSPoints((8, 16), ((-1, 19), (16, 99)), None), [[[0, 0, 24, 16]]], [[3]], (16, 32))
    assert found["labels"][0, 0] == NEGATIVE
    assert found["labels"][0, 8] == 3


def test_smallest_box_wins_and_other_labels_claim_nothing():
    layer = layers.FCOSPoints((8,), center_radius=None)
    large, small, far = [0, 0, 64, 64], [8, 8, 24, 24], [40, 40, 64, 64]

    def at(x, y, labels):
        found = assign(layer, [[large, small, far]], [labels], (64, 64))
        return found["labels"][0].reshape(8, 8)[y // 8, x // 8]

    assert at(16, 16, [0, 1, 2]) == 1
    assert at(16, 16, [0, NEGATIVE, 2]) == at(16, 16, [0, IGNORE, 2]) == at(16, 16, [0, UNKNOWN, 2]) == 0
    assert at(16, 16, [IGNORE, NEGATIVE, 2]) == IGNORE
    assert at(50, 50, [IGNORE, NEGATIVE, 2]) == 2
    assert at(0, 60, [NEGATIVE, 1, 2]) == NEGATIVE
    assert at(16, 16, [UNKNOWN, IGNORE, 2]) == IGNORE


def test_no_boxes_at_all():
    found = assign(layers.FCOSPoints((8,)), np.zeros((2, 0, 4)), np.zeros((2, 0), int), (16, 16))
    assert (found["labels"] == NEGATIVE).all()
    with pytest.raises(ValueError, match=r"needs `boxes`.*Missing: \['box_labels'\]"):
        layers.FCOSPoints((8,)).targets({"points": found["points"], "boxes": np.zeros((2, 0, 4))}, True)


def test_settings_are_checked_and_kept():
    for wrong in ({"strides": (16, 8)}, {"strides": ()}, {"strides": (8,), "regress_ranges": ((0, 1), (1, 2))}):
        with pytest.raises(ValueError, match="strides"):
            layers.FCOSPoints(**wrong)
    with pytest.raises(ValueError, match="center_radius"):
        layers.FCOSPoints((8,), center_radius=0)
    with pytest.raises(ValueError, match="as many maps, not 1"):
        layers.FCOSPoints((8, 16))(maps((8,), 16, 16))
    layer = layers.FCOSPoints((4, 8), ((-1, 20), (20, float("inf"))), None, name="own")
    assert layers.FCOSPoints.from_config(layer.get_config()).get_config() == layer.get_config()
    layer = layers.BoxOffsets((4, 8), "relu")
    assert layers.BoxOffsets.from_config(layer.get_config()).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="'exponential' or 'relu'"):
        layers.BoxOffsets((8,), "linear")


def test_offsets_by_hand():
    x = [np.array([[[[0.0, 1.0, -1.0, 2.0]]]], "float32"), np.full((1, 1, 2, 4), 0.5, "float32")]
    layer = layers.BoxOffsets((8, 16))
    layer(x)
    layer.scales.assign([2.0, -1.0])
    expected = [8 * np.exp([0.0, 2.0, -2.0, 4.0]), *[16 * np.exp([-0.5] * 4)] * 2]
    np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-6)
    layer = layers.BoxOffsets((8, 16), "relu")
    np.testing.assert_allclose(layer(x)[0], [[0, 8, 0, 16], *[[8] * 4] * 2])
    huge = layers.BoxOffsets((8,), dtype="mixed_float16")([np.full((1, 1, 1, 4), 6e4, "float16")])
    assert keras.backend.standardize_dtype(huge.dtype) == "float32"
    assert np.isfinite(huge).all()


@pytest.mark.parametrize(("size", "coarse"), [((7, 4), (4, 2)), ((7, 5), (3, 2)), ((8, 8), (4, 4))])
def test_repeated_maps_lie_over_the_finer(size, coarse):
    """Cell i of the finer map gets cell i // 2, or the last one where the coarser map was cut downwards."""
    x = RANDOM.normal(size=(2, *coarse, 3)).astype("float32")
    found = layers.RepeatLike()([x, np.zeros((2, *size, 3), "float32")])
    rows, columns = (np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(size, coarse, strict=True))
    np.testing.assert_array_equal(found, x[:, rows][:, :, columns])
