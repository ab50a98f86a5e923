"""What watches a training: a stop at NaN that spares the last checkpoint, gradients of terms, validation, pictures."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cplus1_keras import OpenSetModel, heads, layers, losses, plots
from cplus1_keras.callbacks import Pictures, StopOnNaN, TermGradients, Validation


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


def test_validation_is_logged_for_those_that_come_after():
    seen = {}
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs))
    watch = Validation(lambda: {"mean_iou": 0.25, "auroc_negative": None})
    model().fit(np.ones((4, 4)), np.zeros(4, int), callbacks=[watch, after], verbose=0)
    assert seen["val_mean_iou"] == 0.25
    assert "val_auroc_negative" not in seen


def test_pictures_are_on_tensorboards_page(tmp_path):
    watch = Pictures(lambda: {"some/0": plots.canvas(2, 1)[0]}, tmp_path)
    model().fit(np.ones((4, 4)), np.zeros(4, int), epochs=2, callbacks=[watch], verbose=0)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert events.Tags()["tensors"] == ["some/0"]
    assert [event.step for event in events.Tensors("some/0")] == [0, 1]
    width, height, png = events.Tensors("some/0")[0].tensor_proto.string_val
    assert imread(io.BytesIO(png)).shape[:2] == (int(height), int(width)) == (120, 240)
