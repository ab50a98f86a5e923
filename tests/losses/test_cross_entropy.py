"""Cross-entropy and its treatments of negatives, sums of losses, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

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


def test_renamed_outputs():
    loss = losses.CrossEntropyLoss(rename={"logits": "auxiliary"}, name="auxiliary_loss")
    assert float(loss(LABELS, {"auxiliary": OUTPUTS["logits"]})) == float(losses.CrossEntropyLoss()(LABELS, OUTPUTS))
    with pytest.raises(ValueError, match=r"reads \['auxiliary'\], which the model does not give"):
        loss(LABELS, OUTPUTS)
    with pytest.raises(ValueError, match=r"Received: \['embeddings'\]"):
        losses.CrossEntropyLoss(rename={"embeddings": "x"})


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
