"""Losses on labels and named outputs, and the margins that some of them hold."""

from cplus1_keras.losses.base import OpenSetLoss, WeightedSum
from cplus1_keras.losses.cross_entropy import BackgroundCrossEntropyLoss, CrossEntropyLoss, EntropicOpenSetLoss
from cplus1_keras.losses.magnitude import MagnitudeLoss, RingLoss, SymmetricMagnitudeLoss
from cplus1_keras.losses.margins import ArcFace, CosFace

__all__ = [
    "ArcFace",
    "BackgroundCrossEntropyLoss",
    "CosFace",
    "CrossEntropyLoss",
    "EntropicOpenSetLoss",
    "MagnitudeLoss",
    "OpenSetLoss",
    "RingLoss",
    "SymmetricMagnitudeLoss",
    "WeightedSum",
]
