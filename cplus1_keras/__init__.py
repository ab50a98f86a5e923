"""Open-set classification for Keras 3: classifiers that can say "none of these"."""

from cplus1_keras import heads, labels, losses, scale
from cplus1_keras.models import OpenSetModel

__all__ = ["OpenSetModel", "heads", "labels", "losses", "scale"]
