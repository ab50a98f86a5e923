"""Layers with state or rules of their own: hooks, class centres, the threshold, warm-up, resizing."""

from cplus1_keras.layers.centers import LearnableCenters, MovingAverageCenters, SharedCenters
from cplus1_keras.layers.hooks import OpenSetLayer, complete, labels_for, named
from cplus1_keras.layers.presence import Presence
from cplus1_keras.layers.rejection import Reject
from cplus1_keras.layers.resizing import ResizeLike, ScaleWithin
from cplus1_keras.layers.views import Views
from cplus1_keras.layers.warmup import MarginWarmup

__all__ = [
    "LearnableCenters",
    "MarginWarmup",
    "MovingAverageCenters",
    "OpenSetLayer",
    "Presence",
    "Reject",
    "ResizeLike",
    "ScaleWithin",
    "SharedCenters",
    "Views",
    "complete",
    "labels_for",
    "named",
]
