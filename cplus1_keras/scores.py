"""Scores: how sure a model is that an input belongs to a class of interest. Higher = more known.

Each is `score(outputs, num_classes)` and gives floats (...), in at least float32. `outputs` holds a head's `logits`
(..., C) or (..., C+1), C being `num_classes`: one more is the background's, the last, which takes part in the softmax
and never is an answer. Another number of logits, or an output that is missing, is a ValueError. Where a logit is NaN or
+inf (an overflow) the score is NaN, which nothing accepts; -inf rules a class out.
"""

import keras
from keras import ops

NAMES = ("max_probability", "log_odds", "max_logit", "probability_times_magnitude", "one_minus_background", "energy")
__all__ = [*NAMES, "ModelScore", "get", "probabilities", "to_config"]


@keras.saving.register_keras_serializable("cplus1_keras")
def max_probability(outputs, num_classes):
    """Largest softmax probability of a known class, max_c p_c, in [0, 1].

    It rounds to 1 in float32 from log-odds of about 17 on, and then ties the scores that a low FPR must tell apart:
    `log_odds` gives the same order without the ties. With one logit in all it is 1 everywhere.

    >>> print(float(max_probability({"logits": ops.array([[0.0, 0.0]])}, 2)[0]))
    0.5

    Reference: Hendrycks and Gimpel, ICLR 2017.
    """
    logits = read_logits(outputs, num_classes)
    return poison(ops.max(ops.softmax(logits)[..., :num_classes], axis=-1), logits)


@keras.saving.register_keras_serializable("cplus1_keras")
def log_odds(outputs, num_classes):
    """Log-odds of the best known class, ln(p / (1 - p)) = z_max - logsumexp of all other logits.

    Differences to z_max are taken before the exponentials, so that it neither saturates nor rounds to ties. With one
    logit in all the score is that logit, a sigmoid's log-odds.

    >>> print(float(log_odds({"logits": ops.array([[20.0, -20.0]])}, 2)[0]))
    40.0

    Reference: the logit of Hendrycks and Gimpel's score.
    """
    logits = read_logits(outputs, num_classes)
    if logits.shape[-1] == 1:
        return poison(logits[..., 0], logits)
    best = ops.expand_dims(ops.argmax(logits[..., :num_classes], axis=-1), axis=-1)
    others = logits - ops.take_along_axis(logits, best, axis=-1)
    is_best = ops.equal(ops.arange(logits.shape[-1]), ops.cast(best, "int32"))
    return poison(-ops.logsumexp(ops.where(is_best, float("-inf"), others), axis=-1), logits)


@keras.saving.register_keras_serializable("cplus1_keras")
def max_logit(outputs, num_classes):
    """Largest logit of a known class.

    >>> print(float(max_logit({"logits": ops.array([[1.0, 3.0, 9.0]])}, 2)[0]))
    3.0

    Reference: Vaze et al., "Open-Set Recognition: a Good Closed-Set Classifier is All You Need?", ICLR 2022.
    """
    logits = read_logits(outputs, num_classes)
    return poison(ops.max(logits[..., :num_classes], axis=-1), logits)


@keras.saving.register_keras_serializable("cplus1_keras")
def probability_times_magnitude(outputs, num_classes):
    """Largest probability of a known class times the length of the output `features` (..., K), max_c p_c ||phi||.

    >>> outputs = {"logits": ops.array([[0.0, 0.0]]), "features": ops.array([[3.0, 4.0]])}
    >>> print(float(probability_times_magnitude(outputs, 2)[0]))
    2.5

    Reference: Dhamija, Günther and Boult, "Reducing Network Agnostophobia", NeurIPS 2018.
    """
    squared = ops.sum(ops.square(read(outputs, "features")), axis=-1)
    # The root's derivative is infinite at 0; the inner `where` keeps it finite for who differentiates a score.
    length = ops.where(squared > 0, ops.sqrt(ops.where(squared > 0, squared, 1.0)), squared)
    return max_probability(outputs, num_classes) * length


