"""A threshold for each class: it decides as NumPy does, and comes back from a file."""

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras.layers import Presence


def numpy(answer):
    return {name: ops.convert_to_numpy(value) for name, value in answer.items()}


@pytest.mark.parametrize("axes", [(500,), (5, 4, 25)])
def test_answers(axes):
    logits = np.random.default_rng(0).normal(size=(*axes, 3)).astype("float32") * 3
    thresholds = np.array([-1.0, 0.5, np.inf], "float32")
    answer = numpy(Presence(3, thresholds)({"logits": logits}))
    np.testing.assert_array_equal(answer["present"], logits >= thresholds)
    np.testing.assert_array_equal(answer["score"], logits)
    np.testing.assert_allclose(answer["probabilities"], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert {name: str(value.dtype) for name, value in answer.items()} == {
        "present": "bool",
        "score": "float32",
        "probabilities": "float32",
    }


def test_a_score_at_the_threshold_is_present_and_an_overflow_is_not():
    logits = np.array([[0.1, 0.0999999, np.nan], [np.inf, -np.inf, 0.1]], "float32")
    answer = numpy(Presence(3, 0.1)({"logits": logits}))
    assert answer["present"].tolist() == [[True, False, False], [False, False, True]]
    assert np.isnan(answer["score"]).tolist() == [[False, False, True], [True, False, False]]


def test_saved_in_a_model(tmp_path):
    inputs = keras.Input((4,))
    layer = Presence(2, [0.25, -0.5], name="presence")
    model = keras.Model(inputs, layer({"logits": keras.layers.Dense(2)(inputs)}))
    layer.thresholds.assign([0.125, -np.inf])  # not what the constructor was given
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    given = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
    before, after = model.predict(given, verbose=0), again.predict(given, verbose=0)
    assert 0 < before["present"][:, 0].sum() < 50
    assert before["present"][:, 1].all()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert not layer.trainable_weights
    assert Presence.from_config(layer.get_config()).get_config() == layer.get_config()


def test_stays_float32_under_half_precision():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        answer = numpy(Presence(1, 0.1)({"logits": ops.cast([[0.1]], "float16")}))
    finally:
        keras.config.set_dtype_policy(policy)
    assert answer["score"].dtype == answer["probabilities"].dtype == np.float32
    assert not answer["present"].any()  # 0.1 rounds down in float16


def test_errors():
    for wrong in (None, "high", float("nan"), [1.0, 2.0], [0.0, np.nan, 0.0]):
        with pytest.raises(ValueError, match=r"must be a number, or 3 of them\. Received"):
            Presence(3, wrong)
    with pytest.raises(ValueError, match=r"Presence of 3 classes needs as many logits.*\(2, 4\)"):
        Presence(3, 0.0)({"logits": np.zeros((2, 4), "float32")})
    with pytest.raises(ValueError, match="reads the output 'logits'"):
        Presence(3, 0.0)({"features": np.zeros((2, 4), "float32")})
