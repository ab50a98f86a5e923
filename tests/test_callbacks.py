"""A loss that is NaN stops training and spares the last good checkpoint."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, losses
from cplus1_keras.callbacks import StopOnNaN


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
