"""Homogeneous negative CAM: the activation maps of absent classes are to be flat."""

import keras
from keras import ops

from cplus1_keras.labels import is_seen
from cplus1_keras.losses.base import OpenSetLoss, integer_labels
from cplus1_keras.losses.multilabel import is_absent, is_annotated, multilabel_labels


def absent_classes(labels, num_classes):
    """True for each class that is known not to be in the image.

    Args:
        labels: int32 tensor: classes of shape (batch,), where negatives lack every class; or multi-labels of shape
            (batch, C).
        num_classes: C.

    Returns:
        Boolean tensor of shape (batch, C), False for labels that are not annotated.

    >>> np.array(absent_classes(np.array([1, -1, -100]), 3)).astype(int).tolist()
    [[1, 0, 1], [1, 1, 1], [0, 0, 0]]
    """
    if len(labels.shape) == 2:
        return is_absent(labels)
    labels = ops.expand_dims(labels, -1)
    return ops.logical_and(is_seen(labels), ops.arange(num_classes, dtype=labels.dtype) != labels)


def hnc_mse(labels, cams, top_k, target=0.0):
    """Mean squared distance of the maps of the hardest absent classes to a constant. One value per image.

        1/(hw) sum_{o in J} sum_ij (M_o(i, j) - a)²

    J holds the k absent classes with the largest spatial mean of M, or all if they are fewer; no gradient flows through
    the choice.

    Args:
        labels: int32 tensor, shape (batch,) or (batch, C), see `absent_classes`.
        cams: M, tensor of shape (batch, h, w, C).
        top_k: k >= 1.
        target: a.

    Returns:
        Tensor of shape (batch,), values >= 0; 0 without an absent class.

    Reference: Homogeneous negative CAM (2020), Eq 2.

    >>> np.array(hnc_mse(np.array([0]), np.full((1, 2, 2, 3), 3.0, "float32"), top_k=1)).tolist()
    [9.0]
    """
    per_class = ops.mean(ops.square(cams - target), axis=(1, 2))
    return _over_hardest(labels, cams, per_class, top_k)


def hnc_kd(labels, cams, top_k):
    """Cross-entropy of the evenly spread map to those of the hardest absent classes. One value per image.

        -1/(hw) sum_{o in J} sum_ij log softmax_ij(M_o)  =  sum_{o in J} (logsumexp_ij M_o - mean_ij M_o)

    Args:
        labels: int32 tensor, shape (batch,) or (batch, C), see `absent_classes`.
        cams: M, tensor of shape (batch, h, w, C).
        top_k: k >= 1; J as in `hnc_mse`.

    Returns:
        Tensor of shape (batch,), values >= log(hw) for each class of J, which flat maps reach.

    Reference: Homogeneous negative CAM (2020), Eq 5.

    >>> values = hnc_kd(np.array([0]), np.full((1, 2, 2, 3), 3.0, "float32"), top_k=1)
    >>> np.array(values / np.log(4.0)).tolist()
    [1.0]
    """
    per_class = ops.logsumexp(cams, axis=(1, 2)) - ops.mean(cams, axis=(1, 2))
    return _over_hardest(labels, cams, per_class, top_k)


def _over_hardest(labels, cams, per_class, top_k):
    num_classes = cams.shape[-1]
    absent = absent_classes(labels, num_classes)
    if top_k >= num_classes:
        return ops.sum(ops.where(absent, per_class, 0), axis=-1)
    scores = ops.stop_gradient(ops.mean(cams, axis=(1, 2)))
    _, hardest = ops.top_k(ops.where(absent, scores, float("-inf")), top_k)
    # Where fewer than k classes are absent, the choice is filled up with present ones.
    chosen = ops.take_along_axis(absent, hardest, axis=-1)
    return ops.sum(ops.where(chosen, ops.take_along_axis(per_class, hardest, axis=-1), 0), axis=-1)


