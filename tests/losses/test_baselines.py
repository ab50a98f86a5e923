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
        lambda: losses.AnchorLoss(-0.1),
        lambda: losses.AnchorLoss(slack=1.5),
        lambda: losses.GuidedComplementEntropyLoss(-1.0),
        lambda: losses.GuidedComplementEntropyLoss()(np.array([0]), {"logits": np.zeros((1, 2))}),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()


def test_negatives_count_for_nothing():
    labels = np.where(np.arange(8) % 2, np.array([NEGATIVE, IGNORE] * 4), LABELS)
    for loss in (
        losses.HingeLoss(),
        losses.FocalLoss(2.0),
        losses.AnchorLoss(),
        losses.GuidedComplementEntropyLoss(),
    ):
        expected = loss(LABELS[::2], {"logits": LOGITS[::2]})
        np.testing.assert_allclose(loss(labels, {"logits": LOGITS}), expected, rtol=1e-12)


def anchor_loop(logits, label, gamma, slack):
    """Ryou et al. (2019), section 3, class by class."""
    q = 1 / (1 + np.exp(-logits))
    reference = max(q[label] - slack, 0)
    value = -np.log(q[label])
    for c in range(len(logits)):
        if c != label:
            value -= (1 + q[c] - reference) ** gamma * np.log(1 - q[c])
    return value


@pytest.mark.parametrize(("gamma", "slack"), [(0.5, 0.05), (2.0, 0.0), (1.3, 0.9)])
def test_anchor_loss_by_a_loop(gamma, slack):
    expected = [anchor_loop(row, label, gamma, slack) for row, label in zip(LOGITS, LABELS, strict=True)]
    np.testing.assert_allclose(baselines.anchor(LABELS, LOGITS, gamma, slack), expected, rtol=1e-10)
    mean = losses.AnchorLoss(gamma, slack)(LABELS, {"logits": LOGITS})
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-10)


def test_anchor_loss_of_gamma_zero_is_sigmoid_cross_entropy():
    each = keras.ops.binary_crossentropy(np.eye(5)[LABELS], LOGITS, from_logits=True)
    np.testing.assert_allclose(baselines.anchor(LABELS, LOGITS, gamma=0.0), np.sum(each, axis=1), rtol=1e-9)


def test_no_gradient_through_the_anchor():
    """That of the true logit is the sigmoid cross-entropy's, q_y - 1, whatever γ."""
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = baselines.anchor(LABELS, logits, 2.0)
    own = tape.gradient(values, logits).numpy()[np.arange(8), LABELS]
    np.testing.assert_allclose(own, 1 / (1 + np.exp(-LOGITS[np.arange(8), LABELS])) - 1, rtol=1e-9)


def complement_loop(logits, label, alpha):
    """H.-Y. Chen et al. (2019), section 3, class by class."""
    p = np.exp(logits) / np.exp(logits).sum()
    total = 0.0
    for c in range(len(p)):
        if c != label:
            total += p[c] / (1 - p[label]) * np.log(p[c] / (1 - p[label]))
    return p[label] ** alpha * total / np.log(len(p) - 1)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.5])
def test_guided_complement_entropy_by_a_loop(alpha):
    expected = [complement_loop(row, label, alpha) for row, label in zip(LOGITS, LABELS, strict=True)]
    np.testing.assert_allclose(baselines.guided_complement_entropy(LABELS, LOGITS, alpha), expected, rtol=1e-10)
    mean = losses.GuidedComplementEntropyLoss(alpha)(LABELS, {"logits": LOGITS})
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-10)


def test_guided_complement_entropy_is_least_where_sure_and_even():
    sure = np.array([[60.0, 0, 0, 0], [60.0, 50, 0, 0], [0.0, 60, 0, 0]])
    values = baselines.guided_complement_entropy(np.zeros(3, int), sure, 0.5)
    np.testing.assert_allclose(values, [-1, 0, 0], atol=1e-9)
