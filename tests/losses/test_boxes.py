"""Losses of detectors: values by hand, limit laws, what they are divided by, gradients where they are hardest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

RANDOM = np.random.default_rng(0)
LABELS = np.array([[0, NEGATIVE, 2, IGNORE, 1], [NEGATIVE, NEGATIVE, UNKNOWN, 1, NEGATIVE]])
KNOWN, SEEN = LABELS >= 0, LABELS >= -1
GIVEN = {
    "logits": RANDOM.normal(size=(2, 5, 3)),
    "box_offsets": RANDOM.uniform(1, 40, (2, 5, 4)),
    "box_targets": RANDOM.uniform(1, 40, (2, 5, 4)),
    "centerness": RANDOM.normal(size=(2, 5)),
    "centerness_targets": RANDOM.uniform(0.1, 1, (2, 5)),
    "points": np.concatenate([RANDOM.uniform(0, 99, (2, 5, 2)), RANDOM.choice([8.0, 16.0], (2, 5, 1))], axis=-1),
}


def overlaps():
    """IoU and GIoU of each point's two boxes, by the four distances."""
    p, t = GIVEN["box_offsets"], GIVEN["box_targets"]

    def area(d):
        return (d[..., 0] + d[..., 2]) * (d[..., 1] + d[..., 3])

    shared, hull = area(np.minimum(p, t)), area(np.maximum(p, t))
    union = area(p) + area(t) - shared
    return shared / union, shared / union - (hull - union) / hull


def smooth_l1(beta):
    d = np.abs(GIVEN["box_offsets"] - GIVEN["box_targets"]) / GIVEN["points"][..., 2:]
    return np.where(d < beta, d**2 / (2 * beta), d - beta / 2).sum(-1)


@pytest.mark.parametrize(
    ("loss", "values"),
    [
        (losses.GIoULoss(), lambda: 1 - overlaps()[1]),
        (losses.IoULoss(), lambda: -np.log(overlaps()[0])),
        (losses.SmoothL1BoxLoss(), lambda: smooth_l1(1.0)),
        (losses.SmoothL1BoxLoss(0.3), lambda: smooth_l1(0.3)),
    ],
    ids=["giou", "iou", "smooth_l1", "smooth_l1_beta"],
)
def test_boxes_by_hand(loss, values):
    values, weights = values(), GIVEN["centerness_targets"]
    expected = (values * weights)[KNOWN].sum() / weights[KNOWN].sum()
    np.testing.assert_allclose(float(loss(LABELS, GIVEN)), expected, rtol=1e-6)
    per_known = (values * weights)[KNOWN].sum() / KNOWN.sum()
    np.testing.assert_allclose(float(loss.per_known()(LABELS, GIVEN)), per_known, rtol=1e-6)
    plain = {name: value for name, value in GIVEN.items() if name != "centerness_targets"}
    np.testing.assert_allclose(float(loss(LABELS, plain)), values[KNOWN].mean(), rtol=1e-6)
    weight = np.array([0.0, 2.0])
    expected = (values * weights * weight[:, None])[KNOWN].sum() / weights[KNOWN].sum()
    np.testing.assert_allclose(float(loss(LABELS, GIVEN, weight)), expected, rtol=1e-6)


def test_centerness_is_keras_binary_cross_entropy_of_the_knowns():
    ours = float(losses.CenternessLoss()(LABELS, GIVEN))
    targets, logits = GIVEN["centerness_targets"][KNOWN], GIVEN["centerness"][KNOWN]
    kerass = keras.losses.binary_crossentropy(targets, logits, from_logits=True)
    np.testing.assert_allclose(ours, kerass, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (0.5, 0.0)])
def test_sigmoid_focal_is_kerass_summed_and_divided_by_knowns(alpha, gamma):
    one_hot = (LABELS[..., None] == np.arange(3)).astype("float64")
    options = {"apply_class_balancing": True, "alpha": alpha, "gamma": gamma, "from_logits": True}
    means = np.array(keras.losses.binary_focal_crossentropy(one_hot, GIVEN["logits"], **options))
    ours = float(losses.SigmoidFocalLoss(alpha, gamma)(LABELS, GIVEN))
    np.testing.assert_allclose(ours, 3 * means[SEEN].sum() / KNOWN.sum(), rtol=1e-5)
    if gamma == 0:  # half of the plain cross-entropies
        z = GIVEN["logits"][SEEN]
        plain = np.log1p(np.exp(z)) - one_hot[SEEN] * z
        np.testing.assert_allclose(ours, plain.sum() / 2 / KNOWN.sum(), rtol=1e-6)


def test_a_label_beyond_the_classes_is_nan():
    assert np.isnan(losses.SigmoidFocalLoss()(np.array([[3]]), {"logits": np.zeros((1, 1, 3))}))


