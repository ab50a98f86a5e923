"""The terms on the features' length, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

FEATURES = np.array([[3.0, 4.0], [6.0, 8.0], [3.0, 4.0], [5.0, 12.0], [0.0, 1.0]])  # lengths 5, 10, 5, 13, 1
LABELS = np.array([0, 7, NEGATIVE, UNKNOWN, IGNORE])


@pytest.mark.parametrize(
    ("loss", "values"),
    [
        (losses.MagnitudeLoss(7.0), [4, 0, 25, 0, 0]),
        (losses.SymmetricMagnitudeLoss(7.0), [4, 9, 25, 0, 0]),
        (losses.RingLoss(7.0), [4, 9, 4, 0, 0]),
    ],
)
def test_by_hand(loss, values):
    np.testing.assert_allclose(loss.values(tf.constant(LABELS, "int32"), {"features": tf.constant(FEATURES)}), values)
    assert float(loss(LABELS, {"features": FEATURES})) == pytest.approx(sum(values) / 3)


@pytest.mark.parametrize("kind", [losses.MagnitudeLoss, losses.SymmetricMagnitudeLoss, losses.RingLoss])
def test_zero_features_have_a_gradient_of_zero(kind):
    features = tf.zeros((3, 2))
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = kind(7.0)(np.array([0, 1, NEGATIVE]), {"features": features})
    np.testing.assert_array_equal(tape.gradient(value, features), 0)
    assert float(value) == pytest.approx(49 if kind is losses.RingLoss else 49 * 2 / 3)


@pytest.mark.parametrize("kind", [losses.MagnitudeLoss, losses.SymmetricMagnitudeLoss, losses.RingLoss])
@pytest.mark.parametrize("length", [0.0, -1.0, float("nan")])
def test_a_length_must_be_positive(kind, length):
    with pytest.raises(ValueError, match="must be > 0"):
        kind(length)
