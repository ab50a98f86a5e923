"""Callbacks for training."""

import keras
import numpy as np


class StopOnNaN(keras.callbacks.Callback):
    """Stops with an error as soon as the loss is NaN or infinite, so that no later checkpoint replaces a good one.

    Put it before `ModelCheckpoint` in the list of callbacks: an epoch that ends without a finite loss is not saved.

    Args:
        checkpoint: Path of the last good checkpoint, named in the error.

    Raises:
        FloatingPointError: In training, naming the epoch, the batch and the step.

    >>> watchers = [StopOnNaN("best.keras"), keras.callbacks.ModelCheckpoint("best.keras")]
    >>> model.fit(images, labels, callbacks=watchers)  # doctest: +SKIP
    """

    def __init__(self, checkpoint=None):
        super().__init__()
        self.checkpoint = checkpoint
        self.epoch = 0
        self.step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self._check(logs, f"batch {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, "its end")

    def _check(self, logs, where):
        for name in ("loss", "val_loss"):
            value = (logs or {}).get(name)
            if value is None or np.isfinite(value):
                continue
            kept = (
                "No checkpoint was saved yet." if self.epoch == 0 else f"The last good checkpoint is {self.checkpoint}."
            )
            raise FloatingPointError(
                f"`{name}` is {value} in epoch {self.epoch + 1} at {where} (step {self.step}). Usual causes: a "
                "learning rate that is too high, NaN or infinite pixels, or a label that is no class of the head. "
                + (kept if self.checkpoint else "")
            )
