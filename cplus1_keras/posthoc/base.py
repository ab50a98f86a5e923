"""What all fitted scores share: one pass over batches fits them, a dict of named outputs gives the score."""

import keras
import numpy as np
from keras import ops

from cplus1_keras import scores
from cplus1_keras.labels import check_count, is_known, is_label


class FittedScore(keras.layers.Layer):
    """A score with numbers of its own: `score.fit(batches, num_classes)`, then `score(outputs)` gives floats (...).

    Called on a dict with `logits` (..., C) or (..., C + 1), and `features` (..., K), it computes in float32. Before it
    is fitted it is NaN, which nothing accepts, and so it is where a logit or a feature is NaN or infinite. One of your
    own is registered with Keras, sets `score_name`, and overrides what it needs: `estimate(rows, classifier)`, with
    NumPy in bounded memory, to a dict of statistics; `build`, which adds them by `add_statistic`; `measure(logits,
    features)`, with `keras.ops`. `needs_training`, `needs_classifier` and `reads_features` tell what it reads.

    Args:
        num_classes: C, the number of known classes; `fit` sets it.
        **kwargs: Those of `keras.layers.Layer`.

    >>> @keras.saving.register_keras_serializable("readme")
    ... class Length(posthoc.FittedScore):
    ...     score_name = "length"
    ...     def estimate(self, rows, classifier):
    ...         return {"mean": np.mean([np.linalg.norm(features) for _, batch, _ in rows for features in batch])}
    ...     def build(self, shapes):
    ...         self.mean = self.add_statistic("mean", ())
    ...     def measure(self, logits, features):
    ...         return ops.norm(features, axis=-1) / self.mean
    >>> outputs = {"logits": np.zeros((2, 3)), "features": np.array([[3.0, 4.0], [9.0, 12.0]])}
    >>> score = Length()
    >>> score.fit([(outputs, np.array([0, 2]))], num_classes=3)
    >>> print(ops.convert_to_numpy(score(outputs)))
    [0.5 1.5]
    """

    score_name = "score"
    """Name of the model's output that it becomes, and of the score in the evidence for a threshold."""

    needs_training = True
    """Whether `fit` reads batches."""

    needs_classifier = False
    """Whether `fit` needs the kernel and the bias that make the logits of the features."""

    reads_features = True
    """Whether `measure` reads the features; else it gets None."""

    def __init__(self, num_classes=None, **kwargs):
        super().__init__(**{"name": self.score_name, **kwargs, "dtype": "float32", "trainable": False})
        self.num_classes = None if num_classes is None else check_count(num_classes)

    def fit(self, batches, num_classes, classifier=None):
        """Estimate the statistics; again is from the beginning.

        Args:
            batches: Iterable, read once, of pairs of a dict with `logits` (n, C) and `features` (n, K), and labels (n,)
                in the package's convention: only the knowns count. None for a score that needs no training.
            num_classes: C.
            classifier: Pair of kernel (K, C) and bias (C,), where logits = features · kernel + bias; or None.

        Raises:
            ValueError: For labels that are no class, numbers that are not finite, a class without a sample, logits that
                are not those of the classifier.
        """
        self.num_classes, shapes = check_count(num_classes), {}
        classifier = classifier if self.needs_classifier else None
        if classifier is not None:
            classifier = tuple(np.asarray(weight, "float32") for weight in classifier)
            names = zip(("features", "logits"), classifier[0].shape, strict=True)
            shapes = {name: (None, size) for name, size in names}
        elif self.needs_classifier:
            raise ValueError(
                f"{type(self).__name__} needs logits that a Dense layer makes of the features, for it makes others of "
                "changed features. Name that layer's input as the features, or take a score of distances."
            )
        if self.needs_training and batches is None:
            raise ValueError(f"{type(self).__name__} is fitted on training samples: give images with their labels.")
        rows = None if batches is None else _read(batches, self, classifier, shapes)
        found = self.estimate(rows, classifier)
        if not self.built and shapes:
            self.build(shapes)
        for name, value in found.items():
            getattr(self, name).assign(value)

    def estimate(self, rows, classifier):
        """Dict of the statistics, from an iterator of (logits, features, labels) of knowns, float32 and integers."""
        return {}

    def measure(self, logits, features):
        """The score (...) of tensors."""
        raise NotImplementedError(f"{type(self).__name__} must implement `measure(logits, features)`.")

    def add_statistic(self, name, shape):
        """A weight that `fit` sets; NaN before."""
        self._check_fitted()
        unknown = keras.initializers.Constant(float("nan"))
        return self.add_weight(name=name, shape=shape, initializer=unknown, trainable=False)

    def call(self, outputs):
        self._check_fitted()
        logits = scores.read_logits(outputs, self.num_classes)
        if not self.reads_features:
            return scores.poison(self.measure(logits, None), logits)
        features = scores.read(outputs, "features")
        return scores.poison(scores.poison(self.measure(logits, features), logits), ops.abs(features))

    def compute_output_shape(self, shapes):
        return tuple(shapes["logits"][:-1])

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}

    def _check_fitted(self):
        if self.num_classes is None:
            raise ValueError(f"{type(self).__name__} is not fitted: call `fit`, or let `cplus1_keras.wrap` do it.")


