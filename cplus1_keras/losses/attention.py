"""Attention consistency: the activation maps of an image and of a transformed view of it are to be the same."""

import keras
from keras import ops

from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.losses.cams import HNCKDLoss


@keras.saving.register_keras_serializable("cplus1_keras")
class AttentionConsistencyLoss(OpenSetLoss):
    """Attention consistency: `cams` are to equal those of a view of the image. Needs a `CAMHead` in `layers.Views`.

        1/(h w C) sum_o sum_ij (M_o(i, j) - T⁻¹M'_o(i, j))²

    The mean is over the images of which a label is seen, whatever it is. In evaluation the views are the image itself,
    and the loss is 0.

    Args:
        view: "mirrored" or "smaller": M' is `mirrored_cams` or `smaller_cams`.
        name: `mirrored_attention` or `smaller_attention` unless given.

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
        return ops.mean(ops.square(outputs["cams"] - outputs[f"{self.view}_cams"]), axis=(1, 2, 3))

    def get_config(self):
        return {**super().get_config(), "view": self.view}
