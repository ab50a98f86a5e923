"""The model class: weights, metrics, logs, errors, and training that continues after save and load."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.labels import NEGATIVE

ROOT = pathlib.Path(__file__).parent.parent
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype("float32")
Y = np.where(np.arange(40) % 4 == 3, NEGATIVE, RANDOM.integers(0, 3, 40))
CLASS_WEIGHT = {NEGATIVE: 0.25, 0: 2.0, 1: 3.0}  # and 1 for class 2
WEIGHT = np.select([Y == NEGATIVE, Y == 0, Y == 1], [0.25, 2.0, 3.0], 1.0)


@keras.saving.register_keras_serializable("test_models")
class Right(keras.metrics.Mean):
    """Share of the knowns whose largest logit is the label."""

    def update_state(self, labels, logits, sample_weight=None):
        labels = keras.ops.cast(labels, "int32")
        right = keras.ops.equal(keras.ops.argmax(logits, -1), labels)
        super().update_state(right, sample_weight=keras.ops.cast(labels >= 0, "float32"))


def build(loss=None, regularizer=None, **compile_arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    dense = keras.layers.Dense(5, activation="relu", kernel_regularizer=regularizer)
    model = OpenSetModel(inputs, heads.LinearHead(3)(dense(inputs)))
    loss = loss or losses.EntropicOpenSetLoss() + 0.1 * losses.MagnitudeLoss(4.0)
    model.compile(keras.optimizers.SGD(0.05), loss, **compile_arguments)
    return model


def trained(data=(X, Y), batch_size=8, **arguments):
    model = build()
    history = model.fit(*data, batch_size=batch_size, epochs=2, shuffle=False, verbose=0, **arguments)
    return history.history, model.get_weights()


def assert_same(first, second):
    for key in first[0]:
        np.testing.assert_allclose(first[0][key], second[0][key], rtol=1e-6)
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def dataset(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


def test_class_weight_is_sample_weight():
    expected = trained(sample_weight=WEIGHT)
    plain = trained()
    assert abs(expected[1][0] - plain[1][0]).max() > 1e-3
    assert_same(trained(class_weight=CLASS_WEIGHT), expected)
    assert_same(trained((dataset(X, Y),), batch_size=None, class_weight=CLASS_WEIGHT), expected)
    both = trained(sample_weight=np.full(40, 0.5), class_weight=CLASS_WEIGHT)
    assert_same(both, trained(sample_weight=0.5 * WEIGHT))
    assert_same(trained((dataset(X, Y, WEIGHT),), batch_size=None), expected)


def test_class_weight_lasts_for_one_fit():
    model = build()
    model.fit(X, Y, class_weight=CLASS_WEIGHT, batch_size=8, epochs=2, shuffle=False, verbose=0)
    other = build()
    other.fit(X, Y, sample_weight=WEIGHT, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for each in (model, other):
        each.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], other.get_weights()[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("key", [-2, "cat", 0.5])
def test_keys_of_class_weight(key):
    with pytest.raises(ValueError, match="keys of `class_weight` must be known classes >= 0, or -1"):
        build().fit(X, Y, class_weight={key: 1.0}, verbose=0)


def test_one_step_is_one_step_of_gradient_descent():
    model = build(losses.CrossEntropyLoss())
    before = [keras.ops.convert_to_tensor(weight.numpy()) for weight in model.trainable_variables]
    with tf.GradientTape() as tape:
        value = losses.CrossEntropyLoss()(Y, model(X))
    expected = [b - 0.05 * g for b, g in zip(before, tape.gradient(value, model.trainable_variables), strict=True)]
    history = model.fit(X, Y, batch_size=40, verbose=0)
    for weight, target in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), target, rtol=1e-5, atol=1e-7)
    assert history.history["loss"] == [pytest.approx(float(value), rel=1e-6)]


def test_logs():
    """Each term under its name, unweighted; regularisers are in the total only."""
    model = build(regularizer=keras.regularizers.L2(0.1), metrics={"logits": [Right(name="right")]})
    outputs = model.predict(X, verbose=0)
    logs = model.evaluate(X, Y, batch_size=40, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "entropic_open_set", "magnitude", "logits_right"}
    for term in (losses.EntropicOpenSetLoss(), losses.MagnitudeLoss(4.0)):
        assert logs[term.name] == pytest.approx(float(term(Y, outputs)), rel=1e-5)
    penalty = 0.1 * float((model.layers[1].kernel.numpy() ** 2).sum())
    assert logs["loss"] == pytest.approx(logs["entropic_open_set"] + 0.1 * logs["magnitude"] + penalty, rel=1e-5)
    known = Y >= 0
    assert logs["logits_right"] == pytest.approx((outputs["logits"].argmax(1) == Y)[known].mean())
    assert "cross_entropy" not in build(losses.CrossEntropyLoss()).evaluate(X, Y, verbose=0, return_dict=True)


def test_a_batch_without_knowns_changes_nothing():
    model = build(losses.CrossEntropyLoss())
    before = model.get_weights()
    history = model.fit(X, np.full(40, NEGATIVE), verbose=0).history
    assert history["loss"] == [0.0]
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_errors():
    def fit(model=None, y=Y, **arguments):
        (model or build(**arguments)).fit(X, y, verbose=0)

    with pytest.raises(ValueError, match="trains with one loss of cplus1_keras"):
        fit(loss="mse")
    with pytest.raises(ValueError, match="labels as one tensor of integers"):
        fit(y={"logits": Y})
    with pytest.raises(ValueError, match="labels as one tensor of integers"):
        fit(y=None)
    with pytest.raises(ValueError, match="one integer label per position"):
        fit(y=np.eye(3)[np.maximum(Y, 0)])
    with pytest.raises(ValueError, match="`metrics` must be a dict"):
        fit(metrics=[Right()])
    with pytest.raises(ValueError, match="`metrics` must be a dict"):
        fit(metrics={"logit": [Right()]})
    with pytest.raises(ValueError, match=r"reads \[.*'scale'\], which the model does not give"):
        fit(loss=losses.CrossEntropyLoss(losses.ArcFace(0.5)))
    inputs = keras.Input((6,))
    bare = OpenSetModel(inputs, keras.layers.Dense(3)(inputs))
    bare.compile("sgd", losses.CrossEntropyLoss())
    with pytest.raises(ValueError, match="dict of named outputs"):
        fit(bare)


def margin_model():
    """Everything with state: a batch norm, AdaCos, a warm-up, a slotted optimizer, a loss of two terms."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    # A bias would have no gradient before the batch norm but rounding, which Adam blows up to steps of full length.
    features = keras.layers.BatchNormalization()(keras.layers.Dense(5, use_bias=False)(inputs))
    model = OpenSetModel(inputs, layers.MarginWarmup(50)(heads.AdaCosHead(3)(features)))
    loss = losses.CrossEntropyLoss(losses.GrowingMargin(losses.ArcFace(0.3))) + 0.01 * losses.RingLoss(4.0)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics={"logits": [Right(name="right")]})
    return model


