"""Losses of detectors: sigmoid focal for the classes of points; IoU, GIoU, smooth-L1 and centerness for their boxes.

Who assigns the truth to points, like `layers.FCOSPoints`, gives `labels` (B, L) and what these read.
"""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_seen
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.classification import check_gamma, focus
from cplus1_keras.losses.regions import smooth_l1
from cplus1_keras.numerics import boxes

LEAST_IOU = 1e-6
"""Stands for an IoU of 0, whose logarithm would be infinite."""


def sigmoid_focal(labels, logits, alpha=0.25, gamma=2.0):
    """The value of each label (...), summed over the classes; see `SigmoidFocalLoss`. A label >= C gives NaN."""
    num_classes = logits.shape[-1]
    present = ops.expand_dims(labels, -1) == ops.arange(num_classes, dtype="int32")
    values = focus(ops.softplus(ops.where(present, -logits, logits)), gamma)
    values = ops.sum(ops.where(present, alpha * values, (1 - alpha) * values), axis=-1)
    return ops.where(labels < num_classes, values, float("nan"))


@keras.saving.register_keras_serializable("cplus1_keras")
class SigmoidFocalLoss(OpenSetLoss):
    """Focal loss on `logits` (..., C), a sigmoid for each class; negatives are absent from all. Divided by the knowns.

        sum_c -α (1 - p_c)^γ log p_c for c = y,   -(1 - α) p_c^γ log(1 - p_c) for the others

    It wants a head without a background, such as `LinearHead(C, use_bias=True, prior=0.01)`. (Keras's
    `binary_focal_crossentropy` clips p, which stops the gradient of what is very wrong.)

    Args:
        alpha: α in [0, 1].
        gamma: γ >= 0.

    Reference: Lin et al., "Focal loss for dense object detection", ICCV 2017, Eq 5 and section 4.1.

    >>> loss = losses.SigmoidFocalLoss()
    >>> round(float(loss(np.array([0, -1]), {"logits": np.zeros((2, 1), "float32")})), 4)  # (α + 1 - α) log(2) / 4
    0.1733
    """

    counted = staticmethod(is_seen)
    per = staticmethod(is_known)
    needs_negatives = True

    def __init__(self, alpha=0.25, gamma=2.0, name=None):
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` must lie in [0, 1]. Received: alpha={alpha}")
        self.alpha, self.gamma = float(alpha), check_gamma(gamma)
        super().__init__(name)

    def values(self, labels, outputs):
        return sigmoid_focal(labels, outputs["logits"], self.alpha, self.gamma)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}


class _BoxLoss(OpenSetLoss):
    """What the three share: distances to the sides, weighted by how central the point is.

        sum_i c_i value_i / sum_i c_i        over the knowns, c = `centerness_targets`, or 1 where there are none

    `per_known()` divides by the number of knowns instead.
    """

    reads = ("box_offsets", "box_targets")
    may_read = ("centerness_targets",)

    def values(self, labels, outputs):
        values = self.distances(outputs["box_offsets"], outputs["box_targets"], outputs)
        return values * self._weights(labels, outputs)

    def distances(self, offsets, targets, outputs):
        """One value (...) for distances (..., 4) to the sides, predicted and true."""
        raise NotImplementedError(f"{type(self).__name__} must implement `distances(offsets, targets, outputs)`.")

    def divisor(self, labels, outputs):
        return self._weights(labels, outputs) if self.per is None else super().divisor(labels, outputs)

    def _weights(self, labels, outputs):
        weights = outputs.get("centerness_targets", ops.ones_like(outputs["box_targets"][..., 0]))
        return ops.where(is_known(labels), weights, 0)


def _around(distances):
    """Boxes around a point at the origin, which is enough to compare two that belong to one point."""
    return boxes.decode(ops.zeros_like(distances[..., :2]), distances)


@keras.saving.register_keras_serializable("cplus1_keras")
class GIoULoss(_BoxLoss):
    """Generalised IoU of two boxes by `box_offsets` and `box_targets` (..., 4), their sides' distances from the point.

        1 - GIoU

    Distances are (left, top, right, bottom). The mean over the knowns, weighted by `centerness_targets` if they are
    there, as FCOS does; `per_known()` divides by the number of knowns instead of the sum of the weights.

    Reference: Rezatofighi et al., "Generalized intersection over union", CVPR 2019; Tian et al. (2019), Eq 2.

    >>> given = {"box_offsets": np.array([[1.0, 1, 1, 1]]), "box_targets": np.array([[1.0, 1, 1, 3]])}
    >>> float(losses.GIoULoss()(np.array([0]), given))
    0.5
    """

    def __init__(self, name="giou"):
        super().__init__(name)

    def distances(self, offsets, targets, outputs):
        return 1 - boxes.giou(_around(offsets), _around(targets))


@keras.saving.register_keras_serializable("cplus1_keras")
class IoULoss(_BoxLoss):
    """The logarithm of the IoU of two boxes, -log IoU; otherwise as `GIoULoss`. The loss of the published FCOS.

    Reference: Yu et al., "UnitBox", 2016; Tian et al. (2019), Eq 2.

    >>> given = {"box_offsets": np.array([[1.0, 1, 1, 1]]), "box_targets": np.array([[1.0, 1, 1, 3]])}
    >>> round(float(losses.IoULoss()(np.array([0]), given)), 4)  # log 2
    0.6931
    """

    def __init__(self, name="iou"):
        super().__init__(name)

    def distances(self, offsets, targets, outputs):
        return -ops.log(ops.maximum(boxes.iou(_around(offsets), _around(targets)), LEAST_IOU))


@keras.saving.register_keras_serializable("cplus1_keras")
class SmoothL1BoxLoss(_BoxLoss):
    """Smooth-L1 of each distance to a side, in strides of the point, summed over the sides; otherwise as `GIoULoss`.

        d²/2β for |d| < β,   |d| - β/2 beyond;   d = (offset - target) / stride

    It also reads `points` (..., 3), the last of which is the stride.

    Args:
        beta: β > 0.

    Reference: Girshick, "Fast R-CNN", ICCV 2015, Eq 3; β as in Detectron.

    >>> given = {"box_offsets": np.array([[8.0, 8, 8, 8]]), "box_targets": np.array([[8.0, 8, 8, 24]])}
    >>> float(losses.SmoothL1BoxLoss()(np.array([0]), {**given, "points": np.array([[4.0, 4, 8]])}))
    1.5
    """

    reads = ("box_offsets", "box_targets", "points")

    def __init__(self, beta=1.0, name=None):
        if not 0 < beta < math.inf:
            raise ValueError(f"`beta` must be a number > 0. Received: beta={beta}")
        self.beta = float(beta)
        super().__init__(name)

    def distances(self, offsets, targets, outputs):
        return ops.sum(smooth_l1((offsets - targets) / outputs["points"][..., 2:], self.beta), axis=-1)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("cplus1_keras")
class CenternessLoss(OpenSetLoss):
    """Binary cross-entropy of the logits `centerness` z (...) to `centerness_targets` c (...) in [0, 1], of the knowns.

        -c log σ(z) - (1 - c) log σ(-z)

    Reference: Tian et al. (2019), section 3.3.

    >>> given = {"centerness": np.zeros((1, 2)), "centerness_targets": np.array([[1.0, 0.3]])}
    >>> round(float(losses.CenternessLoss()(np.array([[0, -1]]), given)), 4)
    0.6931
    """

    reads = ("centerness", "centerness_targets")

    def checked(self, labels, outputs, kind):
        return super().checked(labels, {"centerness": ops.expand_dims(outputs["centerness"], -1)}, kind)

    def values(self, labels, outputs):
        logits = outputs["centerness"]
        return ops.softplus(logits) - outputs["centerness_targets"] * logits
