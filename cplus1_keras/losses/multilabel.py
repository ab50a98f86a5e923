"""Several classes in one image: labels (batch, C) of 1 (present), 0 (absent) and IGNORE, and their cross-entropy."""

import keras
import numpy as np
from keras import ops

from cplus1_keras.losses.base import OpenSetLoss


def is_present(labels):
    """True where a multi-label entry says that the class is in the image.

    >>> is_present(np.array([1, 0, -100]))
    array([ True, False, False])
    """
    return labels == 1


def is_absent(labels):
    """True where a multi-label entry says that the class is not in the image.

    >>> is_absent(np.array([1, 0, -100]))
    array([False,  True, False])
    """
    return labels == 0


def is_annotated(labels):
    """True where a multi-label entry says whether the class is in the image.

    >>> is_annotated(np.array([1, 0, -100]))
    array([ True,  True, False])
    """
    return (labels == 0) | (labels == 1)


def multilabel_labels(labels, batch_and_classes, name):
    """The labels as int32, if they are integers or booleans of shape (batch, C); `name` is whose, for the error."""
    labels = ops.convert_to_tensor(labels)
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if not ("int" in dtype or dtype == "bool") or tuple(labels.shape[1:]) != tuple(batch_and_classes[1:]):
        raise ValueError(
            f"`{name}` needs labels of shape {tuple(batch_and_classes)}: 1 where a class is present, 0 where it is "
            "absent, -100 where that is not annotated. "
            f"Received labels of shape {tuple(labels.shape)} and dtype {dtype}."
        )
    return ops.cast(labels, "int32")


def weighted_sigmoid(labels, logits, positive_rates):
    """Sigmoid cross-entropy that weighs rare presence and common absence more. One value per label and class.

        -u log σ(z), u = exp(1 - p)      for present classes
        -u log σ(-z), u = exp(p)         for absent classes, else 0

    Args:
        labels: int32 tensor, shape (batch, C), of 1, 0 and IGNORE.
        logits: z, tensor of shape (batch, C).
        positive_rates: p, shape (C,), in [0, 1].

    Returns:
        Tensor of shape (batch, C), values >= 0.

    Reference: Homogeneous negative CAM (2020), Eq 8.

    >>> values = weighted_sigmoid(np.array([[1, -100]]), np.zeros((1, 2), "float32"), [1.0, 0.5])
    >>> np.array(values / np.log(2.0)).tolist()
    [[1.0, 0.0]]
    """
    rates = ops.convert_to_tensor(positive_rates, logits.dtype)
    of_present = ops.exp(1 - rates) * ops.softplus(-logits)
    of_absent = ops.exp(rates) * ops.softplus(logits)
    return ops.where(is_present(labels), of_present, ops.where(is_absent(labels), of_absent, 0))


@keras.saving.register_keras_serializable("cplus1_keras")
class WeightedSigmoidLoss(OpenSetLoss):
    """Weighted sigmoid cross-entropy on `logits`, for labels (batch, C) of 1 (present), 0 (absent) and IGNORE.

    The mean is over the annotated entries of all images.

    Args:
        positive_rates: For each of the C classes the share of training images that contain it, in [0, 1].
        name, rename: As in `OpenSetLoss`.

    Raises:
        ValueError: If a rate lies outside [0, 1]; when called, if labels do not have the shape of the logits, or the
            logits another number of classes.

    Reference: Homogeneous negative CAM (2020), Eq 8.

    >>> loss = losses.WeightedSigmoidLoss(positive_rates=[0.5, 0.01])
    >>> round(float(loss(np.array([[1, 0]]), {"logits": np.zeros((1, 2), "float32")})), 4)
    0.9215
    """

    counted = staticmethod(is_annotated)

    def __init__(self, positive_rates, name="weighted_sigmoid", rename=None):
        rates = np.asarray(positive_rates, "float64")
        if rates.ndim != 1 or not rates.size or not np.all((rates >= 0) & (rates <= 1)):
            raise ValueError(
                "`positive_rates` must give for each class the share of images that contain it, in [0, 1]. "
                f"Received: positive_rates={positive_rates}"
            )
        self.positive_rates = rates.tolist()
        super().__init__(name, rename)

    def checked(self, labels, outputs):
        """The labels as int32 tensor, if they have the shape of the logits."""
        shape = outputs["logits"].shape
        if shape[-1] != len(self.positive_rates):
            raise ValueError(
                f"`{self.name}` has {len(self.positive_rates)} `positive_rates`, so it needs as many logits. "
                f"Received logits of shape {tuple(shape)}."
            )
        return multilabel_labels(labels, shape, self.name)

    def values(self, labels, outputs):
        """The weighted cross-entropy of each annotated entry."""
        return weighted_sigmoid(labels, outputs["logits"], self.positive_rates)

    def get_config(self):
        return {**super().get_config(), "positive_rates": self.positive_rates}