@keras.saving.register_keras_serializable("cplus1_keras")
def one_minus_background(outputs, num_classes):
    """Probability that the input is of any known class, 1 - p(background); for C logits it is a ValueError.

    Computed as sigmoid(logsumexp of the knowns - z_background), exact where it is small.

    >>> print(float(one_minus_background({"logits": ops.array([[0.0, 0.0, 0.0]])}, 2)[0]).__round__(4))
    0.6667

    Reference: thesis 2023, section 2.1.
    """
    logits = read_logits(outputs, num_classes)
    if logits.shape[-1] == num_classes:
        needed = f"one_minus_background needs {num_classes + 1} logits for num_classes={num_classes}"
        raise ValueError(f"{needed}. Received: {num_classes}. Build the head with background=True, or take log_odds.")
    return poison(ops.sigmoid(ops.logsumexp(logits[..., :num_classes], axis=-1) - logits[..., num_classes]), logits)


@keras.saving.register_keras_serializable("cplus1_keras")
def energy(outputs, num_classes):
    """Negative free energy, logsumexp of the knowns' logits.

    >>> print(float(energy({"logits": ops.array([[0.0, 0.0]])}, 2)[0]).__round__(4))
    0.6931

    Reference: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020.
    """
    logits = read_logits(outputs, num_classes)
    return poison(ops.logsumexp(logits[..., :num_classes], axis=-1), logits)


@keras.saving.register_keras_serializable("cplus1_keras")
class ModelScore:
    """The score that a layer of the model computes, the output of that name; such as those of `cplus1_keras.posthoc`.

    Args:
        name: The output's.

    >>> score = ModelScore("mahalanobis")
    >>> print(float(score({"logits": np.zeros((1, 2)), "mahalanobis": np.array([-4.0])}, 2)[0]), score.__name__)
    -4.0 mahalanobis
    """

    def __init__(self, name):
        self.__name__ = name

    def __call__(self, outputs, num_classes):
        return read(outputs, self.__name__)

    def get_config(self):
        return {"name": self.__name__}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def get(score):
    """The score of a name such as `"log_odds"` or of what `to_config` gives; a function is returned as it is."""
    if callable(score):
        return score
    if isinstance(score, dict):
        return keras.saving.deserialize_keras_object(score)
    if score not in NAMES:
        raise ValueError(f"There is no score {score!r}. Scores: {', '.join(NAMES)}")
    return globals()[score]


def to_config(score):
    """What `get` makes the score of again: the name of one of these functions, else plain values, ready for JSON."""
    name = score.__name__
    return name if globals().get(name) is score else keras.saving.serialize_keras_object(score)


def probabilities(outputs, num_classes):
    """Softmax probabilities (..., C) of the known classes; with a background they may sum to less than 1.

    >>> print(ops.convert_to_numpy(probabilities({"logits": ops.zeros((1, 4))}, 3)))
    [[0.25 0.25 0.25]]
    """
    return ops.softmax(read_logits(outputs, num_classes))[..., :num_classes]


def read(outputs, name):
    """The named output in at least float32."""
    if not hasattr(outputs, "keys"):
        raise ValueError(f"A score reads a dict of a head's named outputs. Received: {type(outputs).__name__}")
    if name not in outputs:
        raise ValueError(f"This score reads the output {name!r}. The outputs are: {', '.join(sorted(outputs))}")
    value = ops.convert_to_tensor(outputs[name])
    # Not `result_type`, which on PyTorch makes float32 of float64.
    wide = keras.backend.standardize_dtype(value.dtype) == "float64"
    return value if wide else ops.cast(value, "float32")


def read_logits(outputs, num_classes):
    """The logits, after a look at their number."""
    logits = read(outputs, "logits")
    if logits.shape[-1] not in (num_classes, num_classes + 1):
        needed = f"num_classes={num_classes} needs {num_classes} logits, or {num_classes + 1} with a background class"
        raise ValueError(f"{needed}. Received: logits of shape {tuple(logits.shape)}")
    return logits


def poison(score, logits):
    """NaN where any logit is NaN or +inf: a maximum alone may skip a NaN, XLA's does, and accept a broken answer."""
    return ops.where(ops.all(logits < float("inf"), axis=-1), score, float("nan"))
