"""Layers with state or rules of their own: hooks, class centres, the threshold, warm-up, resizing."""

from cplus1_keras.layers.alignment import RoIAlign
from cplus1_keras.layers.anchors import Anchors, Proposals
from cplus1_keras.layers.centers import LearnableCenters, MovingAverageCenters, SharedCenters
from cplus1_keras.layers.counting import ClassCounts, UniformDraws
from cplus1_keras.layers.hooks import OpenSetLayer, complete, labels_for, named
from cplus1_keras.layers.points import BoxOffsets, FCOSPoints
from cplus1_keras.layers.presence import Presence
from cplus1_keras.layers.regions import RoIHeads
from cplus1_keras.layers.rejection import Reject
from cplus1_keras.layers.resizing import RepeatLike, ResizeLike, ScaleWithin
from cplus1_keras.layers.views import Views
from cplus1_keras.layers.warmup import MarginWarmup

__all__ = [
    "Anchors",
    "BoxOffsets",
    "ClassCounts",
    "FCOSPoints",
    "LearnableCenters",
    "MarginWarmup",
    "MovingAverageCenters",
    "OpenSetLayer",
    "Presence",
    "Proposals",
    "Reject",
    "RepeatLike",
    "ResizeLike",
    "RoIAlign",
    "RoIHeads",
    "ScaleWithin",
    "SharedCenters",
    "UniformDraws",
    "Views",
    "complete",
    "labels_for",
    "named",
]
