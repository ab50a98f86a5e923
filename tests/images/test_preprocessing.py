"""The middle of an image: of the image that PIL shrinks, in memory that a long thin image does not fill."""

import numpy as np
import pytest
from PIL import Image

tf = pytest.importorskip("tensorflow", reason="images are read by TensorFlow")

from cplus1_keras.images import preprocess, shorten  # noqa: E402  needs TensorFlow

NOISE = np.random.default_rng(0).integers(0, 256, (61, 97, 3)).astype("uint8")


@pytest.mark.parametrize("shape", [(61, 97), (97, 61), (61, 61), (12, 97), (7, 9), (16, 3)])
@pytest.mark.parametrize(("short_side", "size"), [(16, 16), (16, 11), (9, (4, 9))])
def test_the_middle_is_that_of_the_whole_image(shape, short_side, size):
    image = np.resize(NOISE, (*shape, 3))
    height, width = (size, size) if isinstance(size, int) else size
    whole = shorten(image, short_side).numpy()
    assert min(whole.shape[:2]) == short_side
    drawn = Image.fromarray(image).resize(whole.shape[1::-1], Image.Resampling.BILINEAR)
    assert np.abs(whole - np.asarray(drawn)).max() < 1.5  # PIL rounds twice
    expected = tf.image.resize_with_crop_or_pad(whole, height, width)
    for given in (image, image.astype("float32")):
        np.testing.assert_allclose(preprocess(given, size, short_side=short_side), expected, atol=2e-3)
    both = preprocess(np.stack([image, image[::-1]]), size, short_side=short_side)
    assert both.shape == (2, height, width, 3)
    np.testing.assert_allclose(both[0], expected, atol=2e-3)
    grey = preprocess(image, size, 1, short_side)
    np.testing.assert_allclose(grey, tf.image.rgb_to_grayscale(expected), atol=2e-3)


def test_what_lies_outside_the_middle_is_not_computed():
    """Whole it would have 2^24 * 256^2 pixels."""
    line = np.zeros((1, 2**24, 1), "uint8")
    line[0, 2**23 - 2 : 2**23 + 2] = 200
    np.testing.assert_allclose(preprocess(line, 224, short_side=256), 200, atol=1e-3)
    assert preprocess(line.transpose(1, 0, 2), 224, 3, 256).shape == (224, 224, 3)


def test_what_cannot_be_cut_is_told():
    for size in (17, (4, 17), None):
        with pytest.raises(ValueError, match=r"`short_side` must be no less than the `size`.*short_side=16"):
            preprocess(NOISE, size, short_side=16)
