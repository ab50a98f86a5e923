"""What watches a training: a stop at NaN that spares the last checkpoint, gradients of terms."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.callbacks import StopOnNaN, TermGradients


def model():
    images = keras.Input((4,))
    result = OpenSetModel(images, heads.LinearHead(3)(images))
    result.compile(keras.optimizers.SGD(0.1), losses.CrossEntropyLoss())
    return result


class Poison(keras.callbacks.Callback):
    """Ruins a weight before the last batch of the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            kernel = self.model.layers[-1].kernel
            kernel.assign(np.full(kernel.shape, np.nan))


def test_stops_at_the_step_and_keeps_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "last_good.keras"
    watchers = [Poison(), StopOnNaN(checkpoint), keras.callbacks.ModelCheckpoint(checkpoint)]
    with pytest.raises(FloatingPointError, match=r"epoch 2 at batch 3 \(step 6\).*last_good.keras"):
        model().fit(np.ones((6, 4)), np.arange(6) % 3, batch_size=2, epochs=5, callbacks=watchers, verbose=0)
    kept = keras.models.load_model(checkpoint)
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())


def test_a_label_that_is_no_class_of_the_head_stops_training():
    """In a data set; of an array `fit` names it before."""
    data = tf.data.Dataset.from_tensors((np.ones((4, 4)), np.array([0, 1, 2, 3])))
    with pytest.raises(FloatingPointError, match="epoch 1 at batch 1"):
        model().fit(data, shuffle=False, callbacks=[StopOnNaN()], verbose=0)


def test_a_label_that_is_no_class_of_the_head_is_named():
    with pytest.raises(ValueError, match=r"known classes 0..2.*Received also: \[3\]"):
        model().fit(np.ones((4, 4)), np.array([0, 1, 2, 3]), callbacks=[StopOnNaN()], verbose=0)


def test_gradient_ratios_of_terms_that_are_known():
    """The same term at weight 0.3 has 0.3 of the gradient; without negatives the margin has none."""
    images = keras.Input((4,))
    centers = layers.MovingAverageCenters(3)
    model = OpenSetModel(images, centers(heads.LinearHead(3, background=True)(keras.layers.Dense(5)(images))))
    again = losses.BackgroundCrossEntropyLoss(name="again")
    loss = losses.BackgroundCrossEntropyLoss() + 0.3 * again + 1.0 * losses.BackgroundMarginLoss(1.0)
    model.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    before = [np.array(weight) for weight in model.get_weights()]
    callback = TermGradients(x, np.arange(6) % 3)
    callback.set_model(model)
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs == {"gradient_ratio/again": pytest.approx(0.3, rel=1e-5), "gradient_ratio/background_margin": 0}
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_with_its_place(name, value):
    stop = StopOnNaN("the folder")
    stop.on_epoch_end(0, None)
    stop.on_epoch_end(0, {"accuracy": np.nan})
    stop.on_train_batch_end(0, {name: 1.0})
    with pytest.raises(FloatingPointError, match=rf"`{name}` is {value} in epoch 1 at batch 8 \(step 2\)") as told:
        stop.on_train_batch_end(7, {"loss": 0.5, "val_loss": 0.5, name: value})
    assert str(told.value).endswith("No checkpoint was saved yet.")
    stop.on_epoch_begin(1)
    with pytest.raises(FloatingPointError, match=rf"`{name}` is {value} in epoch 2 at its end \(step 2\)") as told:
        stop.on_epoch_end(1, {name: value})
    assert str(told.value).endswith("The last good checkpoint is the folder.")
    alone = StopOnNaN()
    with pytest.raises(FloatingPointError, match=r"a label that is no class of the head\. $"):
        alone.on_epoch_end(0, {name: value})


class Doubled(keras.layers.Layer):
    """Doubles in training mode, which is what it falls back on, as Keras's augmentation does."""

    def call(self, x, training=True):
        return 2 * x if training else x


def ratios(x, y, weights=None, layer=None):
    """What is logged for two terms whose gradients differ, after a known start."""
    keras.utils.set_random_seed(3)
    images = keras.Input((4,))
    features = keras.layers.Dense(5)(images if layer is None else layer(images))
    model = OpenSetModel(images, heads.LinearHead(3)(features))
    model.compile("sgd", losses.EntropicOpenSetLoss() + 0.5 * losses.MagnitudeLoss(radius=4.0))
    callback = TermGradients(x, y, weights)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_end(0, None)
    logs = {}
    callback.on_epoch_end(0, logs)
    return logs


def test_gradient_ratios_by_hand_with_weights_and_in_inference_mode():
    x, y = np.random.default_rng(0).normal(size=(4, 4)).astype("float32"), np.array([0, 1, 2, -1])
    plain = ratios(x, y)
    keras.utils.set_random_seed(3)
    first, last = keras.layers.Dense(5), heads.LinearHead(3)
    with tf.GradientTape(persistent=True) as tape:
        outputs = last(first(x))
        one, other = losses.EntropicOpenSetLoss()(y, outputs), losses.MagnitudeLoss(radius=4.0)(y, outputs)
    weights = [variable.value for variable in (*first.trainable_variables, *last.trainable_variables)]
    norms = [tf.linalg.global_norm([g for g in tape.gradient(v, weights) if g is not None]) for v in (one, other)]
    assert plain == {"gradient_ratio/magnitude": pytest.approx(float(0.5 * norms[1] / norms[0]), rel=1e-4)}
    # A sample of weight 2 counts twice, one of weight 0 not at all.
    weighted, repeated = ratios(x, y, np.float32([2, 1, 0, 1])), ratios(x[[0, 0, 1, 3]], y[[0, 0, 1, 3]])
    assert weighted == pytest.approx(repeated, rel=1e-4)
    assert weighted != pytest.approx(plain, rel=1e-2)
    assert ratios(x, y, layer=Doubled()) == pytest.approx(plain, rel=1e-4)


def test_gradient_ratios_without_a_first_gradient_or_a_second_term_are_none():
    x = np.zeros((2, 4), "float32")
    assert ratios(x, np.array([-100, -100])) == {}
    alone = TermGradients(x, np.zeros(2))
    alone.set_model(model())
    alone.on_train_begin()
    logs = {}
    alone.on_epoch_end(0, logs)
    assert logs == {}


def test_many_terms_are_no_reason_for_a_warning(caplog):
    loss = losses.CrossEntropyLoss()
    for number in range(6):
        loss = loss + losses.CrossEntropyLoss(name=f"again{number}")
    own = model()
    own.compile("sgd", loss)
    gradients = TermGradients(np.ones((2, 4), "float32"), {"labels": np.zeros(2, "int64")})
    gradients.set_model(own)
    gradients.on_train_begin()
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    logs = {}
    gradients.on_epoch_end(0, logs)
    logger.removeHandler(caplog.handler)
    assert logs == pytest.approx({f"gradient_ratio/again{number}": 1.0 for number in range(6)})
    assert "retracing" not in caplog.text


def test_callbacks_start_as_kerass_own():
    for callback in (StopOnNaN(), TermGradients(None, None)):
        assert callback.params is callback.model is None
