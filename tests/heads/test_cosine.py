"""The cosine head."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5))


@pytest.mark.parametrize("scale", [None, 20.0])
@pytest.mark.parametrize("background", [False, True])
def test_outputs(scale, background):
    head = heads.CosineHead(4, scale, background=background, dtype="float64")
    outputs = head(FEATURES)
    kernel, length = head.kernel.numpy(), np.linalg.norm(FEATURES, axis=-1, keepdims=True)
    cosines = FEATURES @ kernel / length / np.linalg.norm(kernel, axis=0)
    assert outputs["logits"].shape == (2, 3, 4 + background)
    np.testing.assert_allclose(outputs["cosines"], cosines, rtol=1e-12)
    np.testing.assert_allclose(outputs["scale"], length if scale is None else np.full((2, 3, 1), 20.0), rtol=1e-12)
    np.testing.assert_allclose(outputs["logits"], cosines * (length if scale is None else 20.0), rtol=1e-12)
    np.testing.assert_array_equal(outputs["features"], FEATURES)
    assert [weight.name for weight in head.weights] == ["kernel"]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()


def test_kernel_norms_are_handed_without_gradient():
    head = heads.CosineHead(4, 20.0, background=True)
    outputs = head(FEATURES)
    with tf.GradientTape() as tape:
        norms = head.provide(outputs)["kernel_norms"]
    np.testing.assert_allclose(norms, np.linalg.norm(head.kernel.numpy(), axis=0), rtol=1e-6)
    assert norms.shape == (5,)
    assert tape.gradient(norms, head.kernel.value) is None


@pytest.mark.parametrize("scale", [None, 20.0])
def test_zero_features_and_zero_weights(scale):
    head = heads.CosineHead(2, scale)
    features = tf.Variable([[0.0, 0.0], [3.0, 4.0]])
    head.build((None, 2))
    head.kernel.assign([[1.0, 0.0], [0.0, 0.0]])
    with tf.GradientTape() as tape:
        logits = head(features)["logits"]
    of_features, of_kernel = tape.gradient(logits, [features, head.kernel.value])
    np.testing.assert_array_equal(logits[0], 0)
    np.testing.assert_array_equal(logits[:, 1], 0)
    np.testing.assert_allclose(of_features[0], [1.0, 0.0] if scale is None else 0)
    np.testing.assert_array_equal(of_kernel[:, 1], 0)


def test_a_scale_below_the_bound_warns():
    with pytest.warns(UserWarning, match=r"scale=5 is below 13\.0, .* 10 classes .*Eq 3\.11"):
        heads.CosineHead(10, scale=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heads.CosineHead(10, scale=13)
        heads.CosineHead(10, scale=None)
        heads.CosineHead(1, scale=1.0)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_scale(scale):
    with pytest.raises(ValueError, match="hard normalisation"):
        heads.CosineHead(10, scale=scale)


def test_a_short_feature_of_half_precision_has_a_finite_gradient():
    """1e-6 long: the direction's gradient, about 1e6, is beyond float16's largest number."""
    features = tf.constant(np.full((1, 4), 5e-7), tf.float16)
    head = heads.CosineHead(3, scale=16.0, dtype="float16")
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = tf.reduce_sum(head(features)["logits"][:, 0])
    gradient = tape.gradient(value, features).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e4
