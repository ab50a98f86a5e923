"""Semantic segmentation and human parsing: each pixel has a label, and the parts are those of classification."""

from cplus1_keras.tasks.segmentation.experiment import Experiment
from cplus1_keras.tasks.segmentation.models import (
    AUXILIARY_WEIGHT,
    deeplab_v3_plus,
    fcn,
    hrnet_fcn,
    ocrnet,
    output_stride,
    segmentation_model,
)

__all__ = [
    "AUXILIARY_WEIGHT",
    "Experiment",
    "deeplab_v3_plus",
    "fcn",
    "hrnet_fcn",
    "ocrnet",
    "output_stride",
    "segmentation_model",
]
