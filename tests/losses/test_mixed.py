"""Mixed images: each label counts by its share, as soft targets do; without a mix nothing changes."""

import keras
import numpy as np
import pytest

from cplus1_keras import losses

LOGITS = np.random.default_rng(0).normal(size=(5, 4))
FIRST, SECOND = np.array([0, 3, -1, 2, 1]), np.array([1, 3, 0, -1, 0])
SHARE = np.array([0.9, 0.5, 0.6, 1.0, 0.75])
Y = {"labels": FIRST, "mixed_labels": SECOND, "mixed_share": SHARE}


def test_it_is_cross_entropy_to_mixed_targets():
    first, second = np.array([0, 3, 1, 2, 1]), np.array([1, 3, 0, 2, 0])
    target = SHARE[:, None] * np.eye(4)[first] + (1 - SHARE[:, None]) * np.eye(4)[second]
    expected = np.mean(keras.losses.categorical_crossentropy(target, LOGITS, from_logits=True))
    y = {"labels": first, "mixed_labels": second, "mixed_share": SHARE}
    found = losses.MixedLoss(losses.CrossEntropyLoss())(y, {"logits": LOGITS})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_negatives_mix_too():
    each = losses.EntropicOpenSetLoss()
    values = [each.values(labels, {"logits": LOGITS}) for labels in (FIRST, SECOND)]
    expected = np.mean(SHARE * values[0] + (1 - SHARE) * values[1])
    np.testing.assert_allclose(losses.MixedLoss(each)(Y, {"logits": LOGITS}), expected, rtol=1e-6)
    weight = np.arange(5.0)
    expected = np.mean(weight * (SHARE * values[0] + (1 - SHARE) * values[1]))
    np.testing.assert_allclose(losses.MixedLoss(each)(Y, {"logits": LOGITS}, weight), expected, rtol=1e-6)


def test_without_a_mix_it_is_the_loss_itself():
    loss = losses.MixedLoss(losses.FocalLoss(1.5))
    for y in (FIRST, {"labels": FIRST}):
        expected = losses.FocalLoss(1.5)(FIRST, {"logits": LOGITS})
        np.testing.assert_array_equal(loss(y, {"logits": LOGITS}), expected)


def test_of_a_sum_each_term_is_mixed_and_keeps_name_weight_and_what_it_reads():
    plain = losses.EntropicOpenSetLoss() + 0.5 * losses.MagnitudeLoss(2.0)
    mixed = losses.mix(plain)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(mixed))
    for loss in (mixed, again):
        assert [(w, term.name, term.reads) for w, term in loss.terms()] == [
            (w, term.name, term.reads) for w, term in plain.terms()
        ]
        assert loss.needs_negatives
        assert all(isinstance(term, losses.MixedLoss) for _, term in loss.terms())
    outputs = {"logits": LOGITS, "features": LOGITS}
    np.testing.assert_allclose(again(Y, outputs), mixed(Y, outputs))
    assert mixed.smooth(0.2).terms()[0][1].loss.smoothing == 0.2
    assert mixed.of("roi1_").terms()[0][1].prefix == "roi1_"
    assert mixed.per_known().terms()[0][1].loss.per is not None
    with pytest.raises(ValueError, match="no sum"):
        losses.MixedLoss(plain)
