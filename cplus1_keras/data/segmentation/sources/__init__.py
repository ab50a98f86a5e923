"""Images with masks from anywhere: folders, the layouts of published data sets, COCO json, TensorFlow Datasets."""

from cplus1_keras.data.segmentation.sources.coco import coco, coco_masks, coco_objects
from cplus1_keras.data.segmentation.sources.files import folder
from cplus1_keras.data.segmentation.sources.layouts import camvid, cityscapes, context, lip, voc
from cplus1_keras.data.segmentation.sources.prepared import tfds
from cplus1_keras.data.segmentation.sources.sbd import convert_sbd
from cplus1_keras.data.segmentation.sources.source import MaskSource, arrays

__all__ = [
    "MaskSource",
    "arrays",
    "camvid",
    "cityscapes",
    "coco",
    "coco_masks",
    "coco_objects",
    "context",
    "convert_sbd",
    "folder",
    "lip",
    "tfds",
    "voc",
]
