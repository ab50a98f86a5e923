"""Cross-entropy and its treatments of negatives, sums of losses, and what they refuse."""

import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, is_known

P = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
LABELS = np.array([0, NEGATIVE, 1, IGNORE])
OUTPUTS = {"logits": np.log(P) + 3.0}


def test_cross_entropy_by_hand():
    assert float(losses.CrossEntropyLoss()(LABELS, OUTPUTS)) == pytest.approx(-(np.log(0.5) + np.log(0.3)) / 2)


def test_background_by_hand():
    """Two knowns; the last class is the background."""
    expected = -(np.log(0.5) + np.log(0.7) + np.log(0.3)) / 3
    assert float(losses.BackgroundCrossEntropyLoss()(LABELS, OUTPUTS)) == pytest.approx(expected)


def test_a_known_label_is_never_the_background():
    assert np.isnan(losses.BackgroundCrossEntropyLoss()(np.array([2]), {"logits": OUTPUTS["logits"][:1]}))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_entropic_by_hand(weight):
    even = -np.log(P[1]).mean()
    expected = -(np.log(0.5) + np.log(0.3) - weight * even) / 3
    loss = losses.EntropicOpenSetLoss(negative_weight=weight)
    assert float(loss(LABELS, OUTPUTS)) == pytest.approx(expected)


def test_unknowns_count_for_nothing():
    labels = np.where(LABELS == IGNORE, UNKNOWN, LABELS)
    for loss in (losses.CrossEntropyLoss(), losses.BackgroundCrossEntropyLoss(), losses.EntropicOpenSetLoss()):
        assert float(loss(labels, OUTPUTS)) == float(loss(LABELS, OUTPUTS))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_huge_logits(size):
    logits = tf.constant([[size, 0.0, -size], [-size, 0.0, size]], "float32")
    for kind in (losses.CrossEntropyLoss, losses.EntropicOpenSetLoss, losses.BackgroundCrossEntropyLoss):
        for labels in ([0, 0], [1, NEGATIVE], [NEGATIVE, NEGATIVE]):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = kind()(np.array(labels), {"logits": logits})
            assert np.isfinite(value)
            assert np.isfinite(tape.gradient(value, logits)).all()


def test_labels_with_a_last_axis_of_one():
    for loss in (losses.CrossEntropyLoss(), losses.EntropicOpenSetLoss()):
        assert float(loss(LABELS[:, None], OUTPUTS)) == float(loss(LABELS, OUTPUTS))
        assert float(loss(LABELS.astype("int8"), OUTPUTS)) == float(loss(LABELS, OUTPUTS))


def test_another_head():
    loss = losses.CrossEntropyLoss().of("auxiliary_")
    assert (loss.name, losses.CrossEntropyLoss().of("auxiliary_", name="own").name) == (
        "auxiliary_cross_entropy",
        "own",
    )
    outputs = {"auxiliary_logits": OUTPUTS["logits"], "logits": 0 * P}
    expected = float(losses.CrossEntropyLoss()(LABELS, OUTPUTS))
    assert float(loss(LABELS, outputs)) == expected
    assert float(loss({"labels": 0 * LABELS, "auxiliary_labels": LABELS}, outputs)) == expected  # its own come first
    assert float(loss({"labels": LABELS, "other_labels": 0 * LABELS}, outputs)) == expected
    with pytest.raises(ValueError, match=r"reads \['auxiliary_logits'\], which the model does not give"):
        loss(LABELS, OUTPUTS)  # no falling back to the first head
    for wrong in ("auxiliary", "", 3):
        with pytest.raises(ValueError, match="a name and an underscore"):
            losses.CrossEntropyLoss().of(wrong)


def test_another_head_is_saved():
    loss = 2.0 * (losses.CrossEntropyLoss(losses.SMSoftmax(0.3)) + 0.5 * losses.HingeLoss()).of("roi1_")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert [(w, term.name) for w, term in again.terms()] == [(2.0, "roi1_cross_entropy"), (1.0, "roi1_hinge")]
    outputs = {"roi1_logits": OUTPUTS["logits"]}
    assert float(again(LABELS, outputs)) == float(loss(LABELS, outputs))
    twice = losses.CrossEntropyLoss().of("stage_").of("roi1_")
    assert (twice.prefix, twice.name) == ("roi1_stage_", "roi1_stage_cross_entropy")
    assert float(twice(LABELS, {"roi1_stage_logits": OUTPUTS["logits"]})) > 0


def test_what_all_heads_share_has_no_prefix():
    growing = losses.CrossEntropyLoss(losses.GrowingMargin(losses.SMSoftmax(2.0)))
    outputs = {**OUTPUTS, "margin_fraction": np.float32(0.5)}
    expected = losses.CrossEntropyLoss(losses.SMSoftmax(1.0))(LABELS, OUTPUTS)
    np.testing.assert_allclose(growing(LABELS, outputs), expected, rtol=1e-6)
    outputs["roi1_logits"] = outputs.pop("logits")
    np.testing.assert_allclose(growing.of("roi1_")(LABELS, outputs), expected, rtol=1e-6)


def test_what_is_added_up_and_what_it_is_divided_by():
    """As the focal loss of detectors: over all that training sees, per known."""

    class PerKnown(losses.EntropicOpenSetLoss):
        per = staticmethod(is_known)

    whole = float(losses.EntropicOpenSetLoss()(LABELS, OUTPUTS))  # two knowns and a negative
    assert float(PerKnown()(LABELS, OUTPUTS)) == pytest.approx(whole * 3 / 2)
    assert float(PerKnown()(np.full(4, NEGATIVE), OUTPUTS)) > 0  # divided by 1 where there is none


