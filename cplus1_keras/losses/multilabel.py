"""Several classes in one image: losses on label sets, `multi_hot` (batch, C) of 1 (present), 0 (absent) and IGNORE.

The losses take the mean over the annotated entries of all images.
"""

import keras
import numpy as np
from keras import ops

from cplus1_keras.labels import check_multi_hot, is_absent, is_annotated, is_present
from cplus1_keras.losses.base import OpenSetLoss


def weighted_sigmoid(multi_hot, logits, positive_rates):
    """The value of each entry; see `WeightedSigmoidLoss`."""
    rates = ops.convert_to_tensor(positive_rates, logits.dtype)
    of_present = ops.exp(1 - rates) * ops.softplus(-logits)
    of_absent = ops.exp(rates) * ops.softplus(logits)
    return _choose(multi_hot, of_present, of_absent)


def asymmetric(multi_hot, logits, gamma_negative=4.0, gamma_positive=0.0, clip=0.05):
    """The value of each entry; see `AsymmetricLoss`."""
    absence = ops.sigmoid(-logits)
    shifted = ops.maximum(ops.sigmoid(logits) - clip, 0)
    of_absent = -ops.log(ops.minimum(absence + clip, 1)) if clip else ops.softplus(logits)
    of_present = _power(absence, gamma_positive) * ops.softplus(-logits)
    return _choose(multi_hot, of_present, _power(shifted, gamma_negative) * of_absent)


def _power(base, exponent):
    """The floor keeps the derivative of a power below 1 finite at 0."""
    return ops.power(ops.maximum(base, 1e-30), exponent)


def _choose(multi_hot, of_present, of_absent):
    return ops.where(is_present(multi_hot), of_present, ops.where(is_absent(multi_hot), of_absent, 0))


class _LabelSetLoss(OpenSetLoss):
    """What the three share: label sets of the logits' shape, of which the annotated entries count."""

    truth = ("multi_hot",)
    counted = staticmethod(is_annotated)

    def checked(self, labels, outputs, kind):
        return check_multi_hot(labels, outputs["logits"].shape, self.name)


@keras.saving.register_keras_serializable("cplus1_keras")
class WeightedSigmoidLoss(_LabelSetLoss):
    """Sigmoid cross-entropy on `logits` that weighs rare presence and common absence more, for label sets `multi_hot`.

        -exp(1 - p) log σ(z) for present classes,   -exp(p) log σ(-z) for absent classes

    Args:
        positive_rates: p, for each of the C classes the share of training images that contain it, in [0, 1].

    Reference: Homogeneous negative CAM (2020), Eq 8.

    >>> loss = losses.WeightedSigmoidLoss(positive_rates=[0.5, 0.01])
    >>> round(float(loss({"multi_hot": np.array([[1, 0]])}, {"logits": np.zeros((1, 2), "float32")})), 4)
    0.9215
    """

    def __init__(self, positive_rates, name=None):
        rates = np.asarray(positive_rates, "float64")
        if rates.ndim != 1 or not rates.size or not np.all((rates >= 0) & (rates <= 1)):
            raise ValueError(
                "`positive_rates` must give for each class the share of images that contain it, in [0, 1]. "
                f"Received: positive_rates={positive_rates}"
            )
        self.positive_rates = rates.tolist()
        super().__init__(name)

    def checked(self, labels, outputs, kind):
        shape = outputs["logits"].shape
        if shape[-1] != len(self.positive_rates):
            raise ValueError(
                f"`{self.name}` has {len(self.positive_rates)} `positive_rates`, so it needs as many logits. "
                f"Received logits of shape {tuple(shape)}."
            )
        return super().checked(labels, outputs, kind)

    def values(self, labels, outputs):
        return weighted_sigmoid(labels, outputs["logits"], self.positive_rates)

    def get_config(self):
        return {**super().get_config(), "positive_rates": self.positive_rates}


@keras.saving.register_keras_serializable("cplus1_keras")
class MultiLabelCrossEntropyLoss(_LabelSetLoss):
    """Binary cross-entropy of each class on `logits`, for label sets `multi_hot`.

        -log σ(z) for present classes,   -log σ(-z) for absent classes

    >>> loss = losses.MultiLabelCrossEntropyLoss()
    >>> round(float(loss({"multi_hot": np.array([[1, -100]])}, {"logits": np.zeros((1, 2), "float32")})), 4)
    0.6931
    """

    def values(self, labels, outputs):
        logits = outputs["logits"]
        return _choose(labels, ops.softplus(-logits), ops.softplus(logits))


@keras.saving.register_keras_serializable("cplus1_keras")
class AsymmetricLoss(_LabelSetLoss):
    """Asymmetric loss on `logits`, for label sets `multi_hot`: the many absent classes count less the surer they are.

        -(1 - p)^γ+ log p for present classes, p = σ(z),   -q^γ- log(1 - q) for absent ones, q = max(p - m, 0)

    The authors' code sums where this takes the mean, and has no gradient of the focusing factors.

    Args:
        gamma_negative: γ- >= 0, the exponent for absent classes.
        gamma_positive: γ+ >= 0, for present ones; 0 in the paper's experiments.
        clip: m in [0, 1), the probability below which an absent class gives no loss.

    Reference: Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021, Eq 4-7.

    >>> loss = losses.AsymmetricLoss(gamma_negative=2.0, clip=0.0)
    >>> round(float(loss({"multi_hot": np.array([[0]])}, {"logits": np.zeros((1, 1), "float32")})), 4)  # 0.5² log 2
    0.1733
    """

    def __init__(self, gamma_negative=4.0, gamma_positive=0.0, clip=0.05, name=None):
        if not (0 <= gamma_negative < np.inf and 0 <= gamma_positive < np.inf and 0 <= clip < 1):
            raise ValueError(
                "`gamma_negative` and `gamma_positive` must be >= 0 and `clip` in [0, 1). Received: "
                f"gamma_negative={gamma_negative}, gamma_positive={gamma_positive}, clip={clip}"
            )
        self.gamma_negative, self.gamma_positive, self.clip = float(gamma_negative), float(gamma_positive), float(clip)
        super().__init__(name)

    def values(self, labels, outputs):
        return asymmetric(labels, outputs["logits"], self.gamma_negative, self.gamma_positive, self.clip)

    def get_config(self):
        config = {"gamma_negative": self.gamma_negative, "gamma_positive": self.gamma_positive, "clip": self.clip}
        return {**super().get_config(), **config}
