"""The Gaussian head: log-densities, their most likely class, and what it hands to losses and scores."""

import keras
import numpy as np

from cplus1_keras import heads, losses
from cplus1_keras.labels import NEGATIVE

FEATURES = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")


def test_logits_are_log_densities():
    head = heads.GaussianHead(4, prefix="own_")
    outputs = head(FEATURES)
    assert [weight.name for weight in head.weights] == ["means"]
    difference = FEATURES[..., None, :] - head.means.numpy()
    density = np.exp(-0.5 * (difference**2).sum(-1))
    np.testing.assert_allclose(np.exp(outputs["own_logits"]), density, rtol=1e-5)
    np.testing.assert_allclose(outputs["own_squared_distances"], -2 * np.log(density), rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()


def test_means_move_to_their_class():
    """The likelihood alone, at rate 1: each mean takes a step of its share of the way to its samples."""
    head = heads.GaussianHead(2)
    outputs = head(FEATURES[0])
    tensors = {**outputs, **head.provide(outputs)}
    value = losses.CompactnessLoss()(np.array([0, 0, NEGATIVE]), tensors)
    expected = np.mean(((FEATURES[0, :2] - head.means.numpy()[0]) ** 2).sum(-1)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-6)
