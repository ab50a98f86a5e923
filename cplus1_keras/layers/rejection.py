"""The threshold as a layer, so that a model that can say "none of these" is a Keras model too."""

import math

import keras
from keras import ops

from cplus1_keras import scores
from cplus1_keras.labels import REJECTED


@keras.saving.register_keras_serializable("cplus1_keras")
class Reject(keras.layers.Layer):
    """Answers with a known class or with `REJECTED` (-1): known where score >= threshold.

    Called on a head's outputs it gives `class_id` int32 (...), `score` float32 (...), `known` bool (...) and
    `probabilities` float32 (..., C). It always computes in float32. A NaN score is refused. A background logit takes
    its share of the probabilities and never is an answer. The threshold is a weight that training leaves alone: assign
    to `layer.threshold` to change it, or call the layer with a `threshold` that broadcasts to the scores.

    Args:
        num_classes: C, the number of known classes. Where there are C + 1 logits, the last is the background's;
            `serving.Predictor` compares that with the model's head.
        threshold: A number, such as `calibration.threshold`.
        score: A function of `cplus1_keras.scores` or its name; `scores.ModelScore(name)` for what the model gives; or a
            function of your own that is registered with `keras.saving.register_keras_serializable`, if it is saved.

    Raises:
        ValueError: For a threshold that is no number; when called, for an output that the score needs and lacks.

    Reference: Chow, "On optimum recognition error and reject tradeoff", 1970.

    >>> answer = Reject(2, threshold=1.0)({"logits": ops.array([[0.0, 5.0], [0.5, 0.0]])})
    >>> print(ops.convert_to_numpy(answer["class_id"]))
    [ 1 -1]
    """

    def __init__(self, num_classes, threshold, score=scores.log_odds, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        try:
            value = float(threshold)
        except (TypeError, ValueError):
            value = float("nan")
        if math.isnan(value):
            raise ValueError(f"`threshold` must be a number, as `calibration.threshold` is. Received: {threshold!r}")
        self.num_classes = num_classes
        self.score = scores.get(score)
        initial = keras.initializers.Constant(value)
        self.threshold = self.add_weight(name="threshold", shape=(), initializer=initial, trainable=False)

    def call(self, outputs, threshold=None):
        score = ops.cast(self.score(outputs, self.num_classes), "float32")
        known = score >= ops.convert_to_tensor(self.threshold if threshold is None else threshold)
        probabilities = ops.cast(scores.probabilities(outputs, self.num_classes), "float32")
        logits = scores.read_logits(outputs, self.num_classes)[..., : self.num_classes]
        class_id = ops.where(known, ops.cast(ops.argmax(logits, axis=-1), "int32"), REJECTED)
        return {"class_id": class_id, "score": score, "known": known, "probabilities": probabilities}

    def get_config(self):
        threshold = float(ops.convert_to_tensor(self.threshold))
        score = scores.to_config(self.score)
        return {**super().get_config(), "num_classes": self.num_classes, "threshold": threshold, "score": score}
