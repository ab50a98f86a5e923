"""RoIAlign against its definition, point by point in loops, and its gradient against differences."""

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras import layers

RANDOM = np.random.default_rng(0)
STRIDES = (4, 8, 16)


def pyramid(height, width, batch=2, channels=3):
    return [RANDOM.normal(size=(batch, -(-height // s), -(-width // s), channels)).astype("float32") for s in STRIDES]


def at(plane, y, x):
    """The value of a map at (y, x) in cells, the first cell's centre at 0: section 3 of Mask R-CNN."""
    height, width = plane.shape[:2]
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0 * plane[0, 0]
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    rows, columns = {int(y), min(int(y) + 1, height - 1)}, {int(x), min(int(x) + 1, width - 1)}
    shares = {(i, j): max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) for i in rows for j in columns}
    return sum(share * plane[place] for place, share in shares.items())


def reference(maps, region, image, size, sampling):
    x1, y1, x2, y2 = region.astype("float64")
    side = np.sqrt(max((x2 - x1) * (y2 - y1), 1e-12))
    level = int(np.clip(4 + np.floor(np.log2(side / 224) + 1e-6) - 2, 0, len(maps) - 1))
    stride, plane = STRIDES[level], maps[level][image].astype("float64")
    found = np.zeros((size, size, plane.shape[-1]))
    for i in range(size):
        for j in range(size):
            for a in range(sampling):
                for b in range(sampling):
                    y = y1 + (y2 - y1) * (i + (a + 0.5) / sampling) / size
                    x = x1 + (x2 - x1) * (j + (b + 0.5) / sampling) / size
                    found[i, j] += at(plane, y / stride - 0.5, x / stride - 0.5) / sampling**2
    return found


REGIONS = np.array(
    [
        [[0, 0, 20, 30], [3.3, 7.1, 110.9, 95.2], [0, 0, 340, 220], [17, 12, 17.5, 13]],
        [[-9, -30, 50, 60], [300, 180, 380, 260], [100, 20, 330, 239], [50, 50, 50, 50]],
    ],
    "float32",
)


@pytest.mark.parametrize(("size", "sampling"), [(7, 2), (3, 1), (2, 3)])
def test_it_is_the_definition(size, sampling):
    """Regions at borders, outside, larger than the image, of every level; maps whose sides are no multiples."""
    maps = pyramid(230, 345)
    found = np.array(layers.RoIAlign(size, STRIDES, sampling)([REGIONS, *maps]))
    for image in range(2):
        for row, region in enumerate(REGIONS[image]):
            expected = reference(maps, region, image, size, sampling)
            np.testing.assert_allclose(found[image, row], expected, atol=2e-5, err_msg=str(region))


@pytest.mark.parametrize(("side", "stride"), [(111, 4), (112, 8), (223, 8), (224, 16), (447, 16), (550, 16), (0, 4)])
def test_each_box_is_read_from_its_level(side, stride):
    maps = [np.full((1, 600 // s, 600 // s, 1), s, "float32") for s in STRIDES]
    region = np.array([[[0, 0, min(side, 500), side**2 / max(min(side, 500), 1)]]], "float32")
    assert float(ops.max(layers.RoIAlign(2, STRIDES)([region, *maps]))) == pytest.approx(stride)


def test_its_gradient_is_that_of_differences():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes TensorFlow's tape")
    import tensorflow as tf

    align, maps = layers.RoIAlign(3, STRIDES), [tf.constant(x) for x in pyramid(64, 96, channels=2)]
    upstream = RANDOM.normal(size=(2, 4, 3, 3, 2)).astype("float32")
    regions = tf.constant(REGIONS / 4)
    with tf.GradientTape() as tape:
        tape.watch([regions, *maps])
        value = tf.reduce_sum(align([regions, *maps]) * upstream)
    *gradients, none = tape.gradient(value, [*maps, regions])
    assert none is None
    for level, gradient in enumerate(gradients):
        step = RANDOM.normal(size=maps[level].shape).astype("float32")
        moved = [x + step if k == level else x for k, x in enumerate(maps)]
        # The layer is linear in its maps, so that a difference is the derivative.
        change = tf.reduce_sum((align([regions, *moved]) - align([regions, *maps])) * upstream)
        assert float(change) == pytest.approx(float(tf.reduce_sum(tf.convert_to_tensor(gradient) * step)), abs=1e-3)


def test_a_level_more_or_less_is_an_error():
    with pytest.raises(ValueError, match="twofold"):
        layers.RoIAlign(7, (4, 16))
    with pytest.raises(ValueError, match="3 strides"):
        layers.RoIAlign(7, STRIDES)([REGIONS, *pyramid(64, 64)[:2]])
