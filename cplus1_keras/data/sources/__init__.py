"""Labelled images from anywhere: scikit-learn, TensorFlow Datasets, folders, csv lists, idx and npz files, arrays."""

from cplus1_keras.data.sources.arrays import arrays, digits, idx, npz
from cplus1_keras.data.sources.files import csv, csv_protocol, folder
from cplus1_keras.data.sources.prepared import tfds
from cplus1_keras.data.sources.source import Source, combine, concatenate

__all__ = [
    "Source",
    "arrays",
    "combine",
    "concatenate",
    "csv",
    "csv_protocol",
    "digits",
    "folder",
    "idx",
    "npz",
    "tfds",
]
