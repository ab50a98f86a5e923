"""Callbacks of a run: stop at NaN, how much each term pulls."""

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras.layers.hooks import complete, named


class StopOnNaN(keras.callbacks.Callback):
    """Stops with an error as soon as the loss is NaN or infinite, so that no later checkpoint replaces a good one.

    Put it before `Checkpoint` in the list of callbacks: an epoch that ends without a finite loss is not saved.

    Args:
        checkpoint: Path of the checkpoints, named in the error.

    Raises:
        FloatingPointError: In training, naming the epoch, the batch and the step.

    >>> StopOnNaN("checkpoint").on_epoch_end(0, {"loss": 0.5})
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


class TermGradients(keras.callbacks.Callback):
    """Logs, at the end of each epoch, the norm of each term's gradient over that of the first term's.

        ratio = ‖ weight · grad term ‖ / ‖ weight_1 · grad term_1 ‖

    as `gradient_ratio/<term>`, for all trainable weights together, on one fixed batch, in inference mode (moving
    averages of batch normalisation and centres as they are). With the mean over the classes, a background margin of
    weight 1e-4 shows here what it does: close to nothing. Put it before TensorBoard's callback. It costs a forward and
    a backward pass for each term and epoch.

    Args:
        images: Batch (N, H, W, channels), pixels 0..255.
        y: Labels, or named tensors, as for `fit`.
        sample_weight: Weights of the labels, or None.

    >>> images, labels = np.zeros((4, 8, 8, 1), "float32"), np.zeros(4, "int32")
    >>> TermGradients(images, labels).on_epoch_end(0, logs={})  # nothing for a loss of one term
    """

    def __init__(self, images, y, sample_weight=None):
        super().__init__()
        self.batch = images, y, sample_weight
        self._functions = []

    def on_train_begin(self, logs=None):
        # One function for each term: in one graph all backward passes could hold their activations at once.
        terms = self.model.loss.terms()
        if len(terms) > 1:
            norms = [(term.name, _gradient_norm(self.model, weight, term)) for weight, term in terms]
            # Traced here: TensorFlow would take the calls of five terms for one function that is traced each time.
            self._functions = [(name, norm.get_concrete_function(*self.batch)) for name, norm in norms]

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or not self._functions:
            return
        norms = {name: float(norm(*self.batch)) for name, norm in self._functions}
        first, *others = norms
        if norms[first]:
            logs.update({f"gradient_ratio/{name}": norms[name] / norms[first] for name in others})


def _gradient_norm(model, weight, term):
    @tf.function(autograph=False)
    def norm(images, y, sample_weight):
        with tf.GradientTape() as tape:
            outputs = dict(model(images, training=False))
            tensors = complete(model.layers, {**outputs, **named(y)}, training=False)
            value = weight * term(tensors, tensors, sample_weight)
        gradients = tape.gradient(value, [variable.value for variable in model.trainable_variables])
        return tf.linalg.global_norm([gradient for gradient in gradients if gradient is not None])

    return norm
