"""Annotated images from anywhere: scikit-learn, TensorFlow Datasets, folders, csv lists, COCO json, VOC xml, arrays."""

from cplus1_keras.data.joining import combine, concatenate
from cplus1_keras.data.source import Source
from cplus1_keras.data.sources.coco_json import coco, coco_boxes, coco_labels, coco_masks, coco_mini, coco_objects
from cplus1_keras.data.sources.files import csv, csv_labels, csv_protocol, folder
from cplus1_keras.data.sources.layouts import camvid, cityscapes, context, cub, ilsvrc, lip, voc
from cplus1_keras.data.sources.memory import arrays, digits, idx, npz
from cplus1_keras.data.sources.objects import bccd, boxes, csv_boxes, voc_boxes
from cplus1_keras.data.sources.prepared import tfds, tfds_boxes
from cplus1_keras.data.sources.sbd import convert_sbd

__all__ = [
    "Source",
    "arrays",
    "bccd",
    "boxes",
    "camvid",
    "cityscapes",
    "coco",
    "coco_boxes",
    "coco_labels",
    "coco_masks",
    "coco_mini",
    "coco_objects",
    "combine",
    "concatenate",
    "context",
    "convert_sbd",
    "csv",
    "csv_boxes",
    "csv_labels",
    "csv_protocol",
    "cub",
    "digits",
    "folder",
    "idx",
    "ilsvrc",
    "lip",
    "npz",
    "tfds",
    "tfds_boxes",
    "voc",
    "voc_boxes",
]
