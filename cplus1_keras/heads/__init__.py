"""Heads: label-free layers from features to a dict of named tensors."""

from cplus1_keras.heads.base import Head
from cplus1_keras.heads.cosine import CosineHead
from cplus1_keras.heads.linear import LinearHead

__all__ = ["CosineHead", "Head", "LinearHead"]
