"""How much each term of a loss pulls: the norms of the terms' gradients, in the log of training."""

import keras
import tensorflow as tf

from cplus1_keras.layers.hooks import complete, named


class TermGradients(keras.callbacks.Callback):
    """Logs, at the end of each epoch, the norm of each term's gradient over that of the first term's.

        ratio = ‖ weight · grad term ‖ / ‖ weight_1 · grad term_1 ‖

    as `gradient_ratio/<term>`, for all trainable weights together, on one fixed batch, in inference mode (moving
    averages of batch normalisation and centres as they are). With the mean over the classes, a background margin of
    weight 1e-4 shows here what it does: close to nothing. Put it before TensorBoard's callback. It costs a forward and
    a backward pass for each term and epoch.

    Args:
        images: Batch (N, H, W, channels), pixels 0..255.
        labels: Integers (N, H, W).
        sample_weight: Weights (N, H, W), or None.

    >>> watchers = [TermGradients(images, labels), keras.callbacks.TensorBoard("logs")]  # doctest: +SKIP
    >>> model.fit(batches, callbacks=watchers)  # doctest: +SKIP
    """

    def __init__(self, images, labels, sample_weight=None):
        super().__init__()
        self.batch = images, labels, sample_weight
        self._functions = []

    def on_train_begin(self, logs=None):
        # One function for each term: in one graph all backward passes could hold their activations at once.
        self._functions = [(term.name, _norm_of(self.model, weight, term)) for weight, term in self.model.loss.terms()]

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and len(self._functions) > 1:
            ratios = self.ratios().items()
            logs.update({f"gradient_ratio/{name}": ratio for name, ratio in ratios if ratio is not None})

    def ratios(self):
        """`{term: ratio}` for each term but the first, at the model's present weights; None where the first has none.

        >>> callback.ratios()  # doctest: +SKIP
        {'compactness': 0.031, 'background_margin': 2.1e-06}
        """
        norms = {name: float(norm(*self.batch)) for name, norm in self._functions}
        first = next(iter(norms))
        return {name: norm / norms[first] if norms[first] else None for name, norm in norms.items() if name != first}


def _norm_of(model, weight, term):
    @tf.function(autograph=False)
    def norm(images, labels, sample_weight):
        with tf.GradientTape() as tape:
            outputs = model(images, training=False)
            tensors = complete(model.layers, {**outputs, **named(labels)}, training=False)
            value = weight * term(tensors, tensors, sample_weight)
        gradients = tape.gradient(value, [variable.value for variable in model.trainable_variables])
        return tf.linalg.global_norm([gradient for gradient in gradients if gradient is not None])

    return norm
