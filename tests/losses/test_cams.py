"""Homogeneous negative CAM against golden numbers, by hand, and by the laws that every loss obeys."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.losses import cams as module

CLASSES = 6
LABELS = np.array([0, NEGATIVE, 5, UNKNOWN, 2, IGNORE])  # classes
MULTI = np.array(
    [[1, 0, 0, 1, 0, 0], [0] * 6, [1] * 6, [IGNORE] * 6, [1, IGNORE, 1, 0, 1, 1], [0, IGNORE, 0, IGNORE, 0, 1]]
)
MAPS = np.random.default_rng(0).normal(size=(6, 3, 4, CLASSES))
KINDS = {"mse": losses.HNCMSELoss, "kd": losses.HNCKDLoss}
both = pytest.mark.parametrize("kind", KINDS)


def named(labels):
    """In these tests two axes are label sets; the losses go by the name alone."""
    return {"multi_hot" if len(labels.shape) == 2 else "labels": labels}


def evaluate(loss, labels, maps, sample_weight=None):
    maps, labels = tf.convert_to_tensor(maps), named(labels)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = loss(labels, {"cams": maps}, sample_weight)
    return [value, tape.gradient(value, maps)]


def reference(kind, labels, maps, top_k, target=0.0):
    """The definition, image by image and class by class; None where an image does not count."""
    values = []
    for label, m in zip(labels, maps, strict=True):
        if np.ndim(label) == 0:
            absent = [o for o in range(CLASSES) if o != label]
            counted = label >= NEGATIVE
        else:
            absent = [o for o in range(CLASSES) if label[o] == 0]
            counted = np.any(np.isin(label, [0, 1]))
        hardest = sorted(absent, key=lambda o: -m[:, :, o].mean())[:top_k]
        total = 0.0
        for o in hardest:
            flat = m[:, :, o].reshape(-1)
            softmax = np.exp(flat) / np.sum(np.exp(flat))
            total += np.mean((flat - target) ** 2) if kind == "mse" else -np.mean(np.log(softmax))
        values.append(total if counted else None)
    return values


@pytest.mark.parametrize("labels", [LABELS, MULTI], ids=["single", "multi"])
@pytest.mark.parametrize("top_k", [1, 3, 5, 6, 100])
@both
def test_the_definition(kind, labels, top_k):
    values = [v for v in reference(kind, labels, MAPS, top_k) if v is not None]
    np.testing.assert_allclose(evaluate(KINDS[kind](top_k), labels, MAPS)[0], np.mean(values), rtol=1e-12)


@both
def test_golden(golden, kind):
    case = golden(f"hnc_{kind}_k3_f64")
    value, gradient = evaluate(KINDS[kind](top_k=3), case["labels"], case["cams_nchw"].transpose(0, 2, 3, 1))
    gradient = gradient.numpy().transpose(0, 3, 1, 2)
    np.testing.assert_allclose(value, case["paper_loss"], rtol=1e-9)
    np.testing.assert_allclose(gradient, case["paper_grad_nchw"], rtol=1e-9, atol=1e-12)
    peer = 3 if kind == "mse" else 1  # the authors' squared form also divides by k
    np.testing.assert_allclose(value / peer, case["peer_loss"], rtol=1e-9)
    np.testing.assert_allclose(gradient / peer, case["peer_grad_nchw"], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.abs(gradient).max(axis=(2, 3)) > 0, case["selected"])


@both
def test_golden_multilabel(golden, kind):
    case = golden("derived_sce_multilabel_hnc_f64")
    value, gradient = evaluate(KINDS[kind](top_k=3), case["labels"], case["cams_nhwc"])
    np.testing.assert_allclose(value, case[f"hnc_{kind}"], rtol=1e-10)
    np.testing.assert_array_equal(np.abs(gradient).max(axis=(1, 2)) > 0, case["selected"])
    function = {"mse": module.hnc_mse, "kd": module.hnc_kd}[kind]
    per_image = function(case["labels"].astype(int), tf.constant(case["cams_nhwc"]), 3)
    np.testing.assert_allclose(per_image, case[f"hnc_{kind}_per_image"], rtol=1e-10)
    if kind == "mse":
        total = losses.WeightedSigmoidLoss(case["p"]) + 0.1 * losses.HNCMSELoss(top_k=3)
        outputs = {"cams": case["cams_nhwc"], "logits": case["scores"]}
        np.testing.assert_allclose(total(named(case["labels"]), outputs), case["total_lambda01_mse"], rtol=1e-10)


@both
def test_gradients_are_differences(kind):
    direction, step = np.random.default_rng(1).normal(size=MAPS.shape), 1e-6
    loss = KINDS[kind](top_k=3)
    ahead, behind = (evaluate(loss, LABELS, MAPS + s * direction)[0] for s in (step, -step))
    along = np.sum(evaluate(loss, LABELS, MAPS)[1] * direction)
    np.testing.assert_allclose(along, (ahead - behind) / (2 * step), rtol=1e-6)


def test_ties_choose_exactly_k():
    value, gradient = evaluate(losses.HNCMSELoss(top_k=2), np.array([0]), np.ones((1, 2, 2, CLASSES)))
    np.testing.assert_allclose(value, 2.0)
    assert np.count_nonzero(np.abs(gradient).max(axis=(0, 1, 2))) == 2


def test_the_squared_form_reaches_its_target_and_the_other_log_hw():
    flat = np.full((1, 3, 4, CLASSES), 7.0)
    assert float(losses.HNCMSELoss(2, target=7.0)(np.array([0]), {"cams": flat})) == 0
    value, gradient = evaluate(losses.HNCKDLoss(2), np.array([0]), flat)
    np.testing.assert_allclose(value, 2 * np.log(12), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.zeros(flat.shape), atol=1e-15)


@both
@pytest.mark.parametrize("labels", [LABELS, MULTI], ids=["single", "multi"])
def test_masked_is_absent(kind, labels):
    counted = [i for i, v in enumerate(reference(kind, labels, MAPS, 3)) if v is not None]
    value, gradient = evaluate(KINDS[kind](3), labels, MAPS)
    expected = evaluate(KINDS[kind](3), labels[counted], MAPS[counted])
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient.numpy()[counted], expected[1], rtol=1e-12, atol=1e-15)
    rest = np.setdiff1d(range(len(labels)), counted)
    np.testing.assert_array_equal(gradient.numpy()[rest], 0)


@both
@pytest.mark.parametrize("labels", [np.full(6, IGNORE), np.full((6, CLASSES), IGNORE), np.ones((6, CLASSES), int)])
def test_nothing_absent_is_exactly_zero(kind, labels):
    for result in evaluate(KINDS[kind](3), labels, MAPS):
        np.testing.assert_array_equal(result, np.zeros(result.shape))


@both
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_graph_is_eager(kind, jit):
    for labels in (LABELS, MULTI):
        compiled = tf.function(lambda y, m: evaluate(KINDS[kind](3), y, m), jit_compile=jit)
        for a, b in zip(
            compiled(tf.constant(labels), tf.constant(MAPS)), evaluate(KINDS[kind](3), labels, MAPS), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@both
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_huge_maps_are_finite(kind, dtype):
    for labels in (LABELS, MULTI):
        value, gradient = evaluate(KINDS[kind](3), labels, tf.cast(np.sign(MAPS) * 1e4, dtype))
        assert value.dtype == ("float64" if dtype == "float64" else "float32")
        assert np.isfinite(value)
        assert np.isfinite(tf.cast(gradient, "float32")).all()


@both
def test_one_class(kind):
    for labels in (np.array([0, 0, NEGATIVE]), np.array([[1], [1], [0]])):
        value, _ = evaluate(KINDS[kind](3), labels, MAPS[:3, :, :, :1])
        flat = MAPS[2, :, :, 0]
        own = np.mean(flat**2) if kind == "mse" else np.log(np.sum(np.exp(flat))) - np.mean(flat)
        np.testing.assert_allclose(value, own / 3, rtol=1e-12)


@both
def test_second_derivatives_are_right(kind):
    direction, step, loss = np.random.default_rng(1).normal(size=MAPS.shape), 1e-5, KINDS[kind](3)
    maps = tf.constant(MAPS)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        along = tf.reduce_sum(evaluate(loss, LABELS, maps)[1] * direction)
    ahead, behind = (evaluate(loss, LABELS, MAPS + s * direction)[1] for s in (step, -step))
    np.testing.assert_allclose(tape.gradient(along, maps), (ahead - behind) / (2 * step), atol=1e-9)


def test_sample_weight_is_of_images():
    weight = np.array([1.0, 2.0, 0.0, 5.0, 3.0, 7.0])
    values = [v or 0 for v in reference("mse", LABELS, MAPS, 3)]
    value = evaluate(losses.HNCMSELoss(3), LABELS, MAPS, weight)[0]
    np.testing.assert_allclose(value, np.sum(weight * values) / 4, rtol=1e-12)


@both
def test_config_round_trip(kind):
    loss = KINDS[kind](7, name="flat").of("early_")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert losses.HNCMSELoss.from_config(losses.HNCMSELoss(2, target=0.5).get_config()).target == 0.5


@both
def test_the_kind_of_label_goes_by_its_name_never_by_its_shape(kind):
    loss = KINDS[kind](3)
    column = LABELS[:, None]  # of two axes, yet classes
    assert float(loss(column, {"cams": MAPS})) == float(loss(LABELS, {"cams": MAPS}))
    with pytest.raises(ValueError, match=r"one integer label per position.*multi_hot"):
        loss(MULTI, {"cams": MAPS})  # a plain tensor holds classes
    both_given = {"labels": LABELS, "multi_hot": MULTI}
    assert float(loss(both_given, {"cams": MAPS})) == float(loss({"multi_hot": MULTI}, {"cams": MAPS}))


@both
def test_wrong_input_is_refused(kind):
    loss = KINDS[kind](3)
    with pytest.raises(ValueError, match="needs maps of shape"):
        loss(LABELS, {"cams": MAPS[:, 0]})
    with pytest.raises(ValueError, match="1 where a class is present"):
        loss(named(MULTI.astype("float32")), {"cams": MAPS})
    with pytest.raises(ValueError, match="one integer label per position"):
        loss(LABELS.astype("float32"), {"cams": MAPS})
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="`top_k`"):
            KINDS[kind](wrong)
