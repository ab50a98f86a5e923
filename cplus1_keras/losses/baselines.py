"""The baselines of the papers' tables: hinge, focal, anchor, guided complement entropy. Negatives count for nothing.

The functions take labels (...) of int32 and logits (..., C), and give 0 for what is not known; a label >= C gives NaN.
"""

import math

import keras
import numpy as np
from keras import ops

from cplus1_keras.labels import is_known
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.classification import check_gamma, cross_entropy, focus


def hinge(labels, logits):
    """The value of each label; see `HingeLoss`."""
    at_target, own = _target(labels, logits)
    others = ops.max(ops.where(at_target, -float("inf"), logits), axis=-1)
    return _of_knowns(labels, logits, ops.maximum(1 + others - own, 0))


def focal(labels, logits, gamma=2.0):
    """The value of each label; see `FocalLoss`."""
    return focus(cross_entropy(labels, logits), gamma)


def anchor(labels, logits, gamma=0.5, slack=0.05):
    """The value of each label; see `AnchorLoss`."""
    at_target, own = _target(labels, logits)
    reference = ops.stop_gradient(ops.maximum(ops.sigmoid(own) - slack, 0))
    # The floor keeps the derivative of a power below 1 finite.
    surplus = ops.maximum(1 + ops.sigmoid(logits) - ops.expand_dims(reference, -1), 1e-30)
    others = ops.where(at_target, 0, ops.power(surplus, gamma) * ops.softplus(logits))
    return _of_knowns(labels, logits, ops.softplus(-own) + ops.sum(others, axis=-1))


def guided_complement_entropy(labels, logits, alpha=1 / 3):
    """The value of each label, in [-1, 0]; see `GuidedComplementEntropyLoss`."""
    at_target, _ = _target(labels, logits)
    others = ops.logsumexp(ops.where(at_target, -float("inf"), logits), axis=-1, keepdims=True)
    log_q = ops.where(at_target, 0, logits - others)  # 0 log 0 has no derivative
    entropy = ops.sum(ops.where(at_target, 0, ops.exp(log_q) * log_q), axis=-1) / math.log(logits.shape[-1] - 1)
    guide = ops.exp(-alpha * cross_entropy(labels, logits))
    return _of_knowns(labels, logits, guide * entropy)


def _target(labels, logits):
    """Where each row's true class is (..., C), and the logit there (...), 0 for what has none."""
    at_target = ops.equal(ops.expand_dims(labels, -1), ops.arange(logits.shape[-1]))
    return at_target, ops.sum(ops.where(at_target, logits, 0), axis=-1)


def _of_knowns(labels, logits, values):
    """The values of the knowns, 0 for the others, NaN for what is no class."""
    return ops.where(is_known(labels), ops.where(labels < logits.shape[-1], values, float("nan")), 0)


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


@keras.saving.register_keras_serializable("cplus1_keras")
class AnchorLoss(OpenSetLoss):
    """Anchor loss on the knowns: sigmoid cross-entropies, in which classes nearly as sure as the true one count more.

        -log q_y - sum_{c != y} (1 + q_c - q*)^γ log(1 - q_c),   q = sigmoid(z),   q* = max(q_y - δ, 0)

    No gradient flows through q*. (The paper starts with some epochs of plain cross-entropy on ImageNet.)

    Args:
        gamma: γ >= 0; 0 is the sum of the sigmoid cross-entropies.
        slack: δ in [0, 1].

    Reference: Ryou et al. (2019), section 3, with the values of the authors' code; HNC (2020), Table 1.

    >>> loss = losses.AnchorLoss(gamma=1.0, slack=0.0)
    >>> round(float(loss(np.array([0]), {"logits": np.zeros((1, 3), "float32")})), 4)  # 3 log 2
    2.0794
    """

    def __init__(self, gamma=0.5, slack=0.05, name=None):
        if not 0 <= slack <= 1:
            raise ValueError(f"`slack` is a difference of probabilities, in [0, 1]. Received: slack={slack}")
        self.gamma, self.slack = check_gamma(gamma), float(slack)
        super().__init__(name)

    def values(self, labels, outputs):
        return anchor(labels, outputs["logits"], self.gamma, self.slack)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "slack": self.slack}


@keras.saving.register_keras_serializable("cplus1_keras")
class GuidedComplementEntropyLoss(OpenSetLoss):
    """Guided complement entropy (GCE) on the knowns: even probabilities of all other classes, the surer the more.

        p_y^α / log(C - 1) · sum_{c != y} q_c log q_c,   q_c = p_c / (1 - p_y)

    It lies in [-1, 0] and needs at least three classes. (The authors' code divides by log C, which is another step
    length only.)

    Args:
        alpha: α >= 0, how much the probability of the true class guides, 1/3 in the authors' code; 0 is complement
            entropy alone, which does not classify.

    Reference: H.-Y. Chen et al. (2019), section 3; named in HNC (2020), section 4.1.

    >>> loss = losses.GuidedComplementEntropyLoss(alpha=1.0)
    >>> round(float(loss(np.array([0]), {"logits": np.zeros((1, 4), "float32")})), 4)  # even: -p_y
    -0.25
    """

    def __init__(self, alpha=1 / 3, name=None):
        if not 0 <= alpha < math.inf:
            raise ValueError(f"`alpha` must be >= 0. Received: alpha={alpha}")
        self.alpha = float(alpha)
        super().__init__(name)

    def values(self, labels, outputs):
        logits = outputs["logits"]
        if logits.shape[-1] < 3:
            needs = f"`{self.name}` spreads the probability of the classes that are not true: it needs at least three"
            raise ValueError(f"{needs}. Received: logits of shape {tuple(logits.shape)}")
        return guided_complement_entropy(labels, logits, self.alpha)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}
