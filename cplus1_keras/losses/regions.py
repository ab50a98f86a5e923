"""Losses of the two stages of a detector: whether an anchor is an object, and where the box of a region lies.

`layers.Anchors` and `layers.RoIHeads` give `labels` and what these read, with their prefixes: `loss.of("rpn_")`.
"""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_seen
from cplus1_keras.losses.base import OpenSetLoss


@keras.saving.register_keras_serializable("cplus1_keras")
class ObjectnessLoss(OpenSetLoss):
    """Binary cross-entropy of `logits` z (..., 1): knowns of any class are objects, negatives are not.

        -log σ(z) for knowns,   -log σ(-z) for negatives

    The mean over both.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.2.

    >>> round(float(losses.ObjectnessLoss()(np.array([0, -1]), {"logits": np.array([[2.0], [0.0]])})), 4)
    0.41
    """

    counted = staticmethod(is_seen)
    needs_negatives = True

    def values(self, labels, outputs):
        logits = outputs["logits"][..., 0]
        return ops.softplus(ops.where(is_known(labels), -logits, logits))


@keras.saving.register_keras_serializable("cplus1_keras")
class BoxDeltaLoss(OpenSetLoss):
    """Smooth-L1 of `box_deltas` to `box_delta_targets` (..., 4), summed over the four, of the knowns.

        d²/2β for |d| < β,   |d| - β/2 beyond

    Divided by the number of knowns and negatives, as the classification beside it; `per_known()` divides by the knowns.

    Args:
        beta: β >= 0; 0 is the absolute value.

    Reference: Girshick, "Fast R-CNN", ICCV 2015, Eq 3; β as in Detectron, 0 in mmdetection's Mask R-CNN.

    >>> given = {"box_deltas": np.array([[0.0, 0, 0, 2], [9, 9, 9, 9]]), "box_delta_targets": np.zeros((2, 4))}
    >>> float(losses.BoxDeltaLoss()(np.array([0, -1]), given))
    0.75
    """

    reads = ("box_deltas", "box_delta_targets")
    per = staticmethod(is_seen)

    def __init__(self, beta=1.0, name=None):
        if not 0 <= beta < math.inf:
            raise ValueError(f"`beta` must be a number >= 0. Received: beta={beta}")
        self.beta = float(beta)
        super().__init__(name)

    def values(self, labels, outputs):
        return ops.sum(smooth_l1(outputs["box_deltas"] - outputs["box_delta_targets"], self.beta), axis=-1)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("cplus1_keras")
class MaskLoss(OpenSetLoss):
    """Binary cross-entropy of `logits` z (..., cells) to `mask_targets` t (..., cells) in {0, 1}, of the knowns.

        mean over the cells of  -t log σ(z) - (1 - t) log σ(-z)

    Reference: He et al., "Mask R-CNN", ICCV 2017, section 3.

    >>> given = {"logits": np.array([[0.0, 0.0]]), "mask_targets": np.array([[0.0, 1.0]])}
    >>> round(float(losses.MaskLoss()(np.array([3]), given)), 4)
    0.6931
    """

    reads = ("logits", "mask_targets")

    def values(self, labels, outputs):
        logits = outputs["logits"]
        return ops.mean(ops.softplus(logits) - outputs["mask_targets"] * logits, axis=-1)


def smooth_l1(differences, beta):
    """d²/2β for |d| < β, |d| - β/2 beyond, of differences d (...), β >= 0.

    >>> np.array(smooth_l1(np.array([1.0, -4.0]), 2.0)).tolist()
    [0.25, 3.0]
    """
    off = ops.abs(differences)
    if not beta:
        return off
    near = ops.minimum(off, beta)
    return near * near / (2 * beta) + off - near
