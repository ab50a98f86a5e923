"""Protocols, sources, splits and batches: from files to what `fit` takes, for images, pixels and sets of labels."""

from cplus1_keras.data import augment, mixing, noise, protocols, sources
from cplus1_keras.data.checking import check, find_copies, sentence
from cplus1_keras.data.cutting import split
from cplus1_keras.data.joining import combine, concatenate
from cplus1_keras.data.masks import class_weights, pixel_counts
from cplus1_keras.data.pipeline import evaluation, steps_per_epoch, training
from cplus1_keras.data.protocol import Protocol
from cplus1_keras.data.sampling import image_counts, repeat_factors
from cplus1_keras.data.source import Source
from cplus1_keras.data.splits import Split, Splits
from cplus1_keras.images import decode, preprocess

__all__ = [
    "Protocol",
    "Source",
    "Split",
    "Splits",
    "augment",
    "check",
    "class_weights",
    "combine",
    "concatenate",
    "decode",
    "evaluation",
    "find_copies",
    "image_counts",
    "mixing",
    "noise",
    "pixel_counts",
    "preprocess",
    "protocols",
    "repeat_factors",
    "sentence",
    "sources",
    "split",
    "steps_per_epoch",
    "training",
]
