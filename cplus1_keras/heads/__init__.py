"""Heads: label-free layers from features to a dict of named tensors."""

from cplus1_keras.heads.adacos import AdaCosHead
from cplus1_keras.heads.anchors import CosineAnchorHead, EuclideanAnchorHead
from cplus1_keras.heads.base import Head
from cplus1_keras.heads.cams import CAMHead
from cplus1_keras.heads.cosine import CosineHead
from cplus1_keras.heads.gaussian import GaussianHead
from cplus1_keras.heads.linear import LinearHead

__all__ = [
    "AdaCosHead",
    "CAMHead",
    "CosineAnchorHead",
    "CosineHead",
    "EuclideanAnchorHead",
    "GaussianHead",
    "Head",
    "LinearHead",
]
