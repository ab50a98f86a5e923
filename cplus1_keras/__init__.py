"""Open-set classification for Keras 3: classifiers that can say "none of these".

What needs TensorFlow (`data`, `serving`, `tasks`, `configs`) is imported by name; the rest runs on any Keras backend.
"""

from cplus1_keras.quiet import quiet_import

with quiet_import():
    from cplus1_keras import (
        anchors,
        calibration,
        heads,
        labels,
        layers,
        losses,
        metrics,
        models,
        posthoc,
        scale,
        scores,
    )
    from cplus1_keras.layers import Presence, Reject
    from cplus1_keras.models import OpenSetModel
    from cplus1_keras.wrapping import wrap

__all__ = [
    "OpenSetModel",
    "Presence",
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
    "posthoc",
    "scale",
    "scores",
    "wrap",
]


def load(path):
    """What answers, from a finished run or a SavedModel: `load(path).predict(images)` gives each class, or none.

    Args:
        path: Directory that `train.py` wrote, or folder of a SavedModel that an export wrote.

    Returns:
        `cplus1_keras.serving.Predictor` of a run, `cplus1_keras.serving.SavedModel` of a SavedModel.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If a file of it is damaged, or the files don't belong together.

    >>> import tempfile
    >>> images, run = keras.Input((8, 8, 1)), tempfile.mkdtemp()
    >>> model = keras.Model(images, heads.LinearHead(2)(keras.layers.Flatten()(images)))
    >>> serving.save(run, serving.Predictor(model, layers.Reject(2, threshold=0.5), ["cat", "dog"]))
    >>> load(run).predict(np.zeros((1, 8, 8, 1)))["class_name"].tolist()
    ['unknown']
    """
    import os

    from cplus1_keras import serving

    return serving.SavedModel(path) if os.path.exists(os.path.join(path, "saved_model.pb")) else serving.load(path)
