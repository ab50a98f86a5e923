"""Attention consistency: against NumPy, on nets that commute with mirroring and nets that do not, and under fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, layers, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.models import OpenSetModel

CLASSES = 3
SETS = np.array([[1, 0, IGNORE], [0, 0, 0], [IGNORE] * 3, [1, 1, 0]])
MULTI = {"multi_hot": SETS}
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 8, 12, 3)).astype("float32")


def net(symmetric=False, size=(8, 12), norm=False):
    """Images to maps at half size, with kernels that are their own mirror image or not."""
    images = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="conv")(x)
    x = keras.layers.BatchNormalization()(x) if norm else x
    model = OpenSetModel(images, heads.CAMHead(CLASSES)(keras.layers.AveragePooling2D(2)(x)))
    if symmetric:
        kernel = np.array(model.get_layer("conv").kernel)
        model.get_layer("conv").kernel.assign((kernel + kernel[:, ::-1]) / 2)
    return model


def watched(inner, **settings):
    images = keras.Input((8, 12, 3))
    return OpenSetModel(images, layers.Views(inner, **settings)(images))


def test_the_definition():
    rng = np.random.default_rng(1)
    cams, view = rng.normal(size=(2, 4, 5, 6, CLASSES))
    expected = [((cams[i] - view[i]) ** 2).mean() for i in (0, 1, 3)]
    outputs = {"cams": cams, "mirrored_cams": view}
    loss = losses.AttentionConsistencyLoss()
    np.testing.assert_allclose(loss(MULTI, outputs), np.mean(expected), rtol=1e-12)
    weight = np.array([1.0, 2.0, 7.0, 0.5])
    weighted = np.dot(expected, weight[[0, 1, 3]]) / 3
    np.testing.assert_allclose(loss(MULTI, outputs, weight), weighted, rtol=1e-12)
    smaller = losses.AttentionConsistencyLoss("smaller")
    classes = np.array([2, NEGATIVE, UNKNOWN, IGNORE])
    np.testing.assert_allclose(loss(classes, outputs), ((cams - view) ** 2)[:2].mean(), rtol=1e-12)
    np.testing.assert_allclose(smaller(MULTI, {**outputs, "smaller_cams": cams + 2.0}), 4.0, rtol=1e-12)


def test_a_net_that_commutes_with_mirroring_has_no_loss():
    loss = losses.AttentionConsistencyLoss()
    even, uneven = (watched(net(symmetric))(IMAGES, training=True) for symmetric in (True, False))
    np.testing.assert_allclose(loss(MULTI, even), 0.0, atol=1e-12)
    assert loss(MULTI, uneven) > 1e-5


@pytest.mark.parametrize("norm", [False, True])
def test_views_are_the_model_on_transformed_images(norm):
    inner = net(size=(None, None), norm=norm)
    found = watched(inner, smaller=0.75)(IMAGES, training=True)
    both = inner(np.concatenate([IMAGES, IMAGES[:, :, ::-1]]), training=True)
    np.testing.assert_allclose(found["cams"], both["cams"][:4], atol=1e-5)
    np.testing.assert_allclose(found["mirrored_cams"], both["cams"][4:, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(found["mirrored_logits"], both["logits"][4:], atol=1e-5)
    small = inner(tf.image.resize(IMAGES, (6, 9), antialias=True), training=True)
    np.testing.assert_allclose(found["smaller_logits"], small["logits"], atol=1e-5)
    assert tuple(small["cams"].shape) == (4, 3, 4, CLASSES)
    np.testing.assert_allclose(found["smaller_cams"], tf.image.resize(small["cams"], (4, 6)), atol=1e-5)


def test_outside_training_nothing_runs_twice():
    inner = net()
    model = watched(inner, smaller=0.5)
    found, plain = model(IMAGES, training=False), inner(IMAGES, training=False)
    for name, value in plain.items():
        for prefix in ("", "mirrored_", "smaller_"):
            np.testing.assert_array_equal(found[prefix + name], value)
    served = tf.function(lambda x: model(x, training=False)["logits"]).get_concrete_function(IMAGES)
    assert [op.type for op in served.graph.get_operations()].count("Conv2D") == 1


def test_it_trains_under_fit_and_reloads(tmp_path):
    keras.utils.set_random_seed(0)
    loss = losses.WeightedSigmoidLoss([0.3] * CLASSES) + losses.AttentionConsistencyLoss()
    loss = loss + losses.AttentionConsistencyLoss("smaller")
    model = watched(net(size=(None, None), norm=True), smaller=0.75)
    model.compile(keras.optimizers.Adam(0.02), loss)
    history = model.fit(IMAGES, MULTI, epochs=30, verbose=0).history
    assert history["mirrored_attention"][0] > 2 * history["mirrored_attention"][-1]
    assert history["smaller_attention"][0] > 2 * history["smaller_attention"][-1]
    assert history["loss"][0] > history["loss"][-1]
    figures = model.evaluate(IMAGES, MULTI, verbose=0, return_dict=True)
    assert figures["mirrored_attention"] == figures["smaller_attention"] == 0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    before, after = (m.predict(IMAGES, verbose=0) for m in (model, again))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert again.loss.get_config() == model.loss.get_config()
    ours, theirs = (m.train_on_batch(IMAGES, MULTI, return_dict=True) for m in (model, again))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_view_that_is_classified_as_well():
    outputs = watched(net())(IMAGES, training=True)
    loss = losses.MultiLabelCrossEntropyLoss()
    own = loss.of("mirrored_")
    plain = loss(MULTI, {"logits": outputs["mirrored_logits"]})
    np.testing.assert_allclose(own(MULTI, outputs), plain, rtol=1e-6)


def test_config_round_trip():
    loss = losses.AttentionConsistencyLoss("smaller", name="ac")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert again.reads == ("cams", "smaller_cams")
    assert losses.AttentionConsistencyLoss().name == "mirrored_attention"


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"mirrored_cams.*`layers.Views` of a model"):
        losses.AttentionConsistencyLoss()(MULTI, {"cams": np.zeros((4, 2, 2, 3))})
    for wrong in (0, 1, 1.5, -0.2):
        with pytest.raises(ValueError, match="`smaller`"):
            layers.Views(net(), smaller=wrong)
