"""Segmentation models, on the backbones and heads of the package."""

from cplus1_keras.tasks.segmentation.models.builders import (
    AUXILIARY_WEIGHT,
    deeplab_v3_plus,
    fcn,
    hrnet_fcn,
    ocrnet,
    output_stride,
    segmentation_model,
)

__all__ = ["AUXILIARY_WEIGHT", "deeplab_v3_plus", "fcn", "hrnet_fcn", "ocrnet", "output_stride", "segmentation_model"]
