"""AdaCos against the paper's equations in numpy; the warm-up of margins."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.heads.adacos import adacos_scale
from cplus1_keras.labels import IGNORE, NEGATIVE


def reference(labels, cosines, scale):
    """Zhang et al. (2019), the equations of section 4.2, sample by sample."""
    total, angles = 0.0, []
    for label, row in zip(labels, cosines, strict=True):
        if label >= 0:
            total += sum(math.exp(scale * cosine) for c, cosine in enumerate(row) if c != label)
            angles.append(math.acos(row[label]))
    return math.log(total / len(angles)) / math.cos(min(math.pi / 4, float(np.median(angles))))


@pytest.mark.parametrize("known", [5, 6, 1])
@pytest.mark.parametrize("spread", [0.1, 0.9])
def test_scale_of_a_batch(known, spread):
    random = np.random.default_rng(known)
    cosines = random.uniform(-0.3, 0.3, size=(8, 6))
    labels = np.where(np.arange(8) < known, random.integers(0, 6, 8), [NEGATIVE, IGNORE] * 4)
    own = np.arange(8), np.maximum(labels, 0)
    cosines[own] = np.where(labels >= 0, 1 - spread * random.uniform(size=8), cosines[own])
    new = adacos_scale(tf.constant(labels, "int32"), tf.constant(cosines), tf.constant(4.0))
    np.testing.assert_allclose(new, reference(labels, cosines, 4.0), rtol=1e-12)
    dense = adacos_scale(tf.constant(labels.reshape(2, 4), "int32"), tf.constant(cosines.reshape(2, 4, 6)), 4.0)
    np.testing.assert_allclose(dense, new, rtol=1e-12)


def test_the_scale_stays_where_a_batch_says_nothing():
    cosines = tf.constant(np.zeros((3, 4)))
    assert float(adacos_scale(tf.constant([NEGATIVE, IGNORE, NEGATIVE]), cosines, 4.0)) == 4.0
    far = tf.constant([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0]])  # log B < 0
    assert float(adacos_scale(tf.constant([0, 1]), far, 40.0)) == 40.0


def test_head():
    head = heads.AdaCosHead(10, dtype="float64")
    features = tf.Variable(np.random.default_rng(0).normal(size=(6, 5)))
    labels = np.array([0, 3, NEGATIVE, 9, 1, 2])
    with tf.GradientTape() as tape:
        before = head(features)
        head.update(labels[:, None], before)
        after = {**before, **head.provide(before)}
        value = losses.CrossEntropyLoss()(labels, after)
    first = math.sqrt(2) * math.log(9)
    np.testing.assert_allclose(before["logits"], first * before["cosines"], rtol=1e-7)
    expected = reference(labels, before["cosines"].numpy(), first)
    np.testing.assert_allclose(head.scale, expected, rtol=1e-7)
    np.testing.assert_allclose(after["logits"], expected * before["cosines"], rtol=1e-7)
    np.testing.assert_allclose(after["scale"], np.full((6, 1), expected), rtol=1e-7)
    # The gradient is that of a cosine head with the new scale: none flows through the scale.
    fixed = heads.CosineHead(10, float(head.scale.numpy()) if expected > 13 else 20.0, dtype="float64")
    fixed.build((None, 5))
    fixed.kernel.assign(head.kernel)
    fixed.scale = float(head.scale.numpy())
    with tf.GradientTape() as other:
        of_fixed = losses.CrossEntropyLoss()(labels, fixed(features))
    np.testing.assert_allclose(value, of_fixed, rtol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, features), other.gradient(of_fixed, features), rtol=1e-9)


@pytest.mark.parametrize("num_classes", [1, 2])
def test_too_few_classes(num_classes):
    with pytest.raises(ValueError, match="needs `num_classes` >= 3"):
        heads.AdaCosHead(num_classes)


def test_both_layers_survive_save_and_load(tmp_path):
    """The scale and the step of the warm-up are weights; evaluation changes neither."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(32, 6)).astype("float32"), random.integers(-1, 4, 32)
    inputs = keras.Input((6,))
    model = OpenSetModel(inputs, layers.MarginWarmup(10)(heads.AdaCosHead(4)(keras.layers.Dense(5)(inputs))))
    model.compile("sgd", losses.CrossEntropyLoss(losses.GrowingMargin(losses.CosFace(0.3))))
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    warmup, head = model.layers[-1], model.layers[-2]
    assert int(warmup.step.numpy()) == 4
    scale = float(head.scale.numpy())
    assert scale != pytest.approx(math.sqrt(2) * math.log(3))
    evaluated = model.evaluate(x, y, verbose=0)
    assert (int(warmup.step.numpy()), float(head.scale.numpy())) == (4, scale)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (int(again.layers[-1].step.numpy()), float(again.layers[-2].scale.numpy())) == (4, scale)
    assert again.evaluate(x, y, verbose=0) == evaluated
    np.testing.assert_array_equal(again.predict(x, verbose=0)["logits"], model.predict(x, verbose=0)["logits"])
    again.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert int(again.layers[-1].step.numpy()) == 10  # it stops there
    assert float(again.layers[-1].provide({})["margin_fraction"]) == 1.0


def test_a_growing_margin_without_its_layer_is_named():
    outputs = heads.CosineHead(4, 20.0)(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match=r"reads \['margin_fraction'\]"):
        losses.CrossEntropyLoss(losses.GrowingMargin(losses.ArcFace(0.5)))(np.array([0, 1]), outputs)


@pytest.mark.parametrize("steps", [0, 1.5, True])
def test_steps(steps):
    with pytest.raises(ValueError, match="`steps` must be an integer >= 1"):
        layers.MarginWarmup(steps)
