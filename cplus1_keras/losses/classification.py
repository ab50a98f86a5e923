"""Cross-entropy with its three treatments of negatives: leave them out, spread them evenly, a class of their own.

The functions take labels (...) of int32 and logits (..., C), or (..., C + 1) with the background last, and give values
>= 0 of shape (...); a label >= C gives NaN, since it names no class.
"""

import copy

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative, is_seen
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.margins import check_margin
from cplus1_keras.numerics.derivatives import add_at, as_rows, take_at, with_gradient


def cross_entropy(labels, logits, smoothing=0.0):
    """The value of each label, 0 unless known; see `CrossEntropyLoss`."""
    return ops.where(is_known(labels), _known_or_nan(labels, logits, None, smoothing), 0)


def background_cross_entropy(labels, logits, smoothing=0.0):
    """The value of each label, 0 unless seen; see `BackgroundCrossEntropyLoss`."""
    background = logits.shape[-1] - 1
    # A known label C would be taken for the background, so it is moved out of range, where it gives NaN.
    index = ops.where(labels >= background, background + 1, labels)
    return cross_entropy(ops.where(is_negative(labels), background, index), logits, smoothing)


def entropic_open_set(labels, logits, negative_weight=1.0, smoothing=0.0):
    """The value of each label, 0 unless seen; see `EntropicOpenSetLoss`."""
    negative = is_negative(labels)
    values = _known_or_nan(labels, logits, negative, smoothing)
    return ops.where(is_known(labels), values, ops.where(negative, negative_weight * values, 0))


def focus(values, gamma):
    """Cross-entropies -log p (...) times (1 - p)^γ."""
    # 1 - p from log p without cancellation; the floor keeps the derivative of a power below 1 finite at p = 1.
    return ops.power(ops.maximum(-ops.expm1(-values), 1e-30), gamma) * values


def check_gamma(gamma):
    """γ of a focal loss as a float, if it is a number >= 0."""
    if not gamma >= 0:
        raise ValueError(f"`gamma` must be >= 0. Received: gamma={gamma}")
    return float(gamma)


def sparse_cross_entropy(index, logits, even=None):
    """Softmax cross-entropy to the class y = `index` (...), or to equal probabilities of all where `even` (...) is set.

        log S - z'_y,   or  log S - mean_c z'_c,     z' = z - max_c z_c,   e = exp(z'),   S = sum_c e_c

    The derivative, g (e/S - [c = y]) or g (e/S - 1/C), takes e from the forward pass. TensorFlow's own operation takes
    twice as long on a CPU: one exponential per number is all there is to do, and this is a fast one.
    """
    logits = ops.convert_to_tensor(logits)
    rows = as_rows(logits)
    index = ops.reshape(ops.cast(index, "int32"), (-1,))
    even = None if even is None else ops.reshape(even, (-1,))

    def forward(rows):
        shifted = rows - ops.max(rows, axis=-1, keepdims=True)
        target = take_at(shifted, index)
        if even is not None:
            target = ops.where(even, ops.mean(shifted, axis=-1), target)
        exponential = ops.exp(shifted)
        total = ops.sum(exponential, axis=-1)
        return ops.log(total) - target, exponential, total

    def backward(upstream, tensors, kept):
        exponential, total = kept
        gradient = exponential * ops.expand_dims(upstream / total, -1)
        if even is None:
            return (add_at(gradient, index, -upstream),)
        gradient = gradient - ops.expand_dims(ops.where(even, upstream / rows.shape[-1], 0), -1)
        return (add_at(gradient, index, ops.where(even, 0, -upstream)),)

    return ops.reshape(with_gradient(forward, backward, rows), ops.shape(logits)[:-1])


def _known_or_nan(labels, logits, even, smoothing):
    inside = labels < logits.shape[-1]
    index = ops.where(is_known(labels) & inside, labels, 0)
    values = sparse_cross_entropy(index, logits, even)
    if smoothing:  # (1 - ε) (log S - z_y) + ε (log S - mean z)
        excess = take_at(logits, index) - ops.mean(logits, axis=-1)
        values = values + smoothing * ops.where(is_known(labels), excess, 0)
    return ops.where(inside, values, float("nan"))


def _check_smoothing(smoothing, margin):
    if not 0 <= smoothing < 1:
        raise ValueError(f"`smoothing` is a share in [0, 1). Received: smoothing={smoothing}")
    if smoothing and margin is not None and getattr(margin, "drops", False):
        raise ValueError(
            f"{type(margin).__name__} leaves classes out of the softmax, so none can have a share by label smoothing. "
            f"Received: smoothing={smoothing}"
        )
    return float(smoothing)


