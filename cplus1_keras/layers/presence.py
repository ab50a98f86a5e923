"""A threshold for each class, for images that show any number of classes."""

import keras
import numpy as np
from keras import ops

from cplus1_keras.scores import read


@keras.saving.register_keras_serializable("cplus1_keras")
class Presence(keras.layers.Layer):
    """Answers which known classes are present: those whose logit is at least the threshold of the class.

        present_c = z_c >= t_c,    probability_c = σ(z_c)

    Called on a dict with `logits` (..., C) it gives `present` bool, `score` float32, the logit, and `probabilities`
    float32, each (..., C). It always computes in float32. A logit that is NaN or +inf (an overflow) is a NaN score and
    never present. The thresholds are a weight that training leaves alone: assign to `layer.thresholds` to change them,
    or call the layer with a `threshold` that broadcasts to (..., C).

    Args:
        num_classes: C, the number of known classes.
        thresholds: A number, or C numbers, such as a calibration's `thresholds`; on the logits. +inf never answers.

    Raises:
        ValueError: For thresholds that are not 1 or C numbers; when called, for another number of logits.

    >>> answer = Presence(2, [0.0, 4.0])({"logits": ops.array([[1.0, 3.0]])})
    >>> print(ops.convert_to_numpy(answer["present"]))
    [[ True False]]
    """

    def __init__(self, num_classes, thresholds, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        try:
            values = np.broadcast_to(np.asarray(thresholds, "float32"), (num_classes,))
        except (TypeError, ValueError):
            values = np.array(np.nan)
        if np.isnan(values).any():
            raise ValueError(f"`thresholds` must be a number, or {num_classes} of them. Received: {thresholds!r}")
        self.num_classes = num_classes
        self.thresholds = self.add_weight(
            name="thresholds",
            shape=(num_classes,),
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
            trainable=False,
        )

    def call(self, outputs, threshold=None):
        logits = ops.cast(read(outputs, "logits"), "float32")
        if logits.shape[-1] != self.num_classes:
            raise ValueError(
                f"Presence of {self.num_classes} classes needs as many logits, and no background's. "
                f"Received: logits of shape {tuple(logits.shape)}"
            )
        score = ops.where(logits < float("inf"), logits, float("nan"))
        present = score >= ops.convert_to_tensor(self.thresholds if threshold is None else threshold)
        return {"present": present, "score": score, "probabilities": ops.sigmoid(score)}

    def get_config(self):
        thresholds = ops.convert_to_numpy(self.thresholds).tolist()
        return {**super().get_config(), "num_classes": self.num_classes, "thresholds": thresholds}
