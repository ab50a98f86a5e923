"""The C+1 loss against golden numbers, by hand, and by the laws that every loss obeys."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import heads, layers, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.losses import compactness as module
from cplus1_keras.numerics import derivatives, distances

CLASSES, FEATURES = 3, 5
LABELS = np.array([0, 2, NEGATIVE, 1, UNKNOWN, 2, IGNORE, NEGATIVE, 1, 0, NEGATIVE, 2])
LOSSES = {
    "compactness": losses.CompactnessLoss(),
    **{
        f"{distance}-{reduction}": losses.BackgroundMarginLoss(1.7, distance, reduction)
        for distance in ("euclidean", "squared_euclidean", "cosine")
        for reduction in ("mean", "sum")
    },
    "cplus1": losses.cplus1(background=0.3, margin=1.7),
}
every = pytest.mark.parametrize("name", list(LOSSES))


def batch(seed=0, shape=(12,), dtype="float64"):
    """Features about as far from the centres as the margin."""
    return 0.5 * np.random.default_rng(seed).normal(size=(*shape, FEATURES)).astype(dtype)


CENTERS = batch(1, (CLASSES,))
KERNEL = np.random.default_rng(2).normal(size=(FEATURES, CLASSES + 1))


def evaluate(loss, labels, features, centers=CENTERS, sample_weight=None, **provided):
    """Value, and gradients for features and centres."""
    features, centers = tf.convert_to_tensor(features), tf.convert_to_tensor(centers)
    with tf.GradientTape() as tape:
        tape.watch([features, centers])
        logits = tf.tensordot(features, tf.cast(KERNEL, features.dtype), 1)
        value = loss(labels, {"embeddings": features, "centers": centers, "logits": logits, **provided}, sample_weight)
    gradients = tape.gradient(value, [features, centers], unconnected_gradients="zero")
    return [value, *map(tf.convert_to_tensor, gradients)]


def assert_close(first, second, rtol=1e-9, atol=1e-12):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def reference(name, labels, features, centers):
    """The definition, class by class, for one loss with plain numpy."""
    values = []
    for y, f in zip(labels, features, strict=True):
        if name == "compactness" and y >= 0:
            values.append(0.5 * sum((f[j] - centers[y, j]) ** 2 for j in range(len(f))))
        elif name != "compactness" and y == NEGATIVE:
            distance, reduction = name.split("-")
            shortfalls = []
            for c in centers:
                d = np.linalg.norm(f - c)
                cosine = f @ c / np.linalg.norm(f) / np.linalg.norm(c)
                d = {"euclidean": d, "squared_euclidean": d**2, "cosine": 1 - cosine}[distance]
                shortfalls.append(max(0.0, 1.7 - d))
            values.append(np.sum(shortfalls) / (len(centers) if reduction == "mean" else 1))
    return np.mean(values)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "cplus1"])
def test_the_definition(name):
    expected = reference(name, LABELS, batch(), CENTERS)
    assert expected > 0.1
    np.testing.assert_allclose(evaluate(LOSSES[name], LABELS, batch())[0], expected, rtol=1e-12)


@every
def test_gradients_are_differences(name):
    direction, towards = batch(5), batch(6, (CLASSES,))
    _, of_features, of_centers = evaluate(LOSSES[name], LABELS, batch())
    step = 1e-6
    ahead = evaluate(LOSSES[name], LABELS, batch() + step * direction, CENTERS + step * towards)[0]
    behind = evaluate(LOSSES[name], LABELS, batch() - step * direction, CENTERS - step * towards)[0]
    along = np.sum(of_features * direction) + np.sum(of_centers * towards)
    np.testing.assert_allclose(along, (ahead - behind) / (2 * step), rtol=1e-6)


def test_golden_center_loss(golden):
    case = golden("kaiyangzhou_center_f64")  # without the half
    value, of_features, of_centers = evaluate_compactness(case)
    np.testing.assert_allclose(value, case["half_convention_loss"], rtol=1e-8)
    np.testing.assert_allclose(2 * value, case["loss"], rtol=1e-8)
    np.testing.assert_allclose(2 * of_features, case["grad_features"], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(2 * of_centers, case["grad_centers"], rtol=1e-8, atol=1e-9)


def evaluate_compactness(case):
    features, centers = tf.constant(case["features"]), tf.constant(case["centers"])
    with tf.GradientTape() as tape:
        tape.watch([features, centers])
        value = losses.CompactnessLoss()(case["labels"], {"embeddings": features, "centers": centers})
    return [value, *tape.gradient(value, [features, centers])]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_golden_background_margin(golden, reduction):
    case = golden("derived_lbackground_euclidean_f64")
    loss = losses.BackgroundMarginLoss(5.0, class_reduction=reduction)
    features, centers = tf.constant(case["features"]), tf.constant(case["centers"])
    with tf.GradientTape() as tape:
        tape.watch([features, centers])
        value = loss(case["labels"], {"embeddings": features, "centers": centers})
    of_features, of_centers = tape.gradient(value, [features, centers])
    np.testing.assert_allclose(value, case[f"{reduction}_loss"], rtol=1e-10)
    np.testing.assert_allclose(of_features, case[f"{reduction}_grad_features"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(of_centers, case[f"{reduction}_grad_centers"], rtol=1e-10, atol=1e-10)
    values = module.background_margin(case["labels"], features, centers, 5.0, class_reduction=reduction)
    negative = case["labels"] == NEGATIVE
    np.testing.assert_allclose(values[negative], case[f"{reduction}_per_bg_sample"], rtol=1e-10)
    np.testing.assert_array_equal(values[~negative], 0)


def test_golden_batch_without_background(golden):
    case = golden("derived_lbackground_nobg_f64")
    features = tf.constant(case["features"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = {"embeddings": features, "centers": tf.constant(case["centers"])}
        value = losses.BackgroundMarginLoss(1.0)(case["labels"], outputs)
    np.testing.assert_array_equal(value, case["loss"])
    np.testing.assert_array_equal(tape.gradient(value, features), case["grad_features"])


def test_golden_cplus1_with_moving_averages(golden):
    """Head, centres updated before the loss reads them, and all three terms."""
    case = golden("derived_cplus1_moving_average_f64")
    head, centers = heads.LinearHead(4, use_bias=True, background=True, dtype="float64"), None
    features = tf.constant(case["features"])
    head(features)
    head.kernel.assign(case["W"])
    head.bias.assign(case["b"])
    centers = layers.MovingAverageCenters(4, dtype="float64")
    centers(head(features))
    centers.centers.assign(case["centers_before"])
    centers.seen.assign(np.ones(4))
    loss = losses.cplus1(compactness=0.1, background=1e-4, margin=1.2)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = centers(head(features))
        centers.update(case["labels"], outputs)
        outputs.update(centers.provide(outputs))
        value = loss(case["labels"], outputs)
    of_features, of_kernel = tape.gradient(value, [features, head.kernel.value])
    terms = [term(case["labels"], outputs) for _, term in loss.terms()]
    np.testing.assert_allclose(terms, [case["L_sep"], case["L_compact"], case["L_background"]], rtol=1e-9)
    np.testing.assert_allclose(value, case["total"], rtol=1e-9)
    np.testing.assert_allclose(outputs["centers"], case["centers_used"], rtol=1e-9)
    np.testing.assert_allclose(of_features, case["grad_features"], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(of_kernel, case["grad_W"], rtol=1e-9, atol=1e-10)


@every
def test_an_unseen_class_is_as_if_it_were_not_there(name):
    if name == "cplus1":
        pytest.skip("its cross-entropy counts all classes")
    labels = np.where(LABELS == 2, IGNORE, LABELS)
    seen = tf.constant([True, True, False])
    broken = np.where(np.arange(3)[:, None] == 2, 1e3, CENTERS)
    value, of_features, of_centers = evaluate(LOSSES[name], labels, batch(), broken, centers_seen=seen)
    expected = evaluate(LOSSES[name], labels, batch(), CENTERS[:2])
    assert_close([value, of_features, of_centers[:2]], expected)
    np.testing.assert_array_equal(of_centers[2], 0)


def test_no_class_seen_is_exactly_zero():
    for name in ("compactness", "euclidean-mean", "euclidean-sum"):
        for result in evaluate(LOSSES[name], LABELS, batch(), centers_seen=tf.constant([False] * 3)):
            np.testing.assert_array_equal(result, 0)


@every
def test_masked_is_absent(name):
    seen = np.isin(LABELS, [UNKNOWN, IGNORE], invert=True)
    value, of_features, of_centers = evaluate(LOSSES[name], LABELS, batch())
    expected = evaluate(LOSSES[name], LABELS[seen], batch()[seen])
    assert_close([value, of_features.numpy()[seen], of_centers], expected)
    np.testing.assert_array_equal(of_features.numpy()[~seen], 0)


@every
def test_dense_is_flattened(name):
    dense = batch(shape=(2, 3, 2))
    value, of_features, of_centers = evaluate(LOSSES[name], LABELS.reshape(2, 3, 2), dense)
    flat = evaluate(LOSSES[name], LABELS, dense.reshape(-1, FEATURES))
    assert_close([value, tf.reshape(of_features, (-1, FEATURES)), of_centers], flat)


@every
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_graph_is_eager(name, jit):
    @tf.function(jit_compile=jit)
    def compiled(labels, features):
        return evaluate(LOSSES[name], labels, features)

    assert_close(compiled(tf.constant(LABELS), tf.constant(batch())), evaluate(LOSSES[name], LABELS, batch()))


@pytest.mark.parametrize(
    ("name", "nothing"),
    [("compactness", NEGATIVE), ("compactness", IGNORE), ("euclidean-mean", 1), ("cosine-sum", UNKNOWN)],
)
def test_nothing_counted_is_exactly_zero(name, nothing):
    for result in evaluate(LOSSES[name], np.full(12, nothing), batch()):
        np.testing.assert_array_equal(result, 0)


@every
def test_config_round_trip(name):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(LOSSES[name]))
    assert again.get_config() == LOSSES[name].get_config()
    assert_close(evaluate(again, LABELS, batch()), evaluate(LOSSES[name], LABELS, batch()), rtol=0, atol=0)


@every
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_precision(name, dtype):
    """Half precision is computed in float32; float64 stays."""
    features, centers = tf.cast(batch(), dtype), tf.cast(CENTERS, dtype)
    value, of_features, _ = evaluate(LOSSES[name], LABELS, features, centers)
    assert value.dtype == ("float64" if dtype == "float64" else "float32")
    wide = [tf.cast(tensor, "float64") for tensor in (features, centers)]
    expected = evaluate(LOSSES[name], LABELS, *wide)
    tolerance = {"float64": 0, "float32": 1e-5}.get(dtype, 0.02)  # of the logits and the gradients, cast back
    np.testing.assert_allclose(value, expected[0], rtol=tolerance)
    np.testing.assert_allclose(tf.cast(of_features, "float64"), expected[1], rtol=tolerance, atol=tolerance)


@every
def test_finite_at_the_edges(name):
    """A feature in a centre, zero and huge features, a zero centre, one class."""
    features = np.stack([CENTERS[0], 0 * CENTERS[0], 1e4 * CENTERS[1], CENTERS[2], CENTERS[0], 0 * CENTERS[0]])
    labels = np.array([0, 1, 2, NEGATIVE, NEGATIVE, NEGATIVE])
    for dtype in ("float32", "float64"):
        centers = np.where(np.arange(3)[:, None] == 1, 0, CENTERS).astype(dtype)
        for result in evaluate(LOSSES[name], labels, features.astype(dtype), centers):
            assert np.isfinite(result).all()
        if name != "cplus1":
            for result in evaluate(LOSSES[name], np.minimum(labels, 0), features.astype(dtype), centers[:1]):
                assert np.isfinite(result).all()


def test_in_a_centre_the_gradient_is_zero():
    value, of_features, of_centers = evaluate(
        LOSSES["euclidean-sum"], np.array([NEGATIVE]), np.zeros((1, 5)), np.zeros((1, 5))
    )
    np.testing.assert_allclose(value, 1.7)
    np.testing.assert_array_equal(of_features, np.zeros((1, 5)))
    np.testing.assert_array_equal(of_centers, np.zeros((1, 5)))


@every
def test_second_derivatives_are_right(name):
    step, direction = 1e-5, batch(seed=5)

    def along(features):
        features = tf.convert_to_tensor(features)
        with tf.GradientTape() as outer:
            outer.watch(features)
            with tf.GradientTape() as tape:
                tape.watch(features)
                logits = tf.matmul(features, KERNEL)
                outputs = {"embeddings": features, "centers": tf.constant(CENTERS), "logits": logits}
                value = LOSSES[name](LABELS, outputs)
            first = tape.gradient(value, features)
            projected = tf.reduce_sum(first * direction)
        return first, outer.gradient(projected, features)

    second = along(batch())[1]
    difference = (along(batch() + step * direction)[0] - along(batch() - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose(second, difference, atol=1e-6)


def test_the_own_distance_keeps_its_digits_in_float32():
    center = np.full((1, 64), 13 / 8, "float32")
    features = center + np.float32(1.25e-4)  # d² = 1e-6 at norm 13; a matrix product gives ±9e-5
    value = losses.CompactnessLoss()(np.array([0]), {"embeddings": features, "centers": center})
    exact = 0.5 * np.sum((features.astype("float64") - center) ** 2)
    np.testing.assert_allclose(value, exact, rtol=1e-5)


def test_a_label_beyond_the_classes_gives_nan():
    assert np.isnan(evaluate(losses.CompactnessLoss(), np.array([0, CLASSES]), batch()[:2])[0])


def test_sample_weight_scales_the_numerator_only():
    weight = np.arange(12.0)
    weighted = evaluate(losses.CompactnessLoss(), LABELS, batch(), sample_weight=weight)[0]
    values = module.compactness(LABELS, tf.constant(batch()), tf.constant(CENTERS))
    np.testing.assert_allclose(weighted, np.sum(weight * values) / np.sum(LABELS >= 0), rtol=1e-12)


def test_of_another_head_everything_but_what_all_share_is_its_own():
    loss = losses.CompactnessLoss().of("roi1_")
    seen = np.array([True, True, False])
    given = {"roi1_embeddings": batch(), "roi1_centers": CENTERS, "roi1_centers_seen": seen}
    own = {"embeddings": batch(), "centers": CENTERS, "centers_seen": seen}
    # What the layers of the first head provide is not of these.
    first = {"embeddings": 0 * batch(), "squared_distances": np.zeros((12, 3)), "centers_seen": ~seen}
    assert float(loss(LABELS, {**first, **given})) == float(losses.CompactnessLoss()(LABELS, own))
    with pytest.raises(ValueError, match=r"reads \['roi1_centers'\]"):
        loss(LABELS, {**own, "roi1_embeddings": batch()})


@pytest.mark.parametrize("normalize", [True, False])
@every
def test_distances_at_hand_give_the_same(name, normalize):
    """As a layer of centres hands them over, so that the terms share them."""
    features, centers = tf.constant(batch()), tf.constant(CENTERS)
    results = []
    for at_hand in (True, False):
        with tf.GradientTape() as tape:
            tape.watch([features, centers])
            embeddings = derivatives.unit(features) if normalize else features
            outputs = {"embeddings": embeddings, "centers": centers, "logits": features @ KERNEL}
            if at_hand:
                square = distances.unit_squared_distances if normalize else distances.squared_distances
                outputs["squared_distances"] = square(features, centers)
            value = LOSSES[name](LABELS, outputs)
        gradients = tape.gradient(value, [features, centers], unconnected_gradients="zero")
        results.append([value, *map(tf.convert_to_tensor, gradients)])
    assert_close(*results)


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"margin": 0.0}, "must be > 0"),
        ({"margin": float("nan")}, "must be > 0"),
        ({"margin": 2.5, "distance": "cosine"}, "at most 2"),
        ({"margin": 1.0, "distance": "manhattan"}, "`distance` must be one of"),
        ({"margin": 1.0, "class_reduction": "max"}, "`class_reduction` must be one of"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, needed):
    with pytest.raises(ValueError, match=needed):
        losses.BackgroundMarginLoss(**settings)


def test_missing_centers_are_named():
    with pytest.raises(ValueError, match=r"reads \['centers'\].*does not give.*MovingAverageCenters"):
        losses.CompactnessLoss()(LABELS, {"embeddings": batch()})


def test_outside_probability():
    assert losses.outside_probability(1, 1.0, 2.0, 3) == pytest.approx(1 - 1 / 8)
    assert losses.outside_probability(5, 0.5, 1.0, 4) == pytest.approx(1 - 5 / 16)
    assert losses.outside_probability(20, 1.0, 1.0, 2) == 0.0  # more balls than fit
    assert losses.outside_probability(3, 0.0, 1.0, 7) == 1.0
    assert losses.outside_probability(10, 5.0, 1.0, 2048) == 0.0  # 5^2048 overflows
    # (1/2)^2048 underflows; what it leaves of 1 is told apart by logarithms only.
    assert losses.outside_probability(10**6, 0.99, 1.0, 2048) == pytest.approx(
        1 - math.exp(math.log(1e6) + 2048 * math.log(0.99))
    )
    with pytest.raises(ValueError, match="`feature_radius` > 0"):
        losses.outside_probability(1, 1.0, 0.0, 2)
