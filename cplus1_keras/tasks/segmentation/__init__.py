"""Semantic segmentation and human parsing: each pixel has a label, and the parts are those of classification."""

from cplus1_keras.tasks.segmentation.experiment import Experiment

__all__ = ["Experiment"]
