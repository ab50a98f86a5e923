"""From a trained model to answers: a SavedModel that needs none of this package, and the same answers in Python.

`save` and `load` write and read a run's directory, `load(RUN).predict(images)` answers, `export` writes the SavedModel
and checks it, `check` checks one that is there. All of it runs on Keras's TensorFlow backend.
"""

from cplus1_keras.serving.exporting import check, export
from cplus1_keras.serving.runs import (
    CALIBRATION_FILE,
    MODEL_FILE,
    SAVED_MODEL_FOLDER,
    Classifier,
    load,
    next_version,
    save,
)
from cplus1_keras.serving.segmenter import Segmenter
from cplus1_keras.serving.signatures import Signatures

__all__ = [
    "CALIBRATION_FILE",
    "MODEL_FILE",
    "SAVED_MODEL_FOLDER",
    "Classifier",
    "Segmenter",
    "Signatures",
    "check",
    "export",
    "load",
    "next_version",
    "save",
]
