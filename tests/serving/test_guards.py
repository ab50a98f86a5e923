"""Where a bad image begins: the ends of the ranges of pixels, and what stands in for none."""

import warnings

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="serving is TensorFlow's part")
if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras.serving import guards  # noqa: E402  needs TensorFlow


def image(value):
    """2 x 3 pixels of 3 channels, of which one has this value and the others 7."""
    pixels = np.full((2, 3, 3), 7.0, "float32")
    pixels[1, 2, 0] = value
    return pixels


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (-255.0, True),
        (-255.1, False),
        (510.0, True),
        (510.1, False),
        (np.nan, False),
        (np.inf, False),
        (-np.inf, False),
    ],
)
def test_images_far_outside_the_range_become_black(value, whole):
    given = np.stack([image(0), image(value), image(1)])
    images, valid = guards.only_valid(tf.constant(given))
    assert valid.numpy().tolist() == [True, whole, True]
    if not whole:
        given[1] = 0
    np.testing.assert_array_equal(images, given)


class Counted(keras.layers.Layer):
    """Keeps the shapes that it is called with; twice the pixels in training, which it falls back on."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def call(self, x, training=True):
        self.shapes.append(tuple(x.shape))
        return 2 * x if training else x


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_black_image_stands_in_for_none(count):
    layer, given = Counted(), tf.ones((count, 2, 3, 1))

    def model(images, training):
        return {"half": tf.cast(layer(images, training=training), tf.float16), "whole": tf.ones(len(images), tf.int32)}

    found = guards.infer(model, given)
    assert layer.shapes == [(max(count, 1), 2, 3, 1)]
    assert (found["half"].shape, found["whole"].shape) == ((count, 2, 3, 1), (count,))
    assert (found["half"].dtype, found["whole"].dtype) == (tf.float32, tf.int32)
    np.testing.assert_array_equal(found["half"], given)


def test_scores_are_finite_and_lowest_where_not_valid():
    score, valid = tf.constant([np.inf, -np.inf, 1.5, 1.5]), tf.constant([True, True, True, False])
    most = float(np.finfo("float32").max)
    assert guards.finite(score, valid).numpy().tolist() == [most, -most, 1.5, -most]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "told"),
    [
        (0, 1, "float32", "scaled to 0..1"),
        (0, 1.01, "float32", None),
        (0, 1, "int32", None),
        (-1, 1, "float64", "scaled to 0..1"),
        (0, 0, "float32", None),
        (-1, 255, "float32", None),
        (-1.5, 255, "float32", r"from -1\.5 to 255;"),
        (0, 256, "float32", None),
        (0, 256.5, "float32", r"from 0 to 256\.5; .*Divide those of 16 bits by 257"),
        (0, 300, "uint16", "from 0 to 300"),
        (0, np.nan, "float32", None),
        (0, np.inf, "float32", None),
    ],
)
def test_ranges_that_are_warned_of(low, high, dtype, told):
    images = np.linspace(low, high, 12).astype(dtype) if np.isfinite(high) else np.array([low, 200, high], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if told is None:
            guards.warn_of_range(images)
            return
    with pytest.warns(UserWarning, match=told):
        guards.warn_of_range(images)


def test_what_is_not_finite_does_not_hide_the_range():
    nan, inf = np.nan, np.inf
    for given, told in (([nan, 0.25, 1], "scaled"), ([inf, 0, 900], "from 0 to 900"), ([-inf, -9], "to -9")):
        with pytest.warns(UserWarning, match=told):
            guards.warn_of_range(np.array(given, "float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guards.warn_of_range(np.zeros((0, 4, 4, 1), "float32"))
        guards.warn_of_range(np.array([1], "uint8"))


def test_the_line_that_is_named_is_the_callers():
    def predict(**level):
        guards.warn_of_range(np.array([9000.0]), **level)

    def answer():
        predict(stacklevel=3)

    lines = []
    for call in (predict, answer):
        with pytest.warns(UserWarning, match="9000") as found:
            call()
        assert found[0].filename == __file__
        lines.append(found[0].lineno - test_the_line_that_is_named_is_the_callers.__code__.co_firstlineno)
    assert lines == [10, 10]
