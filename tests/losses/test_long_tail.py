"""Losses for long tails against loops over the papers' formulas, and their limits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

CLASSES = 4
COUNTS = [900, 60, 30, 10]
SHARES = [0.9, 0.06, 0.03, 0.01]
LABELS = np.array([0, 3, NEGATIVE, 1, UNKNOWN, 2, IGNORE, 3])
LOGITS = np.random.default_rng(0).normal(size=(8, CLASSES)) * 2
BACKGROUND = np.random.default_rng(1).normal(size=(8, CLASSES + 1)) * 2
DRAWS = np.random.default_rng(2).random((8, CLASSES))
SEEN = np.array([500, 20, 4, 0, 80])


def mean_over(labels, value, counted):
    """The mean over the rows that count of `value(row, class)`, class C for a negative."""
    rows = [i for i, label in enumerate(labels) if counted(label)]
    return np.mean([value(i, labels[i] if labels[i] >= 0 else CLASSES) for i in rows])


def balanced(logits, counts):
    """Ren et al. (2020): n_y e^z_y / sum_j n_j e^z_j."""
    return lambda i, y: -np.log(counts[y] * np.exp(logits[i, y]) / np.sum(np.array(counts) * np.exp(logits[i])))


def equalized(logits, shares, threshold, probability=1.0, draws=None):
    """Tan et al. (2020): e^z_y / sum_k w_k e^z_k, class by class."""

    def value(i, y):
        total = 0.0
        for k in range(logits.shape[1]):
            beta = 1 if draws is None or draws[i, k] < probability else 0
            total += (1 - beta * (shares[k] < threshold) * (k != y)) * np.exp(logits[i, k])
        return -np.log(np.exp(logits[i, y]) / total)

    return value


def seesaw(logits, seen, p, q):
    """Wang et al. (2021): mitigation and compensation of each pair of classes."""

    def value(i, y):
        sigma = np.exp(logits[i]) / np.exp(logits[i]).sum()
        total = np.exp(logits[i, y])
        for j in range(logits.shape[1]):
            if j != y:
                own, other = max(seen[y], 1), max(seen[j], 1)
                m = 1 if own <= other else (other / own) ** p
                c = 1 if sigma[j] <= sigma[y] else (sigma[j] / sigma[y]) ** q
                total += m * c * np.exp(logits[i, j])
        return -np.log(np.exp(logits[i, y]) / total)

    return value


def known(label):
    return label >= 0


def seen_in_training(label):
    return label >= -1


def test_balanced_softmax_by_a_loop():
    value = losses.CrossEntropyLoss(losses.BalancedSoftmax(COUNTS))(LABELS, {"logits": LOGITS})
    np.testing.assert_allclose(value, mean_over(LABELS, balanced(LOGITS, COUNTS), known), rtol=1e-12)


def test_balanced_softmax_with_a_background_class():
    outputs = {"logits": BACKGROUND}
    for given, counts in (((*COUNTS, 4000), [*COUNTS, 4000]), (COUNTS, [*COUNTS, np.mean(COUNTS)])):
        value = losses.BackgroundCrossEntropyLoss(losses.BalancedSoftmax(given))(LABELS, outputs)
        expected = mean_over(LABELS, balanced(BACKGROUND, counts), seen_in_training)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    # A background's count is left out where there is no such class.
    value = losses.CrossEntropyLoss(losses.BalancedSoftmax((*COUNTS, 4000)))(LABELS, {"logits": LOGITS})
    np.testing.assert_allclose(value, mean_over(LABELS, balanced(LOGITS, COUNTS), known), rtol=1e-12)


def cosine_outputs(background=False, scale=30.0):
    head = heads.CosineHead(CLASSES, scale, background=background, dtype="float64")
    return head(np.random.default_rng(3).normal(size=(8, 5)))


@pytest.mark.parametrize("background", [False, True])
def test_ldam_by_a_loop(background):
    outputs = cosine_outputs(background)
    logits = outputs["logits"].numpy()
    largest = np.array([n**-0.25 for n in COUNTS]).max()

    def value(i, y):
        own = logits[i].copy()
        own[y] -= 30.0 * 0.4 * COUNTS[y] ** -0.25 / largest if y < CLASSES else 0
        return -np.log(np.exp(own[y]) / np.exp(own).sum())

    kind = losses.BackgroundCrossEntropyLoss if background else losses.CrossEntropyLoss
    result = kind(losses.LDAM(COUNTS, margin=0.4))(LABELS, outputs)
    expected = mean_over(LABELS, value, seen_in_training if background else known)
    np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_ldam_of_equal_counts_is_cosface():
    outputs = cosine_outputs()
    value = losses.CrossEntropyLoss(losses.LDAM([7] * CLASSES, 0.35))(LABELS, outputs)
    np.testing.assert_allclose(value, losses.CrossEntropyLoss(losses.CosFace(0.35))(LABELS, outputs), rtol=1e-12)


@pytest.mark.parametrize("probability", [1.0, 0.6])
def test_equalization_by_a_loop(probability):
    loss = losses.CrossEntropyLoss(losses.Equalization(SHARES, 0.05, probability))
    assert ("draws" in loss.reads) == (probability < 1)
    value = loss(LABELS, {"logits": LOGITS, "draws": DRAWS})
    draws = DRAWS if probability < 1 else None
    expected = mean_over(LABELS, equalized(LOGITS, SHARES, 0.05, probability, draws), known)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_equalization_with_a_background_class():
    """It is never left out, and its own rows push all classes."""
    loss = losses.BackgroundCrossEntropyLoss(losses.Equalization(SHARES, 0.05, 1.0))
    shares = [*SHARES, 1.0]

    def value(i, y):
        threshold = 0.05 if y < CLASSES else 0.0
        return equalized(BACKGROUND, shares, threshold)(i, y)

    expected = mean_over(LABELS, value, seen_in_training)
    np.testing.assert_allclose(loss(LABELS, {"logits": BACKGROUND}), expected, rtol=1e-12)


def test_a_class_that_is_left_out_gets_no_gradient():
    logits = tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.CrossEntropyLoss(losses.Equalization(SHARES, 0.05, 1.0))(LABELS, {"logits": logits})
    gradient = tape.gradient(value, logits).numpy()
    np.testing.assert_array_equal(gradient[[0, 3], 2:], 0)  # of classes 0 and 1
    assert (gradient[[1, 7], 3] < 0).all()  # rare ones are still pulled by their own samples
    assert (gradient[[1, 7], 0] > 0).all()


def test_sigmoid_equalization_by_a_loop():
    def value(i, y):
        total = 0.0
        for j in range(CLASSES):
            p = 1 / (1 + np.exp(-LOGITS[i, j]))
            weight = 1 - (y < CLASSES) * (SHARES[j] < 0.05) * (j != y)
            total -= weight * np.log(p if j == y else 1 - p)
        return total

    loss = losses.SigmoidEqualizationLoss(SHARES, 0.05)
    np.testing.assert_allclose(loss(LABELS, {"logits": LOGITS}), mean_over(LABELS, value, seen_in_training), rtol=1e-12)


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (0.0, 1.5), (0.5, 0.0)])
def test_seesaw_by_a_loop(p, q):
    value = losses.CrossEntropyLoss(losses.Seesaw(p, q))(LABELS, {"logits": LOGITS, "class_counts": SEEN})
    np.testing.assert_allclose(value, mean_over(LABELS, seesaw(LOGITS, SEEN, p, q), known), rtol=1e-12)
    outputs = {"logits": BACKGROUND, "class_counts": SEEN}
    value = losses.BackgroundCrossEntropyLoss(losses.Seesaw(p, q))(LABELS, outputs)
    expected = mean_over(LABELS, seesaw(BACKGROUND, SEEN, p, q), seen_in_training)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_no_gradient_through_the_factors_of_seesaw():
    """That of logit j is S_yj e^z_j / total, the factors being constants."""
    logits = tf.constant(LOGITS[:1])
    outputs = {"logits": logits, "class_counts": SEEN}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.CrossEntropyLoss(losses.Seesaw())(LABELS[:1], outputs)
    sigma = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    factors = np.minimum(1, (np.maximum(SEEN[:4], 1) / SEEN[0]) ** 0.8) * np.maximum(1, (sigma / sigma[0]) ** 2)
    parts = factors * np.exp(LOGITS[0])
    np.testing.assert_allclose(tape.gradient(value, logits)[0], parts / parts.sum() - np.eye(4)[0], rtol=1e-9)


@pytest.mark.parametrize(
    "margin",
    [
        losses.BalancedSoftmax([5] * CLASSES),
        losses.LDAM(COUNTS, 0.0),
        losses.Equalization(SHARES, threshold=0.0, probability=1.0),
        losses.Seesaw(0.0, 0.0),
        losses.Seesaw(0.8, 0.0),
    ],
    ids=repr,
)
def test_without_a_tail_they_are_cross_entropy(margin):
    outputs = {**cosine_outputs(background=True), "class_counts": np.full(5, 9)}
    for kind in (losses.CrossEntropyLoss, losses.BackgroundCrossEntropyLoss, losses.EntropicOpenSetLoss):
        given = outputs | {"logits": outputs["logits"][:, : CLASSES + (kind is losses.BackgroundCrossEntropyLoss)]}
        np.testing.assert_allclose(kind(margin)(LABELS, given), kind()(LABELS, given), rtol=1e-12)


def test_what_constructors_refuse():
    for make in (
        lambda: losses.BalancedSoftmax([5, 0]),
        lambda: losses.BalancedSoftmax([]),
        lambda: losses.LDAM([5, 5], margin=-0.1),
        lambda: losses.Equalization([0.5, 1.5]),
        lambda: losses.Equalization([0.5, 0.5], threshold=2),
        lambda: losses.Equalization([0.5, 0.5], probability=0.0),
        lambda: losses.Seesaw(p=-1),
        lambda: losses.Seesaw(q=-1),
        lambda: losses.SigmoidEqualizationLoss([]),
        lambda: losses.CrossEntropyLoss(losses.BalancedSoftmax(COUNTS))(LABELS, {"logits": LOGITS[:, :2]}),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()


def test_label_smoothing_wants_all_classes():
    for margin in (losses.Equalization(SHARES), losses.GrowingMargin(losses.Equalization(SHARES))):
        for make in (
            lambda margin=margin: losses.CrossEntropyLoss(margin, smoothing=0.1),
            lambda margin=margin: losses.CrossEntropyLoss(margin).smooth(0.1),
        ):
            with pytest.raises(ValueError, match="leaves classes out"):
                make()


def model_of(loss, *more):
    inputs = keras.Input((5,))
    outputs = heads.LinearHead(CLASSES)(inputs)
    for layer in more:
        outputs = layer(outputs)
    model = OpenSetModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def test_class_counts_of_a_training():
    counts = layers.ClassCounts(CLASSES)
    model = model_of(losses.CrossEntropyLoss(losses.Seesaw()), counts)
    x = np.random.default_rng(4).normal(size=(8, 5)).astype("float32")
    model.fit(x, LABELS, batch_size=4, epochs=3, verbose=0)
    np.testing.assert_array_equal(counts.counts, [3, 3, 3, 6, 3])
    model.evaluate(x, LABELS, verbose=0)
    np.testing.assert_array_equal(counts.counts, [3, 3, 3, 6, 3])


def test_pixels_count_too():
    counts = layers.ClassCounts(2)
    outputs = {"logits": np.zeros((1, 2, 2, 2), "float32")}
    counts.update(np.array([[[0, 1], [1, NEGATIVE]]]), counts(outputs))
    np.testing.assert_array_equal(counts.counts, [1, 2, 1])


def test_draws_differ_by_step_and_go_on_where_they_were():
    outputs = {"logits": np.zeros((3, 4), "float32")}
    one, other = layers.UniformDraws(5), layers.UniformDraws(5)
    first, second = (one.provide(outputs)["draws"].numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    assert float(tf.reduce_min(first)) >= 0
    assert float(tf.reduce_max(first)) < 1
    np.testing.assert_array_equal(other.provide(outputs)["draws"], first)
    assert not np.array_equal(layers.UniformDraws(6).provide(outputs)["draws"], first)
    other.generator.state.assign(one.generator.state)  # which `Checkpoint` keeps
    np.testing.assert_array_equal(other.provide(outputs)["draws"], one.provide(outputs)["draws"])
    model = model_of(losses.CrossEntropyLoss(losses.Equalization(SHARES, 0.05)), one)
    assert any(variable is one.generator.state for variable in model.non_trainable_variables + model.variables)


def test_layers_come_back_from_their_configs():
    for layer in (layers.ClassCounts(3, prefix="roi1_"), layers.UniformDraws(7)):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
