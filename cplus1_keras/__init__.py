"""Open-set classification for Keras 3: classifiers that can say "none of these".

What needs TensorFlow (`data`, `serving`, `tasks`, `configs`) is imported by name; the rest runs on any Keras backend.
"""

from cplus1_keras import anchors, calibration, heads, labels, layers, losses, metrics, models, scale, scores
from cplus1_keras.layers import Reject
from cplus1_keras.models import OpenSetModel

__all__ = [
    "OpenSetModel",
    "Reject",
    "anchors",
    "calibration",
    "heads",
    "labels",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "scale",
    "scores",
]


def load(run):
    """The classifier of a finished run: `load(run).predict(images)` says for each image, or pixel, its class or none.

    Args:
        run: Directory that `train.py` wrote.

    Returns:
        `cplus1_keras.serving.Classifier`, or of pixels a `Segmenter`.

    Raises:
        FileNotFoundError: If there is no finished run.
        ValueError: If a file of it is damaged.

    >>> cplus1_keras.load("runs/digits").predict(images)["class_name"]  # doctest: +SKIP
    """
    from cplus1_keras import serving

    return serving.load(run)
