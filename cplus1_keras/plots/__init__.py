"""Figures for reports and TensorBoard, as matplotlib `Figure` objects: no display, no global state.

Save one with `figure.savefig(path)`.
"""

from cplus1_keras.plots.attacks import robustness
from cplus1_keras.plots.cams import activation_maps
from cplus1_keras.plots.classes import acceptance, angle_distributions, confusion, reliability, weight_norms
from cplus1_keras.plots.detection import detections, mistakes, precision_recall
from cplus1_keras.plots.embedding import features
from cplus1_keras.plots.open_set import accepted_unknowns, histogram, oscr
from cplus1_keras.plots.seeds import against, oscr_bands
from cplus1_keras.plots.segmentation import coloured, panels, pixel_features
from cplus1_keras.plots.streams import drift
from cplus1_keras.plots.style import canvas, to_png

__all__ = [
    "acceptance",
    "accepted_unknowns",
    "activation_maps",
    "against",
    "angle_distributions",
    "canvas",
    "coloured",
    "confusion",
    "detections",
    "drift",
    "features",
    "histogram",
    "mistakes",
    "oscr",
    "oscr_bands",
    "panels",
    "pixel_features",
    "precision_recall",
    "reliability",
    "robustness",
    "to_png",
    "weight_norms",
]