def test_values_must_not_be_reduced():
    class Mean(losses.OpenSetLoss):
        def values(self, labels, outputs):
            return tf.reduce_mean(outputs["logits"])

    with pytest.raises(ValueError, match=r"`mean` must give one value per label.*\(4,\).*shape \(\)"):
        Mean("mean")(LABELS, OUTPUTS)


def test_labels_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"one integer label per position.*\(4,\).*\(3,\)"):
        losses.CrossEntropyLoss()(LABELS[:3], OUTPUTS)


@pytest.mark.parametrize(
    ("loss", "giver"),
    [
        (losses.CompactnessLoss(), "MovingAverageCenters"),
        (losses.cplus1(), "MovingAverageCenters"),
        (losses.CrossEntropyLoss(losses.ArcFace(0.5)), "CosineHead"),
        (losses.CrossEntropyLoss(losses.GrowingMargin(losses.SMSoftmax())), "MarginWarmup"),
        (losses.HNCMSELoss(1), "CAMHead"),
    ],
)
def test_who_gives_what_is_missing(loss, giver):
    with pytest.raises(ValueError, match="which the model does not give") as error:
        loss(LABELS, OUTPUTS)
    assert giver in str(error.value)
    others = {"MovingAverageCenters", "CosineHead", "MarginWarmup", "CAMHead"} - {giver}
    assert not any(other in str(error.value) for other in others)


def test_a_plain_model_is_told_of_ours():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, heads.LinearHead(3)(inputs)["logits"])
    model.compile("sgd", losses.CrossEntropyLoss())
    with pytest.raises(ValueError, match="OpenSetModel"):
        model.fit(np.ones((4, 4)), LABELS, verbose=0)


def test_no_name_means_two_things():
    for name in losses.__all__:
        assert not inspect.ismodule(getattr(losses, name))
    modules = {info.name for info in pkgutil.iter_modules(losses.__path__)}
    assert not modules & set(losses.__all__)
    assert callable(losses.cplus1)


def test_sums():
    outputs = {**OUTPUTS, "features": np.array([[3.0, 4.0]] * 4)}
    total = losses.EntropicOpenSetLoss() * 2.0 + 0.5 * (losses.MagnitudeLoss(7.0) + 4 * losses.RingLoss(5.0))
    assert [(w, term.name) for w, term in total.terms()] == [
        (2.0, "entropic_open_set"),
        (0.5, "magnitude"),
        (2.0, "ring"),
    ]
    parts = [w * float(term(LABELS, outputs)) for w, term in total.terms()]
    assert float(total(LABELS, outputs)) == pytest.approx(sum(parts))
    assert total.needs_negatives
    assert not (losses.CrossEntropyLoss() + losses.RingLoss(5.0)).needs_negatives


def test_what_sums_refuse():
    with pytest.raises(ValueError, match=r"Received twice: \['cross_entropy'\]"):
        losses.CrossEntropyLoss() + losses.CrossEntropyLoss(losses.ArcFace(0.5))
    assert len((losses.CrossEntropyLoss() + losses.CrossEntropyLoss(name="other")).terms()) == 2
    for weight in (-1.0, float("nan"), "1"):
        with pytest.raises((ValueError, TypeError)):
            losses.CrossEntropyLoss() * weight
    with pytest.raises(TypeError, match="Only losses of cplus1_keras"):
        losses.CrossEntropyLoss() + 1.0
    with pytest.raises(ValueError, match="`negative_weight` must be >= 0"):
        losses.EntropicOpenSetLoss(negative_weight=-1.0)


@pytest.mark.parametrize(
    "kind", [losses.CrossEntropyLoss, losses.BackgroundCrossEntropyLoss, losses.EntropicOpenSetLoss]
)
def test_label_smoothing_is_kerass(kind):
    """Of knowns; a background is a class like the others, and what negatives are to have is even already."""
    logits, labels = np.random.default_rng(0).normal(size=(6, 5)) * 3, np.array([0, 3, 1, -1, 2, -1])
    target = np.eye(5)[np.where(labels < 0, 4, labels)]
    expected = np.array(keras.losses.categorical_crossentropy(target, logits, from_logits=True, label_smoothing=0.3))
    if kind is losses.EntropicOpenSetLoss:
        even = np.full((6, 5), 0.2)
        other = np.array(keras.losses.categorical_crossentropy(even, logits, from_logits=True))
        expected = np.where(labels < 0, other, expected)
    counted = labels >= 0 if kind is losses.CrossEntropyLoss else np.ones(6, bool)
    for loss in (kind(smoothing=0.3), kind().smooth(0.3), (kind() + losses.RingLoss(1.0)).smooth(0.3).terms()[0][1]):
        np.testing.assert_allclose(loss(labels, {"logits": logits}), expected[counted].mean(), rtol=1e-6)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert again.smoothing == 0.3
    assert kind().smoothing == 0


def test_label_smoothing_leaves_other_terms_alone():
    ring = losses.RingLoss(1.0)
    made = 0.5 * losses.CrossEntropyLoss() + 2.0 * ring
    assert [(weight, getattr(term, "smoothing", None)) for weight, term in made.smooth(0.1).terms()] == [
        (0.5, 0.1),
        (2.0, None),
    ]
    for loss in (ring, ring + losses.HingeLoss()):
        with pytest.raises(ValueError, match="with a softmax cross-entropy"):
            loss.smooth(0.1)
    for make in (
        lambda: losses.CrossEntropyLoss(smoothing=1.0),
        lambda: losses.CrossEntropyLoss().smooth(-0.1),
        lambda: losses.BackgroundCrossEntropyLoss(gamma=2.0, smoothing=0.1),
        lambda: losses.BackgroundCrossEntropyLoss(gamma=2.0).smooth(0.1),
    ):
        with pytest.raises(ValueError, match="smoothing"):
            make()
