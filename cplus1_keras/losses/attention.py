"""Attention consistency: the activation maps of an image and of a transformed view of it are to be the same."""

import keras
from keras import ops

from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.cams import HNCKDLoss


def attention_consistency(cams, view):
    """Mean squared difference of the maps of two views, over cells and classes. One value per image.

        1/(h w C) sum_o sum_ij (M_o(i, j) - T⁻¹M'_o(i, j))²

    Args:
        cams: M, the maps of the image, tensor of shape (batch, h, w, C).
        view: T⁻¹M', the maps of the view, transformed back, of the same shape.

    Returns:
        Tensor of shape (batch,), values >= 0.

    Reference: Guo et al., "Visual attention consistency under image transforms", CVPR 2019, with the mean of its code.

    >>> np.array(attention_consistency(np.ones((1, 2, 2, 3)), np.full((1, 2, 2, 3), 3.0))).tolist()
    [4.0]
    """
    return ops.mean(ops.square(cams - view), axis=(1, 2, 3))


@keras.saving.register_keras_serializable("cplus1_keras")
class AttentionConsistencyLoss(OpenSetLoss):
    """Attention consistency: `cams` are to equal those of a view of the image. Needs a `CAMHead` in `layers.Views`.

    The mean is over the images of which a label is seen, whatever it is. In evaluation the views are the image itself,
    and the loss is 0.

    Args:
        view: "mirrored" or "smaller": it reads `mirrored_cams` or `smaller_cams`.
        name: The name in logs; `mirrored_attention` or `smaller_attention` where None.

    Raises:
        ValueError: When called, as `OpenSetLoss`.

    Reference: Guo et al., "Visual attention consistency under image transforms", CVPR 2019. The authors' code weighs it
    by 0.6 (mirrored) and 0.8 (smaller) beside a cross-entropy that is summed over the 80 classes: 0.0075 and 0.01
    beside one that is averaged. It also keeps the classifier's weights out of this gradient; here they take part.

    >>> loss = losses.WeightedSigmoidLoss([0.5, 0.1]) + 0.3 * losses.AttentionConsistencyLoss()
    """

    truth = HNCKDLoss.truth
    counted = staticmethod(HNCKDLoss.counted)
    checked = HNCKDLoss.checked

    def __init__(self, view="mirrored", name=None):
        self.view = view
        self.reads = ("cams", f"{view}_cams")
        super().__init__(name or f"{view}_attention")

    def values(self, labels, outputs):
        """The mean squared differences of each image."""
        return attention_consistency(outputs["cams"], outputs[f"{self.view}_cams"])

    def get_config(self):
        return {**super().get_config(), "view": self.view}