def test_per_known_divides_every_term():
    outputs = {"logits": RANDOM.normal(size=(2, 5, 4))}
    loss = losses.BackgroundCrossEntropyLoss()
    mean = float(loss(LABELS, outputs))
    assert float(loss.per_known()(LABELS, outputs)) == pytest.approx(mean * SEEN.sum() / KNOWN.sum())
    assert float(loss(LABELS, outputs)) == mean  # the first is as it was
    outputs |= {"embeddings": RANDOM.normal(size=(2, 5, 6)), "centers": RANDOM.normal(size=(3, 6))}
    whole = losses.cplus1(0.5, 0.3, margin=9.0)
    terms = [(weight, float(term(LABELS, outputs))) for weight, term in whole.terms()]
    counts = SEEN.sum(), KNOWN.sum(), (LABELS == NEGATIVE).sum()
    expected = sum(w * value * count / KNOWN.sum() for (w, value), count in zip(terms, counts, strict=True))
    assert float(whole.per_known()(LABELS, outputs)) == pytest.approx(expected)
    assert [term.name for _, term in whole.per_known().terms()] == [term.name for _, term in whole.terms()]


def test_focal_weighting_of_the_softmax():
    outputs = {"logits": RANDOM.normal(size=(2, 5, 4))}
    p = np.exp(outputs["logits"]) / np.exp(outputs["logits"]).sum(-1, keepdims=True)
    own = np.take_along_axis(p, np.where(KNOWN, LABELS, 3)[..., None], axis=-1)[..., 0]
    for gamma in (0.5, 2.0):
        expected = ((1 - own) ** gamma * -np.log(own))[SEEN].mean()
        ours = losses.BackgroundCrossEntropyLoss(gamma=gamma)(LABELS, outputs)
        np.testing.assert_allclose(float(ours), expected, rtol=1e-6)
    plain = float(losses.BackgroundCrossEntropyLoss()(LABELS, outputs))
    assert float(losses.BackgroundCrossEntropyLoss(gamma=1e-9)(LABELS, outputs)) == pytest.approx(plain)
    knowns = np.where(KNOWN, LABELS, IGNORE)
    assert float(losses.BackgroundCrossEntropyLoss(gamma=2.0)(knowns, outputs)) == pytest.approx(
        float(losses.FocalLoss(2.0)(knowns, outputs))
    )


EVERY = [
    losses.GIoULoss(),
    losses.IoULoss("own"),
    losses.SmoothL1BoxLoss(0.2),
    losses.CenternessLoss(),
    losses.SigmoidFocalLoss(0.4, 1.5),
    losses.BackgroundCrossEntropyLoss(losses.SMSoftmax(0.2), gamma=2.0).per_known(),
    losses.GIoULoss().of("roi_").per_known(),
    losses.cplus1(0.2, 0.3).per_known(),
]


@pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.name)
def test_losses_are_saved(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert again.name == loss.name
    for (_, one), (_, other) in zip(loss.terms(), again.terms(), strict=True):
        assert (one.per, one.prefix) == (other.per, other.prefix)


HARD = {
    "nothing known": ([[NEGATIVE, IGNORE]], 1.0, 3.0),
    "no box predicted": ([[0, NEGATIVE]], 0.0, 3.0),
    "neither box": ([[0, NEGATIVE]], 0.0, 0.0),
    "far too large": ([[0, NEGATIVE]], 2e6, 1e-3),
    "equal": ([[0, NEGATIVE]], 5.0, 5.0),
}


@pytest.mark.parametrize("case", HARD)
def test_finite_where_it_is_hard(case):
    labels, offset, target = HARD[case]
    read = {
        "logits": tf.constant([[[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]]]),
        "box_offsets": tf.fill((1, 2, 4), offset),
        "box_targets": tf.constant([[[target] * 4, [0.0] * 4]]),
        "centerness": tf.constant([[90.0, -90.0]]),
        "centerness_targets": tf.constant([[0.5, 0.0]]),
        "points": tf.constant([[[4.0, 4.0, 8.0]] * 2]),
    }
    for loss in EVERY[:6]:
        with tf.GradientTape() as tape:
            tape.watch(read)
            value = loss(np.array(labels), read)
        assert np.isfinite(value), loss.name
        if case == "nothing known" and loss.counted(np.array(NEGATIVE)) == False:  # noqa: E712
            assert value == 0
        for name, gradient in tape.gradient(value, read).items():
            assert gradient is None or np.isfinite(gradient).all(), (loss.name, name)


def test_settings_are_checked():
    for make, match in (
        (lambda: losses.SigmoidFocalLoss(alpha=1.5), "alpha"),
        (lambda: losses.SigmoidFocalLoss(gamma=-1), "gamma"),
        (lambda: losses.BackgroundCrossEntropyLoss(gamma=-1), "gamma"),
        (lambda: losses.SmoothL1BoxLoss(0), "beta"),
    ):
        with pytest.raises(ValueError, match=match):
            make()
    with pytest.raises(ValueError, match=r"reads \['box_offsets', 'box_targets'\].*`models.fcos`"):
        losses.GIoULoss()(LABELS, {"logits": GIVEN["logits"]})
