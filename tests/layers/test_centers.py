"""Centres: their updates, what they hand over, and a life in `fit`, in files, on replicas."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

CLASSES, FEATURES = 3, 5
KINDS = ["moving_average", "learnable", "shared"]


def make_centers(kind, head, **settings):
    if kind == "moving_average":
        return layers.MovingAverageCenters(head.num_classes, name="centers", **settings)
    if kind == "learnable":
        return layers.LearnableCenters(head.num_classes, name="centers", **settings)
    return layers.SharedCenters(head, name="centers", **settings)


def make_model(kind, optimizer=None, num_classes=6, margin=1.2):
    keras.utils.set_random_seed(0)
    images = keras.Input((64,))
    features = keras.layers.Dense(16, activation="relu", name="hidden")(images)
    head = heads.LinearHead(num_classes, background=True, name="head")
    model = OpenSetModel(images, make_centers(kind, head)(head(features)))
    # Weights that make each term matter, and a learning rate at which rounding does not grow.
    model.compile(optimizer or keras.optimizers.SGD(0.01), losses.cplus1(0.5, 0.5, margin=margin))
    return model


def digits(count=96):
    """Known 0-5, negatives 6 and 7."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[labels < 8][:count] / 16, labels[labels < 8][:count]
    return images.astype("float32"), np.where(labels < 6, labels, NEGATIVE).astype("int32")


def weights(model):
    return {w.path: np.array(w) for w in model.weights}


def assert_same_weights(first, second, atol):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=atol, err_msg=name)


def in_a_process(script, *arguments):
    """The JSON lines that a script prints in a fresh process."""
    run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return [line for line in run.stdout.split("\n") if line.startswith("[")]


def test_golden_updates(golden):
    case = golden("derived_center_updates_f64")
    centers = layers.MovingAverageCenters(3, normalize=False, dtype="float64")
    outputs = centers({"features": tf.constant(case["features"])})
    centers.centers.assign(case["centers"])
    centers.update(case["labels"], outputs)
    np.testing.assert_allclose(centers.centers, case["ema09_firstcopy"], rtol=1e-12)  # an absent class stays
    np.testing.assert_array_equal(centers.provide(outputs)["centers_seen"], case["seen"])
    centers.centers.assign(case["centers"])
    centers.seen.assign(np.ones(3))
    centers.update(case["labels"], outputs)
    np.testing.assert_allclose(centers.centers, case["ema09_plain"], rtol=1e-12)


def test_updates_by_hand():
    centers = layers.MovingAverageCenters(3, momentum=0.75)
    features = tf.constant([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]])
    labels = np.array([0, 0, 2, NEGATIVE, UNKNOWN, IGNORE])
    outputs = centers({"features": features})
    np.testing.assert_allclose(outputs["embeddings"][:3], [[0.6, 0.8], [0, 1], [1, 0]], rtol=1e-6)
    centers.update(labels, outputs)
    # The first batch of a class sets its centre, which is not normalised again.
    np.testing.assert_allclose(centers.centers, [[0.3, 0.9], [0, 0], [1, 0]], rtol=1e-6)
    centers.update(np.array([2, IGNORE, 0, 1, -1, -1]), outputs)
    expected = [[0.75 * 0.3 + 0.25, 0.75 * 0.9], [0.5**0.5] * 2, [0.75 + 0.25 * 0.6, 0.25 * 0.8]]
    np.testing.assert_allclose(centers.centers, expected, rtol=1e-6)
    np.testing.assert_array_equal(centers.provide(outputs)["centers_seen"], [True] * 3)


def test_dense_labels_update_as_flat_ones():
    features = np.random.default_rng(0).normal(size=(2, 3, 4, FEATURES)).astype("float32")
    labels = np.random.default_rng(1).integers(-1, 3, size=(2, 3, 4))
    results = []
    for shape in ((2, 3, 4), (24,)):
        centers = layers.MovingAverageCenters(CLASSES)
        outputs = centers({"features": features.reshape(*shape, FEATURES)})
        centers.update(labels.reshape(shape), outputs)
        results.append(np.array(centers.centers))
    np.testing.assert_allclose(*results, rtol=1e-6)
    assert np.abs(results[0]).max() > 0.1


def test_labels_of_another_shape_are_refused():
    centers = layers.MovingAverageCenters(CLASSES)
    outputs = centers({"features": np.ones((2, 3, 4, FEATURES), "float32")})
    for wrong in (np.zeros((2,), int), np.zeros((2, 2, 4), int)):
        with pytest.raises(ValueError, match=r"Received"):
            centers.update(wrong, outputs)