class _WithMargin(OpenSetLoss):
    """What the three share: a margin, of which they read what it reads, and label smoothing of the knowns."""

    smooths = True

    def __init__(self, margin=None, smoothing=0.0, name=None):
        self.margin = check_margin(margin, optional=True)
        self.smoothing = _check_smoothing(smoothing, self.margin)
        if self.margin is not None:
            self.reads = self.margin.reads
        super().__init__(name)

    def logits(self, labels, outputs, background=None):
        return outputs["logits"] if self.margin is None else self.margin.training_logits(labels, outputs, background)

    def smooth(self, rate):
        other = copy.copy(self)
        other.smoothing = _check_smoothing(rate, self.margin)
        return other

    def get_config(self):
        margin = self.margin and keras.saving.serialize_keras_object(self.margin)
        return {**super().get_config(), "margin": margin, "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("cplus1_keras")
class CrossEntropyLoss(_WithMargin):
    """Softmax cross-entropy on the knowns; negatives count for nothing. With a margin: CosFace, ArcFace and their kin.

        -log p_y = logsumexp_c z_c - z_y

    Args:
        margin: A margin of this package, or None.
        smoothing: ε in [0, 1), label smoothing: the known's class is to have the probability 1 - ε + ε / C, each other
            ε / C. Szegedy et al. (2016), section 7.

    Reference: Open-set losses thesis (2023), Eq 3.2, 3.5, 3.13-3.16.

    >>> loss = losses.CrossEntropyLoss()
    >>> round(float(loss(np.array([1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # log 4
    1.3863
    """

    def values(self, labels, outputs):
        return cross_entropy(labels, self.logits(labels, outputs), self.smoothing)


@keras.saving.register_keras_serializable("cplus1_keras")
class BackgroundCrossEntropyLoss(_WithMargin):
    """Cross-entropy over C + 1 classes: negatives are of the last class. Needs a head with `background=True`.

        -log p_y for y >= 0,   -log p_C for negatives,   each times (1 - p)^γ of its own p

    Args:
        margin: A margin of this package for the knowns, or None.
        gamma: γ >= 0 of the focal loss, which counts the already certain ones less; 0 is none.
        smoothing: As for `CrossEntropyLoss`, with the background as a class; not with γ.

    Reference: Open-set losses thesis (2023), section 2.1; C+1 loss (2022), section 3.2, L_separability; Lin et al.
    (2017), Eq 4, with the softmax in place of the sigmoid.

    >>> loss = losses.BackgroundCrossEntropyLoss()
    >>> round(float(loss(np.array([1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # 3 knowns + background
    1.3863
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def __init__(self, margin=None, gamma=0.0, smoothing=0.0, name=None):
        self.gamma = check_gamma(gamma)
        super().__init__(margin, smoothing, name)
        self._check()

    def _check(self):
        if self.gamma and self.smoothing:
            raise ValueError(
                "The focal loss asks how probable a label is, so it takes no label smoothing. Received: "
                f"gamma={self.gamma}, smoothing={self.smoothing}"
            )

    def smooth(self, rate):
        other = super().smooth(rate)
        other._check()
        return other

    def values(self, labels, outputs):
        background = outputs["logits"].shape[-1] - 1
        logits = self.logits(labels, outputs, background)
        values = background_cross_entropy(labels, logits, self.smoothing)
        return focus(values, self.gamma) if self.gamma else values

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("cplus1_keras")
class EntropicOpenSetLoss(_WithMargin):
    """Entropic open-set loss (EOS): knowns to their class, negatives to equal probabilities of all classes.

        -log p_y for y >= 0,   -w (1/C) sum_c log p_c for negatives, at least w log C

    Args:
        margin: A margin of this package for the knowns, or None. With `CosFace` on a `CosineHead` it is Cos-EOS.
        negative_weight: w >= 0; the mean still counts each negative once.
        smoothing: As for `CrossEntropyLoss`; what negatives are to have is even already.

    Reference: Open-set losses thesis (2023), Eq 3.17, 3.18 (with the log and the sign that print lost), 4.6, 4.7;
    Dhamija et al. (2018), Eq 1.

    >>> loss = losses.EntropicOpenSetLoss()
    >>> round(float(loss(np.array([-1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # the least: log 4
    1.3863
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def __init__(self, margin=None, negative_weight=1.0, smoothing=0.0, name=None):
        if not 0 <= negative_weight < float("inf"):
            raise ValueError(f"`negative_weight` must be >= 0. Received: negative_weight={negative_weight}")
        self.negative_weight = float(negative_weight)
        super().__init__(margin, smoothing, name)

    def values(self, labels, outputs):
        return entropic_open_set(labels, self.logits(labels, outputs), self.negative_weight, self.smoothing)

    def get_config(self):
        return {**super().get_config(), "negative_weight": self.negative_weight}
