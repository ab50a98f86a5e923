"""Anchor heads with cross-entropy are E-NCM and C-NCM."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from cplus1_keras import OpenSetModel, anchors, heads, losses
from cplus1_keras.labels import NEGATIVE

HEADS = [heads.EuclideanAnchorHead, heads.CosineAnchorHead]
both = pytest.mark.parametrize("kind", HEADS)


def evaluate(head, labels, features, loss=None):
    """Outputs, loss, and its gradient for the features."""
    features = tf.convert_to_tensor(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = head(features)
        value = (loss or losses.CrossEntropyLoss())(labels, outputs)
    return outputs, value, tape.gradient(value, features)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(HEADS[0], "derived_encm_ortho10_d256_f64"), (HEADS[1], "derived_cncm_ortho10_d256_f64")],
)
def test_golden_ncm(golden, kind, name):
    case = golden(name)
    head = kind(case["anchors"], dtype="float64")
    outputs, value, gradient = evaluate(head, case["labels"], case["features"])
    np.testing.assert_allclose(outputs["logits"], case["neg_distance_logits"], rtol=1e-9)
    np.testing.assert_allclose(outputs["distances"], -case["neg_distance_logits"], rtol=1e-9)
    np.testing.assert_allclose(value, case["loss"], rtol=1e-9)
    np.testing.assert_allclose(gradient, case["grad_features"], rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(np.argmax(outputs["logits"], axis=-1), case["prediction"])


def test_golden_cac_tuplet_is_encm(golden):
    case = golden("cac_tuplet_is_encm_f64")
    head = heads.EuclideanAnchorHead(case["anchors"], dtype="float64")
    outputs, value, gradient = evaluate(head, case["labels"], case["features"])
    np.testing.assert_allclose(outputs["distances"], case["distances"], rtol=1e-9)
    np.testing.assert_allclose(value, case["tuplet"], rtol=1e-9)
    np.testing.assert_allclose(gradient, case["grad_tuplet"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "distance"), [(HEADS[0], 2**0.5), (HEADS[1], 1.0)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_floor_of_the_loss(kind, distance, scale):
    """In its anchor: log(1 + 9 exp(-s d)), which is 1.159 and 1.461 for s = 1; the gradient of E-NCM is finite."""
    points = anchors.orthonormal(10, 16)
    _, value, gradient = evaluate(kind(points, scale=scale), np.arange(10), points.astype("float32"))
    np.testing.assert_allclose(value, np.log1p(9 * np.exp(-scale * distance)), rtol=1e-6)
    assert np.isfinite(gradient).all()
    if scale == 1.0:
        assert round(float(value), 3) == {2**0.5: 1.159, 1.0: 1.461}[distance]


def test_in_an_anchor_the_distance_is_zero_with_gradient_zero():
    """Of any anchors, not only of those whose products are exact."""
    points = anchors.spread(9, 4).astype("float32")
    head = heads.EuclideanAnchorHead(points)
    features = tf.constant(points)
    with tf.GradientTape() as tape:
        tape.watch(features)
        own = tf.linalg.diag_part(head(features)["distances"])
    np.testing.assert_array_equal(own, np.zeros(9))
    np.testing.assert_array_equal(tape.gradient(own, features), np.zeros((9, 4)))


def test_small_distances_keep_their_digits():
    points = 13 * anchors.spread(9, 4).astype("float32")
    near = points + np.float32(1e-3)
    distances = np.diag(heads.EuclideanAnchorHead(points)(near)["distances"])
    exact = np.linalg.norm(near.astype("float64") - points, axis=-1)
    np.testing.assert_allclose(distances, exact, rtol=1e-6)


@both
def test_distances_by_definition(kind):
    features = np.random.default_rng(0).normal(size=(2, 3, 4))
    points = np.random.default_rng(1).normal(size=(5, 4))
    outputs = kind(points, scale=2.0, dtype="float64")(features)
    if kind is heads.EuclideanAnchorHead:
        expected = np.linalg.norm(features[..., None, :] - points, axis=-1)
    else:
        products = features @ points.T / np.linalg.norm(points, axis=-1)
        expected = 1 - products / np.linalg.norm(features, axis=-1, keepdims=True)
        np.testing.assert_allclose(outputs["cosines"], 1 - expected, rtol=1e-12)
        np.testing.assert_array_equal(outputs["scale"], np.full((2, 3, 1), 2.0))
    np.testing.assert_allclose(outputs["distances"], expected, rtol=1e-12)
    np.testing.assert_allclose(outputs["logits"], -2 * expected, rtol=1e-12)


def test_margins_work_on_cosine_anchors():
    """CosFace lowers the true class's logit by scale times margin."""
    head = heads.CosineAnchorHead(anchors.orthonormal(3, 4), scale=10.0)
    features = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    _, value, _ = evaluate(head, np.arange(3), features, losses.CrossEntropyLoss(losses.CosFace(0.35)))
    logits = np.array(head(features)["logits"]) - 3.5 * np.eye(3)
    expected = np.mean(np.log(np.exp(logits).sum(-1)) - np.diag(logits))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@both
