"""CAMHead: maps whose spatial mean is the logit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.labels import NEGATIVE


@pytest.mark.parametrize("use_bias", [True, False])
def test_golden_maps(golden, use_bias):
    case = golden("derived_cam_generation_f64")
    head = heads.CAMHead(6, use_bias=use_bias, dtype="float64")
    head.build(case["features_nhwc"].shape)
    head.kernel.assign(case["W"])
    if use_bias:
        head.bias.assign(case["b"])
    outputs = head(case["features_nhwc"])
    expected = case["cams_with_bias" if use_bias else "cams_no_bias"]
    np.testing.assert_allclose(outputs["cams"], expected, rtol=1e-10, atol=1e-10)
    logits = case["logits"] if use_bias else case["logits"] - case["b"]
    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(outputs["features"], case["features_nhwc"].mean(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(tf.reduce_mean(outputs["cams"], axis=(1, 2)), outputs["logits"])


def test_logits_are_those_of_a_linear_head_on_pooled_features():
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 7)).astype("float32")
    head, linear = heads.CAMHead(6), heads.LinearHead(6, use_bias=True)
    outputs = head(maps)
    linear(outputs["features"])
    linear.kernel.assign(head.kernel)
    linear.bias.assign(head.bias)
    np.testing.assert_allclose(outputs["logits"], linear(outputs["features"])["logits"], rtol=1e-5, atol=1e-6)


def test_it_takes_maps():
    assert heads.CAMHead.takes_maps
    assert not getattr(heads.LinearHead, "takes_maps", False)
    with pytest.raises(ValueError, match="before pooling"):
        heads.CAMHead(3)(np.ones((2, 5), "float32"))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float32", "float64"])
def test_precision(dtype):
    maps = tf.cast(np.ones((2, 3, 3, 5)), dtype.removeprefix("mixed_"))
    outputs = heads.CAMHead(4, dtype=dtype)(maps)
    assert {t.dtype for t in outputs.values()} == {tf.as_dtype("float64" if dtype == "float64" else "float32")}


def test_config_round_trip():
    head = heads.CAMHead(4, use_bias=False, name="head")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()


def test_shared_centers_work_on_it():
    head = heads.CAMHead(3)
    centers = layers.SharedCenters(head)
    outputs = centers(head(np.ones((2, 4, 4, 5), "float32")))
    assert centers.provide(outputs)["centers"].shape == (3, 5)
    assert outputs["embeddings"].shape == (2, 5)


@pytest.mark.parametrize("loss", [losses.HNCMSELoss(top_k=3), losses.HNCKDLoss(top_k=3)], ids=lambda loss: loss.name)
def test_fit_flattens_the_maps_of_absent_classes(loss, tmp_path):
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images, labels = (images[:300].reshape(-1, 8, 8, 1) / 16).astype("float32"), labels[:300]
    labels = np.where(labels < 6, labels, NEGATIVE)
    inputs = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(16, 3, activation="relu")(inputs)
    maps = keras.layers.Conv2D(16, 3, activation="relu")(maps)
    model = OpenSetModel(inputs, heads.CAMHead(6)(maps))
    model.compile(keras.optimizers.Adam(0.01), losses.CrossEntropyLoss() + 0.05 * loss)
    history = model.fit(images, labels, epochs=15, verbose=0).history
    assert history["cross_entropy"][-1] < 0.5 * history["cross_entropy"][0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(images, labels, verbose=0) == pytest.approx(model.evaluate(images, labels, verbose=0))
