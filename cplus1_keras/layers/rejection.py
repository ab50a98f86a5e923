"""The threshold as a layer, so that a model that can say "none of these" is a Keras model too."""

import math

import keras
from keras import ops

from cplus1_keras import scores
from cplus1_keras.labels import REJECTED


@keras.saving.register_keras_serializable("cplus1_keras")
class Reject(keras.layers.Layer):
    """Answers with a known class or with `REJECTED` (-1): known where score >= threshold.

    Score and threshold are compared in float32, as NumPy does on float32 scores. A NaN score is refused. A background
    logit takes its share of the probabilities and never is an answer. The threshold is a weight that training leaves
    alone: assign to `layer.threshold` to change it; it is saved with the model.

    Args:
        num_classes: C, the number of known classes. Where there are C + 1 logits, the last is the background's;
            `serving.Predictor` compares that with the model's head.
        threshold: A number, such as `calibration.threshold`.
        score: A function of `cplus1_keras.scores` or its name; or a function of your own that is registered with
            `keras.saving.register_keras_serializable`, if the model is to be saved.
        name, **kwargs: As for every Keras layer. It always computes in float32.

    Returns:
        When called on a head's outputs, a dict of `class_id` int32 (...), `score` float32 (...), `known` bool (...) and
        `probabilities` float32 (..., C).

    Raises:
        ValueError: for a threshold that is no number; when called, for an output that the score needs and lacks.

    Example:

    >>> answer = Reject(2, threshold=1.0)({"logits": ops.array([[0.0, 5.0], [0.5, 0.0]])})
    >>> print(ops.convert_to_numpy(answer["class_id"]))
    [ 1 -1]

    Reference: Chow, "On optimum recognition error and reject tradeoff", 1970.
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
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
        )

    def call(self, outputs):
        score = ops.cast(self.score(outputs, self.num_classes), "float32")
        known = score >= ops.convert_to_tensor(self.threshold)
        probabilities = ops.cast(scores.probabilities(outputs, self.num_classes), "float32")
        logits = scores.read_logits(outputs, self.num_classes)[..., : self.num_classes]
        best = ops.cast(ops.argmax(logits, axis=-1), "int32")
        return {
            "class_id": ops.where(known, best, REJECTED),
            "score": score,
            "known": known,
            "probabilities": probabilities,
        }

    def get_config(self):
        score = self.score.__name__
        if getattr(scores, score, None) is not self.score:
            score = keras.saving.serialize_keras_object(self.score)
        threshold = float(ops.convert_to_tensor(self.threshold))
        return {**super().get_config(), "num_classes": self.num_classes, "threshold": threshold, "score": score}

    @classmethod
    def from_config(cls, config):
        score = config["score"]
        if isinstance(score, dict):
            score = keras.saving.deserialize_keras_object(score)
        return cls(**{**config, "score": score})
