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
from cplus1_keras.callbacks import StopOnNaN
from cplus1_keras.labels import NEGATIVE

ROOT = pathlib.Path(__file__).parent.parent.parent
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


@keras.saving.register_keras_serializable("test_models")
class Weighted(keras.metrics.Mean):
    """Mean of the labels."""

    def update_state(self, labels, logits, sample_weight=None):
        super().update_state(labels, sample_weight=sample_weight)


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


@pytest.mark.parametrize("key", [-2, "cat", 0.5, 3, 99])
def test_keys_of_class_weight(key):
    with pytest.raises(ValueError, match=r"keys of `class_weight` must be known classes >= 0, or -1.*0\.\.2"):
        build().fit(X, Y, class_weight={key: 1.0}, verbose=0)


@pytest.mark.parametrize("weight", [-5, float("nan"), float("inf")])
def test_weights_of_classes_are_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match=r"weights of `class_weight` must be numbers >= 0.*0:"):
        build().fit(X, Y, class_weight={0: weight}, verbose=0)


def test_class_weight_of_the_last_class_is_not_that_of_labels_beyond():
    """Classes above the largest key weigh 1, also the next one."""
    for key in (0, 1):
        weight = np.where(key == Y, 5.0, 1.0)
        assert_same(trained(class_weight={key: 5.0}), trained(sample_weight=weight))


def test_class_weight_weighs_training_only():
    model = build()
    arguments = {"batch_size": 40, "shuffle": False, "verbose": 0}
    history = model.fit(X, Y, class_weight=CLASS_WEIGHT, validation_data=(X, Y), **arguments).history
    plain = model.loss(Y, model.predict(X, verbose=0))  # `evaluate` would repeat what `fit` has traced
    assert history["val_loss"][0] == pytest.approx(float(plain), rel=1e-5)


def test_class_weight_is_of_the_labels_that_each_term_reads():
    """Two heads with labels of their own: each term is weighted by its own labels."""
    other = np.roll(Y, 1)
    loss = losses.CrossEntropyLoss() + losses.CrossEntropyLoss().of("second_")
    inputs = keras.Input((6,))
    keras.utils.set_random_seed(0)
    outputs = heads.LinearHead(3)(inputs) | heads.LinearHead(3, prefix="second_")(inputs)
    model = OpenSetModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss)
    outputs = model.predict(X, verbose=0)
    y = {"labels": Y, "second_labels": other}
    logs = model.fit(X, y, class_weight={1: 4.0}, batch_size=40, verbose=0).history
    for labels, term in zip((Y, other), (term for _, term in loss.terms()), strict=True):
        weight = np.where(labels == 1, 4.0, 1.0)
        assert logs[term.name][0] == pytest.approx(float(term(labels, outputs, weight)), rel=1e-5)
    assert logs["cross_entropy"][0] != pytest.approx(logs["second_cross_entropy"][0], rel=1e-3)


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


def test_logged_terms_are_means_over_samples_not_over_batches():
    model = build()
    outputs = model.predict(X, verbose=0)
    logs = model.evaluate(X, Y, batch_size=32, verbose=0, return_dict=True)  # batches of 32 and 8
    term = losses.MagnitudeLoss(4.0)
    parts = [float(term(Y[part], {"features": outputs["features"][part]})) for part in (slice(32), slice(32, 40))]
    assert abs(parts[0] - parts[1]) > 0.01 * parts[0]
    assert logs["magnitude"] == pytest.approx(0.8 * parts[0] + 0.2 * parts[1], rel=1e-5)


def test_weighted_metrics_get_the_weights_and_metrics_do_not():
    mean = {"logits": [Weighted(name="mean")]}
    model = build(metrics=mean, weighted_metrics={"logits": [Weighted(name="weighted")]})
    weight = np.arange(40.0)
    logs = model.evaluate(X, Y, sample_weight=weight, batch_size=40, verbose=0, return_dict=True)
    assert logs["logits_mean"] == pytest.approx(Y.mean(), rel=1e-5)
    assert logs["logits_weighted"] == pytest.approx((weight * Y).sum() / weight.sum(), rel=1e-5)


