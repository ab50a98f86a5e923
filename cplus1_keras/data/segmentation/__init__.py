"""Images with a mask of the same size: protocols over mask values, sources, augmentation, batches.

Names are loaded on first use: protocols need no TensorFlow.
"""

from cplus1_keras.data import lazily

_HOMES = {
    "SegmentationProtocol": "protocol",
    "SegmentationSplit": "splits",
    "SegmentationSplits": "splits",
    "split": "splits",
    "MaskSource": "sources",
    "class_weights": "weights",
    "pixel_counts": "weights",
    "training": "pipeline",
    "evaluation": "pipeline",
}
_MODULES = ("augment", "pipeline", "protocol", "protocols", "sources", "splits", "weights")

__all__, __getattr__, __dir__ = lazily.exports(__name__, _HOMES, _MODULES)
