"""Models: the class that trains with open-set losses; classifiers, segmentation models and detectors of parts."""

from cplus1_keras.models.classifiers import classifier
from cplus1_keras.models.detection import fcos, scale_boxes
from cplus1_keras.models.open_set import OpenSetModel
from cplus1_keras.models.pyramids import pyramid
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
from cplus1_keras.models.two_stage import rcnn

__all__ = [
    "AUXILIARY_WEIGHT",
    "OpenSetModel",
    "classifier",
    "deeplab_v3_plus",
    "fcn",
    "fcos",
    "hrnet_fcn",
    "ocrnet",
    "output_stride",
    "pyramid",
    "rcnn",
    "scale",
    "scale_boxes",
    "segmentation_model",
]
