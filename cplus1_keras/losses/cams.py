"""Homogeneous negative CAM: the activation maps of absent classes are to be flat."""

import keras
from keras import ops

from cplus1_keras.labels import check_count, check_labels, check_multi_hot, is_absent, is_annotated, to_multi_hot
from cplus1_keras.losses.base import OpenSetLoss


def hnc_mse(multi_hot, cams, top_k, target=0.0):
    """The value of each image, see `HNCMSELoss`, of label sets (batch, C) and maps (batch, h, w, C)."""
    per_class = ops.mean(ops.square(cams - target), axis=(1, 2))
    return _over_hardest(multi_hot, cams, per_class, top_k)


def hnc_kd(multi_hot, cams, top_k):
    """The value of each image; see `HNCKDLoss`."""
    per_class = ops.logsumexp(cams, axis=(1, 2)) - ops.mean(cams, axis=(1, 2))
    return _over_hardest(multi_hot, cams, per_class, top_k)


def _over_hardest(multi_hot, cams, per_class, top_k):
    absent = is_absent(multi_hot)
    if top_k >= cams.shape[-1]:
        return ops.sum(ops.where(absent, per_class, 0), axis=-1)
    scores = ops.stop_gradient(ops.mean(cams, axis=(1, 2)))
    _, hardest = ops.top_k(ops.where(absent, scores, float("-inf")), top_k)
    # Where fewer than k classes are absent, the choice is filled up with present ones.
    chosen = ops.take_along_axis(absent, hardest, axis=-1)
    return ops.sum(ops.where(chosen, ops.take_along_axis(per_class, hardest, axis=-1), 0), axis=-1)


class _HNCLoss(OpenSetLoss):
    """What the two share: maps, label sets, and how many classes count."""

    reads = ("cams",)
    truth = ("multi_hot", "labels")
    counted = staticmethod(lambda multi_hot: ops.any(is_annotated(multi_hot), axis=-1))

    def __init__(self, top_k, name):
        self.top_k = check_count(top_k, "top_k")
        super().__init__(name)

    def checked(self, labels, outputs, kind):
        cams = outputs["cams"]
        if len(cams.shape) != 4:
            raise ValueError(
                f"`{self.name}` needs maps of shape (batch, height, width, classes), as CAMHead gives. "
                f"Received: {tuple(cams.shape)}"
            )
        if kind == "multi_hot":
            return check_multi_hot(labels, (cams.shape[0], cams.shape[-1]), self.name)
        return to_multi_hot(check_labels(labels, cams[:, 0, 0], self.name), cams.shape[-1])

    def get_config(self):
        return {**super().get_config(), "top_k": self.top_k}


@keras.saving.register_keras_serializable("cplus1_keras")
class HNCMSELoss(_HNCLoss):
    """Homogeneous negative CAM, squared: the `cams` of absent classes are to equal a constant. Needs a `CAMHead`.

        1/(hw) sum_{o in J} sum_ij (M_o(i, j) - a)²

    J holds the k absent classes with the largest spatial mean of M, or all if they are fewer; no gradient flows through
    the choice. It reads label sets `multi_hot` (batch, C) where there are some, else class labels (batch,). For a
    negative every class is absent, so that the loss trains the rejection of background (this project's extension). The
    mean is over the images, also those without an absent class, which contribute 0.

    Args:
        top_k: k >= 1.
        target: a, the constant.

    Reference: Homogeneous negative CAM (2020), Eq 2. The authors' code also divides by k, so that their weight 0.07 at
    k = 100 is 0.0007 here.

    >>> loss = losses.CrossEntropyLoss() + 0.0007 * losses.HNCMSELoss(top_k=100)
    """

    def __init__(self, top_k, target=0.0, name="hnc_mse"):
        self.target = float(target)
        super().__init__(top_k, name)

    def values(self, labels, outputs):
        return hnc_mse(labels, outputs["cams"], self.top_k, self.target)

    def get_config(self):
        return {**super().get_config(), "target": self.target}


@keras.saving.register_keras_serializable("cplus1_keras")
class HNCKDLoss(_HNCLoss):
    """Homogeneous negative CAM, as distillation: the `cams` of absent classes are to be flat. Needs a `CAMHead`.

        -1/(hw) sum_{o in J} sum_ij log softmax_ij(M_o)  =  sum_{o in J} (logsumexp_ij M_o - mean_ij M_o)

    J, the labels and the mean are those of `HNCMSELoss`. Flat maps give the least value, log(hw) for each class of J.

    Args:
        top_k: k >= 1.

    Reference: Homogeneous negative CAM (2020), Eq 5. The authors' code weighs it by 0.0065 (ResNet-101) and 0.0048
    (ResNet-152) at k = 100; the paper gives no weight.

    >>> loss = losses.CrossEntropyLoss() + 0.0065 * losses.HNCKDLoss(top_k=100)
    """

    def __init__(self, top_k, name="hnc_kd"):
        super().__init__(top_k, name)

    def values(self, labels, outputs):
        return hnc_kd(labels, outputs["cams"], self.top_k)
