"""A small classifier of images that would answer wrongly in training mode, and what NumPy makes of its outputs."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from cplus1_keras import scores
from cplus1_keras.layers import Reject

NAMES = ["cat", "dög", "eel"]
SHAPE = (8, 10, 3)


def build(extra=None, background=False, shape=SHAPE):
    """A model that answers wrongly when any of its layers runs in training mode."""
    keras.utils.set_random_seed(3)
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(images)
    x = layers.RandomFlip("horizontal")(x)  # defaults to training=True, which leaks to the layers below
    x = layers.Conv2D(4, 3)(x)
    x = layers.BatchNormalization(momentum=0.5)(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    if extra is not None:
        x = extra(x)
    features = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
    steep = keras.initializers.RandomNormal(stddev=5)
    logits = layers.Dense(len(NAMES) + background, kernel_initializer=steep)(features)
    model = keras.Model(images, {"features": features, "logits": logits})
    if None not in shape:
        model(pixels(32, shape, seed=1), training=True)  # moving statistics away from their start
    return model


def pixels(count, shape=SHAPE, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *shape)).astype("float32")


def rejecting(model, score=scores.log_odds):
    """A Reject that accepts about half of the images of `pixels`, and their answers by NumPy from `predict`."""
    logits = model.predict(pixels(16), verbose=0)["logits"].astype("float64")
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(-1, keepdims=True))[:, : len(NAMES)]
    best = probabilities.max(-1)
    values = np.log(best) - np.log1p(-best)
    threshold = float(np.sort(values)[7:9].mean())
    class_id = np.where(values >= threshold, probabilities.argmax(-1), -1)
    names = [NAMES[k] if k >= 0 else "unknown" for k in class_id]
    expected = {"class_id": class_id, "class_name": names, "score": values, "known": class_id >= 0}
    return Reject(len(NAMES), threshold, score), {**expected, "probabilities": probabilities}


def agree(answer, expected, tolerance=1e-4):
    for name in ("class_id", "known"):
        np.testing.assert_array_equal(answer[name], expected[name])
    for name in ("score", "probabilities"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="session")
def small():
    return types.SimpleNamespace(build=build, pixels=pixels, rejecting=rejecting, agree=agree, NAMES=NAMES)
