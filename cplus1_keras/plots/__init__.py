"""Figures for reports and TensorBoard, as matplotlib `Figure` objects: no display, no global state.

Save one with `figure.savefig(path)`.
"""

from cplus1_keras.plots.attacks import robustness
from cplus1_keras.plots.cams import activation_maps
from cplus1_keras.plots.detection import detections, mistakes, precision_recall
from cplus1_keras.plots.embedding import features
from cplus1_keras.plots.open_set import accepted_unknowns, histogram, oscr
from cplus1_keras.plots.segmentation import coloured, panels, pixel_features
from cplus1_keras.plots.streams import drift
from cplus1_keras.plots.style import canvas, to_png

__all__ = [
    "accepted_unknowns",
    "activation_maps",
    "canvas",
    "coloured",
    "detections",
    "drift",
    "features",
    "histogram",
    "mistakes",
    "oscr",
    "panels",
    "pixel_features",
    "precision_recall",
    "robustness",
    "to_png",
]
