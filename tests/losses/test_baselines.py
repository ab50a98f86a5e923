"""The baselines against Keras's own losses where those are right, and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.losses import baselines

LOGITS = np.random.default_rng(0).normal(size=(8, 5)) + 2
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2])


def test_hinge_is_kerass_where_some_other_logit_is_positive():
    assert (np.sort(LOGITS, axis=1)[:, -2] > 0).all()
    expected = keras.losses.categorical_hinge(np.eye(5)[LABELS], LOGITS)
    np.testing.assert_allclose(baselines.hinge(LABELS, LOGITS), expected, rtol=1e-6)


def test_hinge_does_not_care_for_a_constant():
    """Keras's takes 0 for the largest other logit where all are negative, which is another loss."""
    np.testing.assert_allclose(baselines.hinge(LABELS, LOGITS - 9), baselines.hinge(LABELS, LOGITS), rtol=1e-12)


def test_focal_is_kerass():
    expected = keras.losses.categorical_focal_crossentropy(
        np.eye(5)[LABELS], LOGITS, alpha=1.0, gamma=1.7, from_logits=True
    )
    np.testing.assert_allclose(baselines.focal(LABELS, LOGITS, 1.7), expected, rtol=1e-6)


def test_focal_of_gamma_zero_is_cross_entropy():
    outputs = {"logits": LOGITS}
    np.testing.assert_allclose(losses.FocalLoss(0.0)(LABELS, outputs), losses.CrossEntropyLoss()(LABELS, outputs))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_has_a_gradient_where_it_is_very_wrong_and_none_where_certain(gamma):
    logits = tf.constant([[0.0, 60.0], [200.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = baselines.focal(np.array([0, 0]), logits, gamma)
    gradient = tape.gradient(values, logits).numpy()
    np.testing.assert_allclose(values, [60.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(gradient[0], [-1.0, 1.0], atol=1e-5)
    np.testing.assert_allclose(gradient[1], 0, atol=1e-12)


def test_class_balanced_weights_by_hand():
    """β = 0.5: effective numbers 1, 1.5, 2 (1 - 0.5^n for n large)."""
    weights = baselines.class_balanced_weights([1, 2, 1000], beta=0.5)
    inverse = np.array([1, 1 / 1.5, 1 / 2])
    np.testing.assert_allclose(weights, inverse / inverse.sum() * 3)
    np.testing.assert_allclose(baselines.class_balanced_weights([1, 20, 300], beta=0.0), 1)
    inverse = 1 / np.array([1, 20, 300])
    almost = baselines.class_balanced_weights([1, 20, 300], beta=1 - 1e-9)
    np.testing.assert_allclose(almost, inverse / inverse.mean(), rtol=1e-5)


def test_class_balanced_focal():
    counts = [500, 100, 20, 5, 1]
    loss = losses.ClassBalancedFocalLoss(counts, beta=0.99, gamma=2.0)
    labels = np.where(np.arange(8) == 7, NEGATIVE, LABELS)
    each = baselines.class_balanced_weights(counts, 0.99)[LABELS] * baselines.focal(LABELS, LOGITS, 2.0)
    np.testing.assert_allclose(loss(labels, {"logits": LOGITS}), np.mean(each[:7]), rtol=1e-9)
    with_background = {"logits": np.concatenate([LOGITS, LOGITS[:, :1]], axis=1)}
    assert np.isfinite(loss(labels, with_background))
    with pytest.raises(ValueError, match="as many logits as `counts`, 5"):
        loss(labels, {"logits": LOGITS[:, :4]})


def test_what_constructors_refuse():
    for make in (
        lambda: losses.FocalLoss(-1.0),
        lambda: losses.ClassBalancedFocalLoss([0, 5]),
        lambda: losses.ClassBalancedFocalLoss([]),
        lambda: losses.ClassBalancedFocalLoss([5, 5], beta=1.0),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()


def test_negatives_count_for_nothing():
    labels = np.where(np.arange(8) % 2, np.array([NEGATIVE, IGNORE] * 4), LABELS)
    for loss in (losses.HingeLoss(), losses.FocalLoss(2.0)):
        expected = loss(LABELS[::2], {"logits": LOGITS[::2]})
        np.testing.assert_allclose(loss(labels, {"logits": LOGITS}), expected, rtol=1e-12)
