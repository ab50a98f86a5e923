"""The baselines of the papers' tables: hinge, focal, and class-balanced focal loss. Negatives count for nothing.

The functions take labels (...) of int32 and logits (..., C), and give 0 for what is not known; a label >= C gives NaN.
"""

import keras
import numpy as np
from keras import ops

from cplus1_keras.labels import is_known
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.classification import check_gamma, cross_entropy, focus


def hinge(labels, logits):
    """The value of each label; see `HingeLoss`."""
    at_target = ops.equal(ops.expand_dims(labels, -1), ops.arange(logits.shape[-1]))
    own = ops.sum(ops.where(at_target, logits, 0), axis=-1)
    others = ops.max(ops.where(at_target, -float("inf"), logits), axis=-1)
    values = ops.where(labels < logits.shape[-1], ops.maximum(1 + others - own, 0), float("nan"))
    return ops.where(is_known(labels), values, 0)


def focal(labels, logits, gamma=2.0):
    """The value of each label; see `FocalLoss`."""
    return focus(cross_entropy(labels, logits), gamma)


def class_balanced_weights(counts, beta=0.999):
    """Weights (C,) of the classes as float64, see `ClassBalancedFocalLoss`; their mean is 1.

    >>> np.asarray(class_balanced_weights([10, 10])).tolist()
    [1.0, 1.0]
    """
    counts = np.asarray(counts, "float64")
    if counts.ndim != 1 or counts.size == 0 or not (counts >= 1).all() or not 0 <= beta < 1:
        raise ValueError(
            "Class-balanced weights need one count >= 1 for each class and `beta` in [0, 1). "
            f"Received: counts={counts.tolist()}, beta={beta}"
        )
    inverse = (1 - beta) / (1 - beta**counts)
    return inverse / inverse.mean()


@keras.saving.register_keras_serializable("cplus1_keras")
class HingeLoss(OpenSetLoss):
    """Multi-class hinge loss on the knowns: the true logit must exceed every other by 1.

        max(0, 1 + max_{c != y} z_c - z_y)

    (Keras's `categorical_hinge` takes the largest other logit to be 0 where all are negative.)

    Reference: Crammer and Singer (2001), section 3; Anchor NCM (2018), Table 2.

    >>> loss = losses.HingeLoss()
    >>> float(loss(np.array([0, -1]), {"logits": np.array([[2.0, 1.5], [0.0, 0.0]])}))
    0.5
    """

    def values(self, labels, outputs):
        return hinge(labels, outputs["logits"])


@keras.saving.register_keras_serializable("cplus1_keras")
class FocalLoss(OpenSetLoss):
    """Focal loss on the knowns: cross-entropy that counts the already certain ones less.

        -(1 - p_y)^γ log p_y

    (Keras's `categorical_focal_crossentropy` clips p, which stops the gradient of a sample that is very wrong.)

    Args:
        gamma: γ >= 0; 0 is cross-entropy.

    Reference: Lin et al. (2017), Eq 4, with the softmax in place of the sigmoid; HNC (2020), Table 1.

    >>> loss = losses.FocalLoss(gamma=2.0)
    >>> round(float(loss(np.array([0]), {"logits": np.zeros((1, 2), "float32")})), 4)  # (1 - 0.5)^2 log 2
    0.1733
    """

    def __init__(self, gamma=2.0, name=None):
        self.gamma = check_gamma(gamma)
        super().__init__(name)

    def values(self, labels, outputs):
        return focal(labels, outputs["logits"], self.gamma)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("cplus1_keras")
class ClassBalancedFocalLoss(FocalLoss):
    """Focal loss on the knowns, each class weighted by the effective number E of its samples; the mean weight is 1.

        -w_y (1 - p_y)^γ log p_y,   w_c = C E_c^-1 / sum_k E_k^-1,   E_c = (1 - β^n_c) / (1 - β)

    The mean divides by the number of knowns, not by the sum of their weights. With equal counts it is `FocalLoss`.

    Args:
        counts: n, the number of training samples of each known class, all >= 1.
        beta: β in [0, 1); 0 weighs all classes alike, towards 1 the weight becomes inverse to n.
        gamma: γ >= 0.

    Reference: Cui et al. (2019), section 4.3, with the softmax in place of the sigmoids; HNC (2020), Table 1.

    >>> loss = losses.ClassBalancedFocalLoss(counts=[500, 50, 5])
    """

    def __init__(self, counts, beta=0.999, gamma=2.0, name=None):
        self.counts = [int(count) for count in counts]
        self.beta = float(beta)
        self._weights = class_balanced_weights(self.counts, self.beta)
        super().__init__(gamma, name)

    def values(self, labels, outputs):
        logits = outputs["logits"]
        if logits.shape[-1] - len(self.counts) not in (0, 1):
            raise ValueError(
                f"`{self.name}` needs as many logits as `counts`, {len(self.counts)}, or one more for the background. "
                f"Received: logits of shape {tuple(logits.shape)}"
            )
        weights = ops.cast(self._weights, logits.dtype)
        return ops.take(weights, ops.clip(labels, 0, len(self.counts) - 1)) * super().values(labels, outputs)

    def get_config(self):
        return {**super().get_config(), "counts": self.counts, "beta": self.beta}
