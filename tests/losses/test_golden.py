"""Head and loss together against the numbers of other people's code and of float64 derivations (tests/golden)."""

import json
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, losses
from cplus1_keras.losses import lengths, margins

INDEX = pathlib.Path(__file__).parent.parent / "golden" / "index.json"
HARD, SOFT = {"scale": 13.0}, {"scale": None}

# What the thesis's configs name, with the head that each expects. Its code writes 1/N in no cross-entropy.
THESIS = {
    "softmax": ("linear", losses.CrossEntropyLoss()),
    "sm_softmax": ("linear", losses.CrossEntropyLoss(losses.SMSoftmax(0.3))),
    "sphereface": (HARD, losses.CrossEntropyLoss(losses.SphereFace(1.2))),
    "cosface": (HARD, losses.CrossEntropyLoss(losses.CosFace(0.35))),
    "arcface": (HARD, losses.CrossEntropyLoss(losses.ArcFace(0.5))),
    "cosface_sfn": (SOFT, losses.sfn_cosface(0.35, 13.0)),
    "arcface_sfn": (SOFT, losses.sfn_arcface(0.5, 13.0)),
    "softmax_os": (SOFT, losses.norm_os(13.0)),
    "cos_os": (SOFT, losses.cos_os(0.35, 13.0)),
    "arc_os": (SOFT, losses.arc_os(0.5, 13.0)),
    "cos_os_non_symmetric": (
        SOFT,
        losses.CrossEntropyLoss(losses.CosFace(0.35)) + 0.01 * losses.MagnitudeLoss(13.0),
    ),
    "entropic": ("linear", losses.EntropicOpenSetLoss()),
    "objectosphere": ("linear", losses.objectosphere(13.0)),
    "norm_eos": (HARD, losses.EntropicOpenSetLoss()),
    "cos_eos": (HARD, losses.cos_eos(0.35)),
    "arc_eos": (HARD, losses.arc_eos(0.5)),
}
# Where the peer detaches the margin from the gradient, the same loss with `detach=True`.
DETACHED = {
    "sphereface": losses.CrossEntropyLoss(losses.SphereFace(1.2, detach=True)),
    "arcface": losses.CrossEntropyLoss(losses.ArcFace(0.5, detach=True)),
    "arcface_sfn": losses.CrossEntropyLoss(losses.ArcFace(0.5, detach=True)) + 0.01 * losses.RingLoss(13.0),
    "arc_os": losses.CrossEntropyLoss(losses.ArcFace(0.5, detach=True)) + 0.01 * losses.SymmetricMagnitudeLoss(13.0),
    "arc_eos": losses.EntropicOpenSetLoss(losses.ArcFace(0.5, detach=True)),
}


def tolerance(case):
    cases = json.loads(INDEX.read_text())["cases"]
    return next(entry["tolerance"] for entry in cases if entry["file"] == f"{case}.npz")


def through_head(head, loss, arrays, kernel="W_raw"):
    """Logits, loss, and its gradients for the features and the raw kernel."""
    settings, classes, dtype = head, arrays[kernel].shape[1], arrays["features"].dtype.name
    head = (
        heads.LinearHead(classes, dtype=dtype)
        if settings == "linear"
        else heads.CosineHead(classes, **settings, dtype=dtype)
    )
    features = tf.constant(arrays["features"])
    head.build(features.shape)
    head.kernel.assign(arrays[kernel])
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = head(features)
        value = loss(arrays["labels"], {**outputs, **head.provide(outputs)})
    of_features, of_kernel = tape.gradient(value, [features, head.kernel.value])
    assert value.dtype == features.dtype
    return outputs["logits"].numpy(), value.numpy(), of_features.numpy(), of_kernel.numpy()


def through_normalisation(gradient, kernel):
    """The gradient for the raw kernel, given a peer's for its normalised columns: projected and divided by the norm."""
    norms = np.linalg.norm(kernel, axis=0)
    unit = kernel / norms
    return (gradient - unit * (unit * gradient).sum(0)) / norms


THESIS_CASES = [(name, f"thesis_{name}_p0_f64") for name in THESIS] + [
    ("cos_os", "thesis_cos_os_p0_f32"),
    ("arc_eos", "thesis_arc_eos_p0_f32"),
]