def test_metrics_stay_when_compiled_again_without():
    model = build(metrics={"logits": [Right(name="right")]})
    model.evaluate(X, Y, verbose=0)
    model.compile("sgd", losses.CrossEntropyLoss())
    assert "loss" in model.evaluate(X, Y, verbose=0, return_dict=True)
    model.compile("sgd", losses.CrossEntropyLoss(), metrics={"nothing": [Right()]})
    with pytest.raises(ValueError, match="`metrics` must be a dict"):
        model.evaluate(X, Y, verbose=0)


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
    with pytest.raises(ValueError, match=r"both give \['logits'\]"):
        fit(y={"logits": Y})
    with pytest.raises(ValueError, match="needs labels: one tensor of integers"):
        fit(y=None)
    with pytest.raises(ValueError, match="There is no `labels`"):
        fit(y={"boxes": Y})
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


@pytest.mark.parametrize("wrong", [3, 255])
def test_labels_beyond_the_classes_are_named(wrong):
    y = np.where(np.arange(40) == 7, wrong, Y % 256 if wrong == 255 else Y)
    for given in (y.astype("int32"), {"labels": np.maximum(y, 0).astype("uint8")}):
        with pytest.raises(ValueError, match=rf"known classes 0\.\.2, .*Received also: \[.*{wrong}.*\]"):
            build().fit(X, given, verbose=0)
    background = OpenSetModel(inputs := keras.Input((6,)), heads.LinearHead(3, background=True)(inputs))
    background.compile("sgd", losses.BackgroundCrossEntropyLoss())
    with pytest.raises(ValueError, match=r"0\.\.2"):
        background.fit(X, np.full(40, 3), verbose=0)
    background.fit(X, Y, verbose=0)


def test_a_stop_says_that_a_label_may_be_none():
    """In a data set nobody has looked at the labels; the loss is NaN, which StopOnNaN puts into words."""
    data = dataset(X, np.where(np.arange(40) == 7, 3, Y))
    with pytest.raises(FloatingPointError, match="a label that is no class of the head"):
        build().fit(data, shuffle=False, verbose=0, callbacks=[StopOnNaN()])


def label_set_model(loss):
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 2))
    model = OpenSetModel(images, heads.CAMHead(3)(images))
    model.compile(keras.optimizers.SGD(0.1), loss, metrics={"logits": [keras.metrics.BinaryAccuracy(threshold=0.0)]})
    return model


SETS = RANDOM.integers(0, 2, (40, 3))
IMAGES = RANDOM.normal(size=(40, 4, 4, 2)).astype("float32")


def test_label_sets_go_by_their_name(tmp_path):
    loss = losses.WeightedSigmoidLoss([0.5] * 3) + 0.1 * losses.HNCMSELoss(2)
    results = []
    for data in ((IMAGES, {"multi_hot": SETS}), (dataset(IMAGES, {"multi_hot": SETS}),)):
        model = label_set_model(loss)
        history = model.fit(*data, batch_size=None if len(data) == 1 else 8, shuffle=False, verbose=0).history
        results.append((history, model.get_weights()))
    assert_same(*results)
    outputs = model.predict(IMAGES, verbose=0)
    logs = model.evaluate(IMAGES, {"multi_hot": SETS}, batch_size=40, verbose=0, return_dict=True)
    assert logs["weighted_sigmoid"] == pytest.approx(float(loss.terms()[0][1](SETS, outputs)), rel=1e-5)
    assert logs["logits_binary_accuracy"] == pytest.approx(np.mean((outputs["logits"] > 0) == SETS), rel=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(IMAGES, {"multi_hot": SETS}, batch_size=40, verbose=0, return_dict=True) == logs
    for wrong in (SETS, {"labels": SETS}):
        with pytest.raises(ValueError, match="There is no `multi_hot`"):
            label_set_model(losses.MultiLabelCrossEntropyLoss()).fit(IMAGES, wrong, verbose=0)
    with pytest.raises(ValueError, match="this loss reads `multi_hot`"):
        model.fit(IMAGES, {"multi_hot": SETS}, class_weight={0: 2.0}, verbose=0)


def test_sample_weight_beside_a_dict_of_labels():
    weight = RANDOM.uniform(size=40)
    expected = trained(sample_weight=weight)
    more = {"labels": Y, "more": np.zeros((40, 2), "float32")}  # a name that no loss reads
    assert_same(trained((X, more), sample_weight=weight), expected)
    by_name = {"labels": weight, "more": 0 * weight}
    assert_same(trained((X, more), sample_weight=by_name), expected)
    assert_same(trained((dataset(X, more, weight),), batch_size=None), expected)
    assert_same(trained((X, more), sample_weight=weight, class_weight={0: 1.0}), expected)


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
