"""The linear head."""

import keras
import numpy as np
import pytest

from cplus1_keras import heads

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_logits(use_bias, background):
    head = heads.LinearHead(4, use_bias=use_bias, background=background)
    outputs = head(FEATURES)
    assert set(outputs) == {"features", "logits"}
    assert outputs["logits"].shape == (2, 3, 4 + background)
    assert [weight.name for weight in head.weights] == ["kernel"] + ["bias"] * use_bias
    if use_bias:
        head.bias.assign(np.arange(4.0 + background))
    expected = FEATURES @ head.kernel.numpy() + (np.arange(4 + background) if use_bias else 0)
    np.testing.assert_allclose(head(FEATURES)["logits"], expected, rtol=1e-5, atol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()


@pytest.mark.parametrize("kind", [heads.LinearHead, lambda c, **k: heads.CosineHead(c, 20.0, **k)])
@pytest.mark.parametrize(
    ("policy", "given", "expected"),
    [
        ("mixed_float16", "float16", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("float64", "float64", "float64"),
    ],
)
def test_precision(kind, policy, given, expected):
    outputs = kind(3, dtype=policy)(keras.ops.cast(FEATURES, given))
    assert {keras.backend.standardize_dtype(tensor.dtype) for tensor in outputs.values()} == {expected}


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, True])
def test_num_classes(num_classes):
    with pytest.raises(ValueError, match="`num_classes` must be an integer >= 1"):
        heads.LinearHead(num_classes)