@pytest.mark.parametrize(("name", "case"), THESIS_CASES)
def test_thesis_as_printed(golden, name, case):
    arrays = golden(case)
    logits, value, of_features, of_kernel = through_head(*THESIS[name], arrays)
    close = tolerance(case)
    np.testing.assert_allclose(logits, arrays["eval_logits"], **close)
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(value, arrays["paper_loss"], **close)
    np.testing.assert_allclose(of_features, arrays["paper_grad_features"], **close)
    np.testing.assert_allclose(of_kernel, arrays["paper_grad_W_raw"], **close)


@pytest.mark.parametrize(("name", "case"), THESIS_CASES)
def test_thesis_as_published_in_code(golden, name, case):
    """The peer detaches angular margins and normalises the weights in place, which `detach=True` reproduces."""
    arrays = golden(case)
    head, loss = THESIS[name]
    _, value, of_features, of_kernel = through_head(head, DETACHED.get(name, loss), arrays)
    close = tolerance(case)
    expected = arrays["grad_W"] if head == "linear" else through_normalisation(arrays["grad_W"], arrays["W_raw"])
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(of_features, arrays["grad_features"], **close)
    np.testing.assert_allclose(of_kernel, expected, **close)


@pytest.mark.parametrize(
    ("case", "scale", "margin"),
    [
        ("pml_arcface_f64", 64.0, losses.ArcFace(math.radians(28.6))),  # its margin is in degrees
        ("pml_cosface_f64", 64.0, losses.CosFace(0.35)),
        ("pml_normsoftmax_f64", 20.0, None),  # temperature 0.05
    ],
)
def test_pytorch_metric_learning(golden, case, scale, margin):
    arrays = golden(case)
    logits, value, of_features, of_kernel = through_head({"scale": scale}, losses.CrossEntropyLoss(margin), arrays)
    close = tolerance(case)
    np.testing.assert_allclose(logits, arrays["eval_logits"], **close)
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(of_features, arrays["grad_features"], **close)
    np.testing.assert_allclose(of_kernel, arrays["grad_W"], **close)


@pytest.mark.parametrize(
    ("case", "scale", "margin"),
    [
        ("opensphere_arcface_f64", 64.0, losses.ArcFace(0.5, detach=True)),
        ("opensphere_sphereface_f64", 30.0, losses.SphereFace(1.7, detach=True)),
    ],
)
def test_opensphere(golden, case, scale, margin):
    arrays = golden(case)
    _, value, of_features, of_kernel = through_head({"scale": scale}, losses.CrossEntropyLoss(margin), arrays)
    close = tolerance(case)
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(of_features, arrays["grad_features"], **close)
    np.testing.assert_allclose(of_kernel, through_normalisation(arrays["grad_W"], arrays["W_raw"]), **close)


def test_pytorch_ood_entropic(golden):
    arrays = golden("pytorchood_eos_f64")
    logits = tf.constant(arrays["logits"])
    loss = losses.EntropicOpenSetLoss()
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(arrays["labels"], {"logits": logits})
    close = tolerance("pytorchood_eos_f64")
    each = loss.values(tf.constant(arrays["labels"], "int32"), {"logits": logits})
    np.testing.assert_allclose(each, arrays["loss_none"], **close)
    np.testing.assert_allclose(value, arrays["loss_mean"], **close)
    np.testing.assert_allclose(tape.gradient(value, logits), arrays["grad_logits_mean"], **close)


def test_pytorch_ood_objectosphere(golden):
    arrays = golden("pytorchood_objectosphere_f64")
    logits, features = tf.constant(arrays["logits"]), tf.constant(arrays["features"])
    with tf.GradientTape() as tape:
        tape.watch([logits, features])
        value = losses.objectosphere(13.0)(arrays["labels"], {"logits": logits, "features": features})
    of_logits, of_features = tape.gradient(value, [logits, features])
    close = tolerance("pytorchood_objectosphere_f64")
    np.testing.assert_allclose(value, arrays["loss_mean"], **close)
    np.testing.assert_allclose(of_logits, arrays["grad_logits"], **close)
    np.testing.assert_allclose(of_features, arrays["grad_features_reg"], **close)


