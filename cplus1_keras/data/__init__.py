"""Protocols, sources, splits and batches. Names are loaded on first use: protocols need no TensorFlow."""

from cplus1_keras.data import lazily

_HOMES = {
    "Protocol": "protocols",
    "Source": "sources",
    "combine": "sources",
    "concatenate": "sources",
    "Split": "splits",
    "Splits": "splits",
    "split": "splits",
    "decode": "preprocessing",
    "preprocess": "preprocessing",
    "training": "pipeline",
    "evaluation": "pipeline",
}
_MODULES = ("augment", "pipeline", "preprocessing", "protocols", "segmentation", "sources", "splits")

__all__, __getattr__, __dir__ = lazily.exports(__name__, _HOMES, _MODULES)
