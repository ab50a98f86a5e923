"""Cross-entropy with its three treatments of negatives: leave them out, spread them evenly, a class of their own.

The functions take labels (...) of int32 and logits (..., C), or (..., C + 1) with the background last, and give values
>= 0 of shape (...); a label >= C gives NaN, since it names no class.
"""

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative, is_seen
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.margins import check_margin
from cplus1_keras.numerics.derivatives import add_at, as_rows, take_at, with_gradient


def cross_entropy(labels, logits):
    """Softmax cross-entropy of the known labels, one value per label.

        -log p_y = logsumexp_c z_c - z_y        for y >= 0, else 0

    Reference: Open-set losses thesis (2023), Eq 3.2 and 3.5.

    >>> np.round(cross_entropy(np.array([0, -1]), np.zeros((2, 4))), 4).tolist()  # log 4
    [1.3863, 0.0]
    """
    known = is_known(labels)
    return ops.where(known, _known_or_nan(labels, logits, sparse_cross_entropy), 0)


def background_cross_entropy(labels, logits):
    """Cross-entropy over C + 1 classes, the last of which is the background: one value per label.

        -log p_y for y >= 0,   -log p_C for negatives,   else 0

    Reference: Open-set losses thesis (2023), section 2.1; C+1 loss (2022), section 3.2, L_separability.

    >>> np.round(background_cross_entropy(np.array([0, -1, -100]), np.zeros((3, 4))), 4).tolist()  # log 4
    [1.3863, 1.3863, 0.0]
    """
    background = logits.shape[-1] - 1
    # A known label C would be taken for the background, so it is moved out of range, where it gives NaN.
    index = ops.where(labels >= background, background + 1, labels)
    return cross_entropy(ops.where(is_negative(labels), background, index), logits)


def entropic_open_set(labels, logits, negative_weight=1.0):
    """Entropic open-set loss: knowns as in cross-entropy, negatives towards equal probabilities. One value per label.

        -log p_y for y >= 0,   -w (1/C) sum_c log p_c for negatives,   else 0

    log C is the least value of a negative.

    Reference: Open-set losses thesis (2023), Eq 3.17 and 3.18 (with the log and the sign that print lost); Dhamija et
    al. (2018), Eq 1.

    >>> np.round(entropic_open_set(np.array([0, -1]), np.array([[2.0, 0.0], [2.0, 0.0]])), 4).tolist()
    [0.1269, 1.1269]
    """
    negative = is_negative(labels)
    values = _known_or_nan(labels, logits, lambda index, logits: sparse_cross_entropy(index, logits, negative))
    return ops.where(is_known(labels), values, ops.where(negative, negative_weight * values, 0))