def test_pytorch_ood_background(golden):
    arrays = golden("pytorchood_background_class_f64")
    logits = tf.constant(arrays["logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = losses.BackgroundCrossEntropyLoss()(arrays["labels"], {"logits": logits})
    close = tolerance("pytorchood_background_class_f64")
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(tape.gradient(value, logits), arrays["grad_logits"], **close)


@pytest.mark.parametrize(
    ("case", "head", "loss"),
    [
        ("derived_c2am_f64", {"scale": 30.0}, losses.CrossEntropyLoss(losses.C2AM(0.5, clamp=False))),
        ("derived_sfn_norm_paper_f64", SOFT, losses.sfn_norm(13.0)),
        ("derived_norm_os_paper_f64", SOFT, losses.norm_os(13.0)),
    ],
)
def test_derivations(golden, case, head, loss):
    arrays = golden(case)
    logits, value, of_features, of_kernel = through_head(head, loss, arrays)
    close = tolerance(case)
    np.testing.assert_allclose(logits, arrays["eval_logits"], **close)
    np.testing.assert_allclose(value, arrays["loss"], **close)
    np.testing.assert_allclose(of_features, arrays["grad_features"], **close)
    np.testing.assert_allclose(of_kernel, arrays["grad_W"], **close)


def test_c2am_training_logits(golden):
    arrays = golden("derived_c2am_f64")
    head = heads.CosineHead(arrays["W_raw"].shape[1], scale=30.0, dtype="float64")
    head.build(arrays["features"].shape)
    head.kernel.assign(arrays["W_raw"])
    outputs = head(arrays["features"])
    outputs.update(head.provide(outputs))
    labels = tf.constant(arrays["labels"], "int32")
    logits = losses.C2AM(0.5, clamp=False).training_logits(labels, outputs).numpy()
    known = arrays["labels"] >= 0
    close = tolerance("derived_c2am_f64")
    np.testing.assert_allclose(logits[known], arrays["train_logits"][known], **close)
    np.testing.assert_array_equal(logits[~known], outputs["logits"].numpy()[~known])
    kept = arrays["eval_logits"] / 30 > -np.cos(arrays["margins"])  # below π, where the clamp changes nothing
    clamped = losses.C2AM(0.5).training_logits(labels, outputs).numpy()
    np.testing.assert_allclose(clamped[known], np.where(kept, arrays["train_logits"], -30)[known], **close)


def test_c2am_boundary(golden):
    """With two classes the training logits of class 0 cross at the angle (t + m_12)/2 from its weight."""
    arrays = golden("derived_c2am_boundary")
    head = heads.CosineHead(2, scale=30.0, dtype="float64")
    head.build((None, 2))
    head.kernel.assign(arrays["W"])
    boundary = float(arrays["boundary"])  # the weight of class 0 lies on the first axis
    features = np.concatenate([arrays["features"], [[math.cos(boundary), math.sin(boundary)]]])
    outputs = head(features)
    labels = tf.zeros(len(features), "int32")
    logits = losses.C2AM(0.5).training_logits(labels, {**outputs, **head.provide(outputs)}).numpy()
    assert logits[-1, 0] == pytest.approx(logits[-1, 1], abs=1e-12)
    # The last feature lies on the weight of class 1: 1 ulp of a cosine of 1 is an angle of 1e-8.
    np.testing.assert_allclose(logits[:-2], arrays["train_logits_label0"][:-1], **tolerance("derived_c2am_boundary"))
    np.testing.assert_allclose(logits[-2], arrays["train_logits_label0"][-1], rtol=1e-8)


def test_length_terms(golden):
    arrays = golden("derived_os_regularisers")
    features = np.zeros((len(arrays["norm"]), 3))
    features[:, 1] = arrays["norm"]  # features along one axis: the derivative for it is the one for the length
    labels = tf.constant(arrays["labels"], "int32")
    close = tolerance("derived_os_regularisers")
    for key, term in [("os", lengths.magnitude), ("sym", lengths.symmetric_magnitude), ("ring", lengths.ring)]:
        moving = tf.constant(features)
        with tf.GradientTape() as tape:
            tape.watch(moving)
            values = term(labels, moving, 13.0)
        of_length = tape.gradient(values, moving)[:, 1]
        np.testing.assert_allclose(values, arrays[key], **{**close, "atol": 1e-12})
        at_zero = arrays["norm"] == 0  # the gradient of a length is 0 there, whatever its one-sided limit
        np.testing.assert_allclose(of_length, np.where(at_zero, 0, arrays[f"d_{key}"]), **{**close, "atol": 1e-12})


@pytest.mark.parametrize("key", ["m1_0", "m1_2", "m1_5", "m1_7", "m2_0", "m4_0"])
def test_sphereface_psi(golden, key):
    arrays = golden("derived_sphereface_psi")
    cosine = tf.constant(np.cos(arrays["theta"]))
    psi = margins.sphereface(cosine, float(key[1:].replace("_", ".")))
    np.testing.assert_allclose(psi, arrays[key], **tolerance("derived_sphereface_psi"))
    assert (np.diff(psi) <= 1e-12).all()  # falls from 0 to π