def _is_counted(labels):
    return ops.any(is_annotated(labels), axis=-1) if len(labels.shape) == 2 else is_seen(labels)


def _checked(loss, labels, outputs):
    shape = outputs["cams"].shape
    if len(shape) != 4:
        raise ValueError(
            f"`{loss.name}` needs maps of shape (batch, height, width, classes), as CAMHead gives. "
            f"Received: {tuple(shape)}"
        )
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == 2 and labels.shape[-1] == shape[-1]:
        return multilabel_labels(labels, (shape[0], shape[-1]), loss.name)
    return integer_labels(labels, outputs["cams"][:, 0, 0], loss.name)


def _checked_top_k(top_k):
    if isinstance(top_k, bool) or int(top_k) != top_k or top_k < 1:
        raise ValueError(f"`top_k` is a number of classes and must be an integer >= 1. Received: top_k={top_k}")
    return int(top_k)


@keras.saving.register_keras_serializable("cplus1_keras")
class HNCMSELoss(OpenSetLoss):
    """Homogeneous negative CAM, squared: the `cams` of absent classes are to equal a constant. Needs a `CAMHead`.

    Labels are classes, shape (batch,), or multi-labels of 1, 0 and IGNORE, shape (batch, C). For a negative every class
    is absent, so that the loss trains the rejection of background (this project's extension). The mean is over the
    images, also those without an absent class, which contribute 0.

    Args:
        top_k: k >= 1: only the k absent classes with the largest scores count.
        target: a, the constant.
        name, rename: As in `OpenSetLoss`.

    Raises:
        ValueError: If `top_k` is no positive integer; when called, as `OpenSetLoss`.

    Reference: Homogeneous negative CAM (2020), Eq 2. The authors' code also divides by k, so that their weight 0.07 at
    k = 100 is 0.0007 here.

    >>> loss = losses.CrossEntropyLoss() + 0.0007 * losses.HNCMSELoss(top_k=100)
    """

    reads = ("cams",)
    counted = staticmethod(_is_counted)
    checked = _checked

    def __init__(self, top_k, target=0.0, name="hnc_mse", rename=None):
        self.top_k = _checked_top_k(top_k)
        self.target = float(target)
        super().__init__(name, rename)

    def values(self, labels, outputs):
        """The mean squared distances of each image, summed over its hardest absent classes."""
        return hnc_mse(labels, outputs["cams"], self.top_k, self.target)

    def get_config(self):
        return {**super().get_config(), "top_k": self.top_k, "target": self.target}


@keras.saving.register_keras_serializable("cplus1_keras")
class HNCKDLoss(OpenSetLoss):
    """Homogeneous negative CAM, as distillation: the `cams` of absent classes are to be flat. Needs a `CAMHead`.

    Labels and the mean are those of `HNCMSELoss`. The least value is log(hw) for each absent class that counts, not 0.

    Args:
        top_k: k >= 1: only the k absent classes with the largest scores count.
        name, rename: As in `OpenSetLoss`.

    Raises:
        ValueError: If `top_k` is no positive integer; when called, as `OpenSetLoss`.

    Reference: Homogeneous negative CAM (2020), Eq 5. The authors' code weighs it by 0.0065 (ResNet-101) and 0.0048
    (ResNet-152) at k = 100; the paper gives no weight.

    >>> loss = losses.CrossEntropyLoss() + 0.0065 * losses.HNCKDLoss(top_k=100)
    """

    reads = ("cams",)
    counted = staticmethod(_is_counted)
    checked = _checked

    def __init__(self, top_k, name="hnc_kd", rename=None):
        self.top_k = _checked_top_k(top_k)
        super().__init__(name, rename)

    def values(self, labels, outputs):
        """The cross-entropies of each image's maps, summed over its hardest absent classes."""
        return hnc_kd(labels, outputs["cams"], self.top_k)

    def get_config(self):
        return {**super().get_config(), "top_k": self.top_k}
