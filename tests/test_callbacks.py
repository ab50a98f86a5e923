"""A loss that is NaN stops training and spares the last good checkpoint."""

import keras
import numpy as np
import pytest

from cplus1_keras import OpenSetModel, heads, losses
from cplus1_keras.callbacks import StopOnNaN


def model():
    images = keras.Input((4,))
    result = OpenSetModel(images, heads.LinearHead(3)(images))
    result.compile(keras.optimizers.SGD(0.1), losses.CrossEntropyLoss())
    return result


class Poison(keras.utils.PyDataset):
    """Batches of which the last of the second epoch holds a NaN."""

    def __init__(self):
        super().__init__()
        self.poisoned = False

    def __len__(self):
        return 3

    def __getitem__(self, index):
        images = np.ones((2, 4), "float32")
        if self.poisoned and index == 2:
            images[0, 0] = np.nan
        return images, np.array([0, 1])

    def on_epoch_end(self):
        self.poisoned = True


def test_stops_at_the_step_and_keeps_the_checkpoint(tmp_path):
    checkpoint = tmp_path / "last_good.keras"
    watchers = [StopOnNaN(checkpoint), keras.callbacks.ModelCheckpoint(checkpoint)]
    with pytest.raises(FloatingPointError, match=r"epoch 2 at batch 3 \(step 6\).*last_good.keras"):
        model().fit(Poison(), epochs=5, callbacks=watchers, verbose=0, shuffle=False)
    kept = keras.models.load_model(checkpoint)
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())


def test_a_label_that_is_no_class_of_the_head_stops_training():
    with pytest.raises(FloatingPointError, match="epoch 1 at batch 1"):
        model().fit(np.ones((4, 4)), np.array([0, 1, 2, 3]), callbacks=[StopOnNaN()], verbose=0)