def sparse_cross_entropy(index, logits, even=None):
    """Softmax cross-entropy to one class, or to equal probabilities of all.

        log S - z'_y,   or  log S - mean_c z'_c,     z' = z - max_c z_c,   e = exp(z'),   S = sum_c e_c

    The derivative, g (e/S - [c = y]) or g (e/S - 1/C), takes e from the forward pass. TensorFlow's own operation takes
    twice as long on a CPU: one exponential per number is all there is to do, and this is a fast one.

    Args:
        index: y, int32 tensor, shape (...), in 0..C-1.
        logits: z, tensor of shape (..., C).
        even: Boolean tensor of shape (...), True for equal probabilities; None for nowhere.

    Returns:
        Tensor of shape (...), values >= 0.

    >>> np.round(sparse_cross_entropy(np.array([0, 1]), np.array([[0.0, 0.0], [9.0, 0.0]])), 4).tolist()
    [0.6931, 9.0001]
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


def _known_or_nan(labels, logits, values):
    inside = labels < logits.shape[-1]
    index = ops.where(is_known(labels) & inside, labels, 0)
    return ops.where(inside, values(index, logits), float("nan"))


class _WithMargin(OpenSetLoss):
    """What the three share: a margin, of which they read what it reads."""

    def __init__(self, margin, name):
        self.margin = check_margin(margin, optional=True)
        if self.margin is not None:
            self.reads = self.margin.reads
        super().__init__(name)

    def logits(self, labels, outputs, background=None):
        """The logits that training sees."""
        return outputs["logits"] if self.margin is None else self.margin.training_logits(labels, outputs, background)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin and keras.saving.serialize_keras_object(self.margin)}


@keras.saving.register_keras_serializable("cplus1_keras")
class CrossEntropyLoss(_WithMargin):
    """Softmax cross-entropy on the knowns; negatives count for nothing. With a margin: CosFace, ArcFace and their kin.

    Args:
        margin: A margin of this package, or None.
        name: As in `OpenSetLoss`.

    Raises:
        ValueError: If `margin` is no margin; when called, as `OpenSetLoss`.

    Reference: Open-set losses thesis (2023), Eq 3.5, 3.13-3.16.

    >>> loss = losses.CrossEntropyLoss()
    >>> round(float(loss(np.array([1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # log 4
    1.3863
    """

    def __init__(self, margin=None, name="cross_entropy"):
        super().__init__(margin, name)

    def values(self, labels, outputs):
        """-log p_y of each label."""
        return cross_entropy(labels, self.logits(labels, outputs))


@keras.saving.register_keras_serializable("cplus1_keras")
class BackgroundCrossEntropyLoss(_WithMargin):
    """Cross-entropy over C + 1 classes: negatives are of the last class. Needs a head with `background=True`.

    Args:
        margin: A margin of this package for the knowns, or None.
        name: As in `OpenSetLoss`.

    Raises:
        ValueError: If `margin` is no margin; when called, as `OpenSetLoss`.

    Reference: Open-set losses thesis (2023), section 2.1; C+1 loss (2022), section 3.2.

    >>> loss = losses.BackgroundCrossEntropyLoss()
    >>> round(float(loss(np.array([1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # 3 knowns + background
    1.3863
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def __init__(self, margin=None, name="background_cross_entropy"):
        super().__init__(margin, name)

    def values(self, labels, outputs):
        """-log p_y of each label, with the last class for negatives."""
        background = outputs["logits"].shape[-1] - 1
        return background_cross_entropy(labels, self.logits(labels, outputs, background))


@keras.saving.register_keras_serializable("cplus1_keras")
class EntropicOpenSetLoss(_WithMargin):
    """Entropic open-set loss (EOS): knowns to their class, negatives to equal probabilities of all classes.

    Args:
        margin: A margin of this package for the knowns, or None. With `CosFace` on a `CosineHead` it is Cos-EOS.
        negative_weight: Factor of the negatives' values, >= 0; the mean still counts each of them once.
        name: As in `OpenSetLoss`.

    Raises:
        ValueError: If `margin` is no margin or `negative_weight` is negative; when called, as `OpenSetLoss`.

    Reference: Open-set losses thesis (2023), Eq 3.17, 3.18, 4.6, 4.7; Dhamija et al. (2018), Eq 1.

    >>> loss = losses.EntropicOpenSetLoss()
    >>> round(float(loss(np.array([-1, -1]), {"logits": np.zeros((2, 4), "float32")})), 4)  # the least: log 4
    1.3863
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def __init__(self, margin=None, negative_weight=1.0, name="entropic_open_set"):
        if not 0 <= negative_weight < float("inf"):
            raise ValueError(f"`negative_weight` must be >= 0. Received: negative_weight={negative_weight}")
        self.negative_weight = float(negative_weight)
        super().__init__(margin, name)

    def values(self, labels, outputs):
        """-log p_y of a known label, the cross-entropy to equal probabilities of a negative one."""
        return entropic_open_set(labels, self.logits(labels, outputs), self.negative_weight)

    def get_config(self):
        return {**super().get_config(), "negative_weight": self.negative_weight}