def test_moving_averages_are_constants_for_the_gradient():
    centers = layers.MovingAverageCenters(CLASSES)
    features = tf.constant(np.random.default_rng(0).normal(size=(4, FEATURES)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = centers({"features": features})
        centers.update(np.array([0, 1, 2, -1]), outputs)
        total = tf.reduce_sum(centers.provide(outputs)["centers"])
    assert tape.gradient(total, features) is None
    assert not centers.trainable_weights


def test_shared_centers_are_the_knowns_columns():
    head = heads.LinearHead(CLASSES, background=True)
    for normalize in (True, False):
        centers = layers.SharedCenters(head, normalize=normalize)
        outputs = centers(head(np.ones((2, FEATURES), "float32")))
        columns = np.array(head.kernel)[:, :CLASSES].T
        if normalize:
            columns = columns / np.linalg.norm(columns, axis=-1, keepdims=True)
        np.testing.assert_allclose(centers.provide(outputs)["centers"], columns, rtol=1e-6)
        with tf.GradientTape() as tape:
            value = losses.CompactnessLoss()(np.array([0, 1]), {**outputs, **centers.provide(outputs)})
        gradient = tape.gradient(value, head.kernel.value)
        assert np.abs(gradient[:, :2]).min() > 0
        np.testing.assert_array_equal(gradient[:, 2:], np.zeros((FEATURES, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_normalised_and_logits_are_not(kind):
    features = np.random.default_rng(0).normal(size=(4, FEATURES)).astype("float32")
    head = heads.LinearHead(CLASSES, background=True)
    plain = head(features)
    outputs = make_centers(kind, head)(plain)
    np.testing.assert_allclose(np.linalg.norm(outputs["embeddings"], axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(outputs["features"], features)
    np.testing.assert_array_equal(outputs["logits"], plain["logits"])
    raw = make_centers(kind, head, normalize=False)(plain)
    np.testing.assert_array_equal(raw["embeddings"], features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float32", "float64"])
def test_precision(kind, dtype):
    head = heads.LinearHead(CLASSES, background=True, dtype=dtype)
    wide = "float64" if dtype == "float64" else "float32"
    features = tf.cast(np.ones((2, FEATURES)), dtype.removeprefix("mixed_"))
    centers = make_centers(kind, head, dtype=dtype)
    outputs = centers(head(features))
    assert outputs["embeddings"].dtype == centers.provide(outputs)["centers"].dtype == wide


@pytest.mark.parametrize("kind", KINDS)
def test_fit_trains_all_terms(kind):
    model = make_model(kind, keras.optimizers.Adam(3e-3))
    images, labels = digits(384)
    history = model.fit(images, labels, batch_size=96, epochs=12, verbose=0).history
    for term in ("loss", "background_cross_entropy", "compactness"):
        assert history[term][-1] < 0.8 * history[term][0], term
    assert history["background_margin"][0] > 0
    logged = model.evaluate(images, labels, verbose=0, return_dict=True)
    total = logged["background_cross_entropy"] + 0.5 * logged["compactness"] + 0.5 * logged["background_margin"]
    assert logged["loss"] == pytest.approx(total, rel=1e-5)
    assert set(model.predict(images[:2], verbose=0)) == {"features", "logits", "embeddings"}


def test_evaluation_leaves_the_centers_alone():
    model = make_model("moving_average")
    before = weights(model)
    logged = model.evaluate(*digits(), verbose=0, return_dict=True)
    assert_same_weights(weights(model), before, atol=0)
    assert logged["compactness"] == logged["background_margin"] == 0  # no class has been seen


CONTINUE = """
import json, sys
import keras, numpy as np
import cplus1_keras  # registers the classes
data = np.load(sys.argv[1])
for path in sys.argv[2:]:
    model = keras.models.load_model(path)
    first = model.evaluate(data["images"], data["labels"], verbose=0, return_dict=True)
    history = model.fit(data["images"], data["labels"], batch_size=32, epochs=2, shuffle=False, verbose=0).history
    print(json.dumps([first, history, [float(np.abs(w.value).sum()) for w in model.weights]]))
"""


@pytest.mark.slow
def test_saved_and_continued_in_a_fresh_process(tmp_path):
    """One process for all three kinds and the optimizer of their own: loading TensorFlow takes long."""
    images, labels = digits()
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    models, paths = [], []
    for kind in [*KINDS, "own_rate"]:
        model = make_model("learnable", own_rate()) if kind == "own_rate" else make_model(kind)
        model.fit(images, labels, batch_size=32, epochs=2, shuffle=False, verbose=0)
        paths.append(str(tmp_path / f"{kind}.keras"))
        model.save(paths[-1])
        models.append(model)
    for model, line in zip(models, in_a_process(CONTINUE, str(tmp_path / "data.npz"), *paths), strict=True):
        evaluated, history, sums = json.loads(line)
        assert evaluated == pytest.approx(model.evaluate(images, labels, verbose=0, return_dict=True), rel=1e-6)
        ours = model.fit(images, labels, batch_size=32, epochs=2, shuffle=False, verbose=0).history
        for name in ours:
            np.testing.assert_allclose(history[name], ours[name], rtol=1e-5, err_msg=name)
        assert sums == pytest.approx([float(np.abs(w.value).sum()) for w in model.weights], rel=1e-5)


def test_shared_centers_are_still_shared_after_loading(tmp_path):
    model = make_model("shared")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("centers").head is again.get_layer("head")
    assert [w.path for w in again.weights] == [w.path for w in model.weights]
    assert len(again.trainable_weights) == 3


def own_rate(rate=0.1):
    """As the docstring of LearnableCenters has it."""
    default, own = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(rate)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(default, {"centers/.*": own}))


def test_centers_have_a_learning_rate_of_their_own_under_adam():
    """Adam's first step is as long as its learning rate, whatever the gradient's size."""
    model = make_model("learnable", own_rate(0.1))
    before = weights(model)
    images, labels = digits(32)
    model.fit(images, labels, batch_size=32, epochs=1, verbose=0)
    steps = {name: np.abs(weight - before[name]).max() for name, weight in weights(model).items()}
    assert steps.pop("centers/centers") == pytest.approx(0.1, rel=1e-3)
    assert max(steps.values()) == pytest.approx(1e-3, rel=1e-2)


REPLICAS = """
import json, sys
import keras, numpy as np, tensorflow as tf
sys.path.insert(0, sys.argv[1])
import test_centers as here
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
images, labels = here.digits(90)
labels[:15] = -1  # the first replica's half of the first batch: no known in it
for kind in here.KINDS:
    results = []
    for scope in (strategy, tf.distribute.get_strategy()):
        with scope.scope():
            model = here.make_model(kind)
            history = model.fit(images, labels, batch_size=30, epochs=2, shuffle=False, verbose=0).history
        results.append([history, here.weights(model)])
    (history, mirrored), (one, single) = results
    assert mirrored.keys() == single.keys()
    print(json.dumps([
        max(abs(a - b) / max(abs(b), 1e-3) for name in one for a, b in zip(history[name], one[name])),
        max(float(np.abs(mirrored[name] - single[name]).max()) for name in single),
    ]))
"""


@pytest.mark.slow
def test_two_replicas_equal_one_device():
    here = str(pathlib.Path(__file__).parent)
    differences = [json.loads(line) for line in in_a_process(REPLICAS, here)]
    assert len(differences) == len(KINDS)
    np.testing.assert_array_less(differences, 1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        layers.MovingAverageCenters(3, momentum=0.5, normalize=False),
        layers.LearnableCenters(3, normalize=False),
        layers.SharedCenters(heads.LinearHead(3, background=True), normalize=False),
    ],
    ids=KINDS,
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="`momentum`"):
        layers.MovingAverageCenters(3, momentum=1.0)
    with pytest.raises(ValueError, match="`num_classes`"):
        layers.LearnableCenters(0)
    with pytest.raises(ValueError, match="`head` must be the head"):
        layers.SharedCenters(keras.layers.Dense(3))
    with pytest.raises(ValueError, match=r"`centers\(head\(features\)\)`"):
        layers.LearnableCenters(3)(np.ones((2, 5), "float32"))
    with pytest.raises(ValueError, match="must have a `kernel`"):
        layers.SharedCenters(heads.LinearHead(3))({"features": np.ones((2, 5), "float32")})


def test_an_update_before_the_first_call_says_so():
    with pytest.raises(ValueError, match="has no centres yet: call it on the outputs of a head"):
        layers.MovingAverageCenters(3).update(np.array([0]), {"embeddings": np.ones((1, 5), "float32")})


def test_a_class_once_seen_stays_seen():
    centers = layers.MovingAverageCenters(3)
    outputs = centers({"features": np.ones((2, FEATURES), "float32")})
    for labels, seen in (([0, 0], [True, False, False]), ([2, NEGATIVE], [True, False, True])):
        centers.update(np.array(labels), outputs)
        np.testing.assert_array_equal(centers.provide(outputs)["centers_seen"], seen)


def test_learnable_centers_start_about_as_long_as_normalised_embeddings():
    keras.utils.set_random_seed(0)
    for features in (8, 512):
        centers = layers.LearnableCenters(200)
        centers({"features": np.ones((1, features), "float32")})
        lengths = np.linalg.norm(centers.centers, axis=-1)
        assert np.sqrt(np.mean(lengths**2)) == pytest.approx(1, rel=0.05)


def test_the_margin_on_the_background_needs_negatives():
    assert losses.BackgroundMarginLoss(1.0).needs_negatives
    assert not losses.CompactnessLoss().needs_negatives
