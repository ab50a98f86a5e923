"""The losses on label sets against golden numbers, by hand, and by the laws that every loss obeys."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE
from cplus1_keras.losses import multilabel as module

RATES = [0.1, 0.5, 0.9]
LABELS = np.array([[1, 0, 0], [0, IGNORE, 1], [1, 1, 1], [IGNORE, IGNORE, IGNORE], [0, 0, 0]])
LOGITS = np.random.default_rng(0).normal(size=LABELS.shape)


def evaluate(labels, logits, rates=RATES, sample_weight=None):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.WeightedSigmoidLoss(rates)(labels, {"logits": logits}, sample_weight)
    return [value, tape.gradient(value, logits)]


def test_golden(golden):
    case = golden("derived_sce_multilabel_hnc_f64")
    value, gradient = evaluate(case["labels"], case["scores"], case["p"])
    np.testing.assert_allclose(value, case["sce"], rtol=1e-10)
    np.testing.assert_allclose(gradient, case["sce_grad_scores"], rtol=1e-10, atol=1e-12)
    values = module.weighted_sigmoid(case["labels"].astype(int), tf.constant(case["scores"]), case["p"])
    np.testing.assert_allclose(np.mean(values, axis=-1), case["sce_per_image"], rtol=1e-10)


def test_by_hand():
    value, _ = evaluate(np.array([[1, 0, IGNORE]]), np.array([[-np.log(2), np.log(3), 5.0]]))
    expected = (np.exp(0.9) * np.log(3) + np.exp(0.5) * np.log(4)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_masked_is_absent():
    whole = evaluate(LABELS, LOGITS)
    keep = [0, 1, 2, 4]
    parts = evaluate(LABELS[keep], LOGITS[keep])
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-12)
    np.testing.assert_allclose(whole[1].numpy()[keep], parts[1], rtol=1e-12)
    np.testing.assert_array_equal(whole[1].numpy()[LABELS == IGNORE], 0)
    other = np.where(LABELS == IGNORE, 1e4, LOGITS)
    np.testing.assert_array_equal(evaluate(LABELS, other)[0], whole[0])


def test_nothing_annotated_is_exactly_zero():
    for result in evaluate(np.full((2, 3), IGNORE), LOGITS[:2]):
        np.testing.assert_array_equal(result, np.zeros(result.shape))


def test_sample_weight_is_of_images():
    value = evaluate(LABELS, LOGITS, sample_weight=np.array([2.0, 0.0, 1.0, 9.0, 3.0]))[0]
    values = module.weighted_sigmoid(LABELS, tf.constant(LOGITS), RATES)
    np.testing.assert_allclose(value, np.sum([[2], [0], [1], [9], [3]] * values) / np.sum(LABELS >= 0), rtol=1e-12)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_graph_is_eager(jit):
    compiled = tf.function(evaluate, jit_compile=jit)(tf.constant(LABELS), tf.constant(LOGITS))
    for a, b in zip(compiled, evaluate(LABELS, LOGITS), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_huge_logits_are_finite(dtype):
    logits = tf.cast(np.sign(LOGITS) * 1e4, dtype)
    value, gradient = evaluate(LABELS, logits)
    assert value.dtype == ("float64" if dtype == "float64" else "float32")
    assert np.isfinite(value)
    assert np.isfinite(tf.cast(gradient, "float32")).all()


def test_second_derivative_is_the_logistic_variance():
    logits = tf.constant([[0.3, -2.0, 1.0]], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(logits)
        gradient = evaluate(np.array([[1, 0, 1]]), logits)[1]
    p = 1 / (1 + np.exp(-logits))
    weight = np.exp([[0.9, 0.5, 0.1]]) / 3
    np.testing.assert_allclose(outer.gradient(gradient, logits), weight * p * (1 - p), rtol=1e-10)


def test_config_round_trip():
    loss = losses.WeightedSigmoidLoss(np.array(RATES, "float32"), name="sce").of("early_")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()


def test_wrong_input_is_refused():
    loss = losses.WeightedSigmoidLoss(RATES)
    for labels in (LABELS.astype("float32"), LABELS[:, :2], np.zeros(5, int)):
        with pytest.raises(ValueError, match="1 where a class is present"):
            loss(labels, {"logits": LOGITS})
    with pytest.raises(ValueError, match="3 `positive_rates`"):
        loss(LABELS[:, :2], {"logits": LOGITS[:, :2]})
    for rates in ([0.5, 1.5], [], [[0.5]], [float("nan")]):
        with pytest.raises(ValueError, match="`positive_rates`"):
            losses.WeightedSigmoidLoss(rates)


def asymmetric_reference(labels, logits, gamma_negative, gamma_positive, clip):
    """Ridnik et al. (2021), Eq 4-7, entry by entry; None where nothing is annotated."""
    values = []
    for y, z in zip(np.ravel(labels), np.ravel(logits), strict=True):
        p = 1 / (1 + math.exp(-z))
        shifted = max(p - clip, 0.0)
        if y in (0, 1):
            present = (1 - p) ** gamma_positive * math.log(p)
            values.append(-(present if y else shifted**gamma_negative * math.log(1 - shifted)))
    return values


SETTINGS = [(4.0, 0.0, 0.05), (4.0, 1.0, 0.0), (0.5, 0.5, 0.2), (0.0, 3.0, 0.3)]


@pytest.mark.parametrize("settings", SETTINGS)
def test_asymmetric_is_its_equations(settings):
    loss = losses.AsymmetricLoss(*settings)
    expected = np.mean(asymmetric_reference(LABELS, LOGITS, *settings))
    np.testing.assert_allclose(loss(LABELS, {"logits": LOGITS}), expected, rtol=1e-12)
    direction, step, logits = np.random.default_rng(1).normal(size=LOGITS.shape), 1e-6, tf.constant(LOGITS)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(LABELS, {"logits": logits})
    ahead, behind = (asymmetric_reference(LABELS, LOGITS + s * direction, *settings) for s in (step, -step))
    difference = (np.mean(ahead) - np.mean(behind)) / (2 * step)
    np.testing.assert_allclose(np.sum(tape.gradient(value, logits) * direction), difference, rtol=1e-6)


def test_binary_cross_entropy_is_kerass_and_the_asymmetric_without_asymmetry():
    annotated = np.where(LABELS == IGNORE, 0, LABELS)
    outputs = {"logits": LOGITS}
    expected = keras.losses.binary_crossentropy(annotated.astype("float64"), LOGITS, from_logits=True)
    value = losses.MultiLabelCrossEntropyLoss()(annotated, outputs)
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-6)
    value = losses.MultiLabelCrossEntropyLoss()(LABELS, outputs)
    np.testing.assert_allclose(losses.AsymmetricLoss(0.0, 0.0, 0.0)(LABELS, outputs), value, rtol=1e-12)
    rates = losses.WeightedSigmoidLoss([0.5] * 3)(LABELS, outputs)  # both weights are exp(1/2)
    np.testing.assert_allclose(rates, math.exp(0.5) * value, rtol=1e-12)


OTHERS = [losses.MultiLabelCrossEntropyLoss(), losses.AsymmetricLoss(2.0, 0.5), losses.AsymmetricLoss(clip=0.0)]


@pytest.mark.parametrize("loss", OTHERS, ids=["binary", "asymmetric", "unclipped"])
def test_laws_of_label_sets(loss):
    whole = float(loss(LABELS, {"logits": LOGITS}))
    keep = [0, 1, 2, 4]
    assert float(loss(LABELS[keep], {"logits": LOGITS[keep]})) == pytest.approx(whole, rel=1e-12)
    assert float(loss({"multi_hot": LABELS}, {"logits": np.where(LABELS == IGNORE, 1e4, LOGITS)})) == whole
    assert float(loss(np.full((2, 3), IGNORE), {"logits": LOGITS[:2]})) == 0
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(LABELS, {"logits": LOGITS})) == whole
    compiled = tf.function(loss, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(LABELS), {"logits": tf.constant(LOGITS)}), whole, rtol=1e-12)
    for dtype in ("float16", "float32"):
        logits = tf.cast(np.sign(LOGITS) * 1e4, dtype)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(LABELS, {"logits": logits})
        assert np.isfinite(value)
        assert np.isfinite(tf.cast(tape.gradient(value, logits), "float32")).all()


@pytest.mark.parametrize("settings", [(-1.0, 0.0, 0.05), (4.0, float("nan"), 0.05), (4.0, 0.0, 1.0)])
def test_what_the_asymmetric_loss_refuses(settings):
    with pytest.raises(ValueError, match="`gamma_negative`"):
        losses.AsymmetricLoss(*settings)


def test_class_labels_are_no_label_sets():
    with pytest.raises(ValueError, match="There is no `multi_hot`"):
        losses.MultiLabelCrossEntropyLoss()({"labels": np.array([0, 1])}, {"logits": LOGITS[:2]})
