"""Models: the class that trains with open-set losses; classifiers and segmentation models of backbones and heads."""

from cplus1_keras.models.classifier import classifier
from cplus1_keras.models.open_set import OpenSetModel
from cplus1_keras.models.segmentation import (
    AUXILIARY_WEIGHT,
    deeplab_v3_plus,
    fcn,
    hrnet_fcn,
    ocrnet,
    output_stride,
    scale,
    segmentation_model,
)

__all__ = [
    "AUXILIARY_WEIGHT",
    "OpenSetModel",
    "classifier",
    "deeplab_v3_plus",
    "fcn",
    "hrnet_fcn",
    "ocrnet",
    "output_stride",
    "scale",
    "segmentation_model",
]