def share(value, name):
    """The argument of that name as a float in (0, 1), or a ValueError."""
    if not 0 < value < 1:
        raise ValueError(f"`{name}` is a share and must lie in (0, 1). Received: {name}={value}")
    return float(value)


def check_all_classes(counts, least=1, kind="training samples"):
    """Raises ValueError unless each class has at least so many samples."""
    few = np.flatnonzero(np.asarray(counts) < least)
    if len(few):
        raise ValueError(
            f"Each class needs at least {least:,} {kind}; these have fewer: {few[:10].tolist()}. Give more, or take a "
            "score that reads no classes, such as `NearestNeighbors`."
        )


def _read(batches, score, classifier, shapes):
    """The knowns of each batch, checked; tells the shapes of the outputs."""
    number, total = 0, 0
    for outputs, labels in batches:
        logits, features = (np.asarray(outputs[name], "float32") for name in ("logits", "features"))
        labels = read_labels(labels, len(logits), score.num_classes)
        known = is_known(labels)
        logits, features = logits[known], features[known]
        broken = ~(np.isfinite(logits).all(-1) & np.isfinite(features).all(-1))
        if broken.any():
            index = number + np.flatnonzero(known)[broken][0]
            raise ValueError(f"The outputs for training sample {index:,} are not finite: repair or remove it.")
        shapes |= {"logits": (None, logits.shape[-1]), "features": (None, features.shape[-1])}
        if classifier is not None and not total:
            _check_classifier(logits, features, classifier)
        number, total = number + len(labels), total + len(logits)
        if len(logits):
            yield logits, features, labels[known]
    if not total:
        raise ValueError(f"{type(score).__name__} learns from knowns, and there is none among {number:,} samples.")


def read_labels(labels, count, num_classes):
    """Labels (count,) as int64, if they are of the convention and name no other class; else ValueError."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        hint = " Of one-hot labels take `labels.argmax(-1)`." if labels.ndim == 2 else ""
        raise ValueError(
            f"Labels must be one integer for each of {count:,} samples. Received: shape {labels.shape}, dtype "
            f"{labels.dtype}.{hint}"
        )
    labels = labels.astype("int64")
    wrong = np.unique(labels[~is_label(labels) | (labels >= num_classes)])
    if len(wrong):
        raise ValueError(
            f"Labels must name the known classes 0..{num_classes - 1}, or be -1 (negative), -2 (unknown), -100 "
            f"(ignored). Received also: {wrong[:5].tolist()}."
        )
    return labels


def _check_classifier(logits, features, classifier):
    kernel, bias = classifier
    made = features @ kernel + bias if features.shape[-1] == kernel.shape[0] else None
    # Half precision is good for three digits of the largest logit.
    if made is None or not np.allclose(made, logits, rtol=2e-2, atol=2e-2 * np.abs(logits).max(initial=0)):
        raise ValueError(
            f"The features of shape {features.shape[1:]} do not give the logits by the kernel of shape {kernel.shape}, "
            "which this score needs. Take the input of the last Dense layer as the features, or a score of distances."
        )