def test_a_fresh_process_continues_identically(tmp_path):
    model = margin_model()
    model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    expected = model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    done = subprocess.run(
        [sys.executable, "-c", CONTINUE, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    history = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(history) == {"loss", "cross_entropy", "ring", "logits_right"}
    for key in history:
        np.testing.assert_allclose(history[key], expected[key], rtol=1e-5)
    with np.load(tmp_path / "after.npz") as after:
        for a, b in zip(after.values(), model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


CONTINUE = """
import json, pathlib, sys
import keras, numpy as np
import cplus1_keras
@keras.saving.register_keras_serializable("test_models")
class Right(keras.metrics.Mean):
    def update_state(self, labels, logits, sample_weight=None):
        labels = keras.ops.cast(labels, "int32")
        right = keras.ops.equal(keras.ops.argmax(logits, -1), labels)
        super().update_state(right, sample_weight=keras.ops.cast(labels >= 0, "float32"))
folder = pathlib.Path(sys.argv[1])
model = keras.saving.load_model(folder / "model.keras")
data = np.load(folder / "data.npz")
history = model.fit(data["x"], data["y"], batch_size=8, epochs=2, shuffle=False, verbose=0).history
np.savez(folder / "after.npz", *model.get_weights())
print(json.dumps(history))
"""


def test_jit_fits_alike():
    """XLA turns a label of -1 into NaN in stock cross-entropy."""
    histories = []
    for jit in (False, True):
        model = margin_model()
        model.compile(keras.optimizers.SGD(0.01), model.loss, jit_compile=jit)
        histories.append(model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history)
    for key in histories[0]:
        np.testing.assert_allclose(histories[0][key], histories[1][key], rtol=1e-5)
