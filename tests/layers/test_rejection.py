"""The threshold as a layer: it decides as NumPy does, and comes back from a file."""

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras import scores
from cplus1_keras.calibration import threshold_at_coverage, threshold_at_fpr
from cplus1_keras.layers import Reject


def numpy(answer):
    return {name: ops.convert_to_numpy(value) for name, value in answer.items()}


def logits(n=500, entries=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, entries)).astype("float32") * 3


@pytest.mark.parametrize("background", [False, True])
def test_answers(background):
    given = logits(entries=4 + background)
    answer = numpy(Reject(4, 0.5)({"logits": given}))
    score = ops.convert_to_numpy(scores.log_odds({"logits": given}, 4))
    known = score >= 0.5
    assert 0 < known.sum() < len(known)
    np.testing.assert_array_equal(answer["known"], known)
    np.testing.assert_array_equal(answer["class_id"], np.where(known, given[:, :4].argmax(-1), -1))
    np.testing.assert_array_equal(answer["score"], score)
    p = np.exp(given) / np.exp(given).sum(-1, keepdims=True)
    np.testing.assert_allclose(answer["probabilities"], p[:, :4], rtol=1e-5)
    assert {name: str(value.dtype) for name, value in answer.items()} == {
        "class_id": "int32",
        "score": "float32",
        "known": "bool",
        "probabilities": "float32",
    }


def test_any_leading_axes():
    given = logits(24)
    flat, dense = numpy(Reject(4, 0.5)({"logits": given})), numpy(Reject(4, 0.5)({"logits": given.reshape(2, 3, 4, 4)}))
    for name in flat:
        np.testing.assert_array_equal(dense[name].reshape(flat[name].shape), flat[name])


@pytest.mark.parametrize("score", scores.NAMES)
def test_calibrated_threshold_accepts_what_its_evidence_says(score):
    given = {"logits": logits(entries=5), "features": logits(entries=7, seed=1)}
    values = ops.convert_to_numpy(scores.get(score)(given, 4))
    for calibration in (threshold_at_fpr(values, 0.1), threshold_at_coverage(values, 0.9)):
        answer = numpy(Reject(4, calibration.threshold, score=score)(given))
        assert answer["known"].sum() == calibration.accepted > 0


@pytest.mark.parametrize("position", [0, 3, 4])
def test_nan_is_refused_whatever_the_threshold(position):
    given = logits(entries=5)
    given[:, position] = np.nan
    for score in (name for name in scores.NAMES if name != "probability_times_magnitude"):
        answer = numpy(Reject(4, -np.inf, score=score)({"logits": given}))
        assert not answer["known"].any()
        assert (answer["class_id"] == -1).all()


def test_assigning_the_threshold():
    layer = Reject(4, 1e9)
    assert not numpy(layer({"logits": logits()}))["known"].any()
    layer.threshold.assign(-1e9)
    assert numpy(layer({"logits": logits()}))["known"].all()
    assert not layer.trainable_weights
    assert Reject.from_config(layer.get_config()).get_config() == layer.get_config()


@keras.saving.register_keras_serializable("tests")
def second_logit(outputs, num_classes):
    return outputs["logits"][..., 1]


@pytest.mark.parametrize("score", [scores.energy, "max_logit", second_logit])
def test_saved_in_a_model(tmp_path, score):
    keras.utils.set_random_seed(0)
    inputs, given = keras.Input((6,)), logits(50, 6)
    outputs = {"logits": keras.layers.Dense(4)(inputs), "features": inputs}
    model = keras.Model(inputs, Reject(4, 0.25, score=score, name="reject")(outputs))
    middle = float(np.median(model.predict(given, verbose=0)["score"]))
    model.get_layer("reject").threshold.assign(middle)  # not what the constructor was given
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    before, after = model.predict(given, verbose=0), again.predict(given, verbose=0)
    assert 0 < before["known"].sum() < 50
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert float(again.get_layer("reject").threshold.value) == np.float32(middle)


def test_stays_float32_under_half_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        layer = Reject(4, 0.5)
        answer = numpy(layer({"logits": ops.cast(logits(), "float16")}))
    finally:
        keras.config.set_dtype_policy(policy)
    assert answer["score"].dtype == answer["probabilities"].dtype == np.float32


def test_errors():
    for wrong in (None, "high", float("nan")):
        with pytest.raises(ValueError, match=r"must be a number.* Received"):
            Reject(4, wrong)
    with pytest.raises(ValueError, match="There is no score 'softmax'"):
        Reject(4, 0.5, score="softmax")
    with pytest.raises(ValueError, match="reads the output 'features'"):
        Reject(4, 0.5, score="probability_times_magnitude")({"logits": logits()})
