"""Metrics in `fit`: equal to the exact figures up to the bins' width, in every way that Keras runs them."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras import metrics, scores
from cplus1_keras.metrics import streaming


def batch(n=4000, classes=5, background=False, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.choice([*range(classes), -1, -2, -100], n)
    logits = generator.normal(size=(n, classes + background)) * 2
    known = np.flatnonzero(labels >= 0)
    logits[known, labels[known]] += generator.gamma(4, 1.5, len(known))
    return labels.astype("int32"), logits.astype("float32")


def exact(labels, logits, classes, group):
    score = ops.convert_to_numpy(scores.log_odds({"logits": logits}, classes))
    predictions = logits[..., :classes].argmax(-1)
    return {
        "accuracy": metrics.closed_set_accuracy(labels, predictions),
        "auroc": metrics.auroc(labels, score, group),
        "oscr": metrics.open_auc(labels, predictions, score, group),
    }


def streamed(labels, logits, classes, group, weights=None, parts=3):
    made = {
        "accuracy": metrics.KnownAccuracy(classes),
        "auroc": metrics.BinnedAUROC(classes, group),
        "oscr": metrics.BinnedOSCR(classes, group),
    }
    for metric in made.values():
        for i in range(parts):
            part = slice(i, None, parts)
            metric.update_state(labels[part], logits[part], None if weights is None else weights[part])
    return {name: float(metric.result()) for name, metric in made.items()}


@pytest.mark.parametrize("group", ["negative", "unknown", "both"])
@pytest.mark.parametrize("background", [False, True])
def test_agree_with_the_exact_figures(group, background):
    labels, logits = batch(40_000, background=background)
    wanted, got = exact(labels, logits, 5, group), streamed(labels, logits, 5, group)
    assert got["accuracy"] == pytest.approx(wanted["accuracy"], abs=1e-6)
    assert got["auroc"] == pytest.approx(wanted["auroc"], abs=5e-5)
    assert got["oscr"] == pytest.approx(wanted["oscr"], abs=5e-5)


@pytest.mark.parametrize("scale", [1e-3, 10.0, 300.0])
def test_any_scale_of_logits(scale):
    labels, logits = batch(20_000)
    wanted, got = exact(labels, logits * scale, 5, "unknown"), streamed(labels, logits * scale, 5, "unknown")
    # Scores of 1e-3 all lie within a few bins around ln(1 / (C - 1)), those of 1e3 are still told apart.
    tolerance = 0.2 if scale < 1 else 2e-3
    assert got["auroc"] == pytest.approx(wanted["auroc"], abs=tolerance)
    assert got["oscr"] == pytest.approx(wanted["oscr"], abs=tolerance)


def test_any_leading_shape_and_masked_is_absent():
    labels, logits = batch(240)
    wanted = streamed(labels, logits, 5, "both")
    assert streamed(labels.reshape(6, 5, 8), logits.reshape(6, 5, 8, 5), 5, "both") == pytest.approx(wanted)
    assert streamed(labels[:, None], logits, 5, "both") == pytest.approx(wanted)
    assert streamed(labels.astype("float32"), logits, 5, "both") == pytest.approx(wanted)
    kept = labels != -100
    assert streamed(labels[kept], logits[kept], 5, "both") == pytest.approx(wanted, abs=1e-6)


def test_weights_count_like_copies():
    labels, logits = batch(300)
    weights = np.random.default_rng(1).integers(0, 4, 300)
    wanted = streamed(np.repeat(labels, weights), np.repeat(logits, weights, axis=0), 5, "both")
    assert streamed(labels, logits, 5, "both", weights) == pytest.approx(wanted, abs=1e-6)
    assert streamed(labels, logits, 5, "both", weights[:, None]) == pytest.approx(wanted, abs=1e-6)
    images = streamed(labels.reshape(30, 10), logits.reshape(30, 10, 5), 5, "both", weights[:30])
    pixels = streamed(
        labels.reshape(30, 10), logits.reshape(30, 10, 5), 5, "both", np.repeat(weights[:30, None], 10, 1)
    )
    assert images == pytest.approx(pixels)


@pytest.mark.parametrize("label", [0, -1, -100])
def test_zero_where_a_side_is_absent(label):
    got = streamed(np.full(6, label), np.zeros((6, 2)), 2, "negative")
    assert got == {"accuracy": float(label == 0), "auroc": 0.0, "oscr": 0.0}


def test_broken_and_infinite_logits():
    logits = np.array([[np.nan, 0.0], [np.inf, 0.0], [1e30, 0.0], [3.0, 0.0]], "float32")
    metric = metrics.BinnedAUROC(2)
    metric.update_state(np.array([-1, -1, 0, 0]), logits)
    assert float(metric.result()) == 1.0  # NaN or infinite: both negatives are refused
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(np.array([-1, 0]), logits[[0, 3]])  # NaN is refused: below every score
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize(
    "metric",
    [metrics.KnownAccuracy(3), metrics.BinnedAUROC(3, "both"), metrics.BinnedOSCR(3, "unknown", name="area")],
    ids=lambda m: m.name,
)
def test_config_round_trip(metric):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def loss(y_true, y_pred):
    known = ops.cast(ops.reshape(y_true, (-1,)) >= 0, "float32")
    return known * ops.mean(ops.square(y_pred), axis=-1)


def check_in_keras(jit):
    """`evaluate` agrees with the exact figures, and `fit` logs all three."""
    keras.utils.set_random_seed(0)
    labels, logits = batch(256, classes=3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    made = [metrics.KnownAccuracy(3), metrics.BinnedAUROC(3), metrics.BinnedOSCR(3)]
    model.compile(optimizer="sgd", loss=loss, metrics=made, jit_compile=jit)
    got = model.evaluate(logits, labels, batch_size=64, verbose=0, return_dict=True)
    wanted = exact(labels, model.predict(logits, batch_size=64, verbose=0), 3, "negative")
    assert got["known_accuracy"] == pytest.approx(wanted["accuracy"], abs=1e-6)
    assert got["auroc_negative"] == pytest.approx(wanted["auroc"], abs=1e-3)
    assert got["oscr_negative"] == pytest.approx(wanted["oscr"], abs=1e-3)
    history = model.fit(logits, labels, batch_size=64, epochs=1, verbose=0).history
    assert set(history) == {"loss", "known_accuracy", "auroc_negative", "oscr_negative"}


@pytest.mark.parametrize("jit", [False, True])
def test_in_fit_and_evaluate(jit):
    check_in_keras(jit)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_under_mirrored_strategy():
    """In a process of its own: TensorFlow splits the CPU in two only before its first computation."""
    root = pathlib.Path(streaming.__file__).parents[2]
    program = f"""
import importlib.util, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
spec = importlib.util.spec_from_file_location("test_streaming", {str(pathlib.Path(__file__))!r})
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    tests.check_in_keras("auto")
print("replicas", strategy.num_replicas_in_sync)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert "replicas 2" in ran.stdout, ran.stderr


def test_errors():
    with pytest.raises(ValueError, match="Received: group='unkown'"):
        metrics.BinnedAUROC(3, "unkown")
    with pytest.raises(ValueError, match="num_classes=3 needs 3 logits"):
        metrics.KnownAccuracy(3).update_state(np.zeros(2, int), np.zeros((2, 5)))


def test_one_logit_more_is_the_background():
    metric = metrics.KnownAccuracy(2)
    metric.update_state(np.array([0, 1]), np.array([[1.0, 0.0, 9.0], [1.0, 0.0, 9.0]]))
    assert float(metric.result()) == 0.5
