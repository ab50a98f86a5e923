"""Scores that are fitted after training, as layers of the model: `cplus1_keras.wrap` fits them and puts them there.

Those without numbers of their own are functions of `cplus1_keras.scores`. Higher = more known, everywhere.
"""

from cplus1_keras.posthoc.activations import ASHBinarize, ASHPrune, ASHScale, ReAct
from cplus1_keras.posthoc.base import FittedScore
from cplus1_keras.posthoc.distances import ClassMeans, Mahalanobis, NearestNeighbors, RelativeMahalanobis
from cplus1_keras.posthoc.logits import GEN, Temperature
from cplus1_keras.posthoc.openmax import OpenMax
from cplus1_keras.posthoc.vim import ViM

__all__ = [
    "GEN",
    "ASHBinarize",
    "ASHPrune",
    "ASHScale",
    "ClassMeans",
    "FittedScore",
    "Mahalanobis",
    "NearestNeighbors",
    "OpenMax",
    "ReAct",
    "RelativeMahalanobis",
    "Temperature",
    "ViM",
]