def test_zero_and_huge_features_are_finite(kind):
    points = anchors.simplex(4, 5)
    features = np.array([np.zeros(5), 1e4 * np.ones(5), points[0], -points[1]], "float32")
    for head in (kind(points), kind(points, scale=1e4)):
        outputs, value, gradient = evaluate(head, np.array([0, 1, 2, NEGATIVE]), features)
        for result in (*outputs.values(), value, gradient):
            assert np.isfinite(result).all()


@both
def test_one_class(kind):
    _, value, gradient = evaluate(kind([[1.0, 0.0]]), np.array([0, NEGATIVE]), np.ones((2, 2), "float32"))
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))


@both
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_graph_is_eager(kind, jit):
    head = kind(anchors.spread(9, 4), dtype="float64")
    features, labels = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 3, -1, 8, 2, -100])

    @tf.function(jit_compile=jit)
    def compiled(features):
        return evaluate(head, labels, features)[1:]

    for a, b in zip(compiled(tf.constant(features)), evaluate(head, labels, features)[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@both
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float32", "float64"])
def test_precision(kind, dtype):
    features = tf.cast(np.random.default_rng(0).normal(size=(3, 4)), dtype.removeprefix("mixed_"))
    outputs = kind(anchors.simplex(4, 4), dtype=dtype)(features)
    wide = "float64" if dtype == "float64" else "float32"
    assert {tensor.dtype for tensor in outputs.values()} == {tf.as_dtype(wide)}
    expected = kind(anchors.simplex(4, 4), dtype="float64")(tf.cast(features, "float64"))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=tolerance, atol=tolerance)


@both
def test_second_derivatives_are_right(kind):
    head, step = kind(anchors.spread(5, 3), dtype="float64"), 1e-5
    labels, direction = np.array([0, 4, 2]), np.random.default_rng(1).normal(size=(3, 3))

    def first(features):
        return evaluate(head, labels, features)[2]

    features = tf.constant(np.random.default_rng(0).normal(size=(3, 3)))
    with tf.GradientTape() as tape:
        tape.watch(features)
        along = tf.reduce_sum(first(features) * direction)
    difference = (first(features + step * direction) - first(features - step * direction)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(along, features), difference, atol=1e-8)


@both
def test_config_round_trip(kind):
    head = kind(anchors.spread(9, 4, seed=3), scale=4.0, name="head")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert again.get_config() == head.get_config()
    assert again.num_classes == 9
    features = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(again(features)["logits"], head(features)["logits"])


@both
def test_fit_save_and_load(kind, tmp_path):
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images, labels = (images[:300] / 16).astype("float32"), labels[:300]
    inputs = keras.Input((64,))
    features = keras.layers.Dense(16)(keras.layers.Dense(32, activation="relu")(inputs))
    model = OpenSetModel(inputs, kind(anchors.orthonormal(10, 16), scale=10.0)(features))
    model.compile(keras.optimizers.Adam(0.01), losses.CrossEntropyLoss())
    model.fit(images, labels, epochs=12, verbose=0)
    predicted = model.predict(images, verbose=0)
    assert np.mean(np.argmax(predicted["logits"], axis=-1) == labels) > 0.95
    assert not model.layers[-1].weights
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").predict(images, verbose=0)
    np.testing.assert_array_equal(again["distances"], predicted["distances"])


@both
def test_wrong_settings_are_refused(kind):
    for wrong in (np.ones(3), np.zeros((0, 3)), [[1.0, float("nan")]]):
        with pytest.raises(ValueError, match="`anchors` must be finite points"):
            kind(wrong)
    with pytest.raises(ValueError, match="same anchor"):
        kind(np.ones((2, 3)))
    with pytest.raises(ValueError, match="`scale` must be a number > 0"):
        kind(np.eye(3), scale=0.0)
    with pytest.raises(ValueError, match="The anchors have 3 features"):
        kind(np.eye(3))(np.ones((2, 4), "float32"))


def test_a_zero_anchor_has_no_direction():
    with pytest.raises(ValueError, match="no direction"):
        heads.CosineAnchorHead([[0.0, 0.0], [1.0, 0.0]])
