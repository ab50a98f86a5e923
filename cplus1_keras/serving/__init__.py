"""From a trained model to answers: a SavedModel that needs none of this package, and the same answers in Python.

A spec explains a model's outputs, a `Predictor` answers; `save` and `load` keep it in a run's directory; `export`
writes its SavedModel and checks it. All of it runs on Keras's TensorFlow backend.
"""

from cplus1_keras.labels import check_names
from cplus1_keras.serving.boxes import BoxSpec
from cplus1_keras.serving.exporting import CLASSES_FILE, check, export
from cplus1_keras.serving.guards import isolate
from cplus1_keras.serving.pixels import PixelSpec
from cplus1_keras.serving.predictor import Predictor
from cplus1_keras.serving.retuning import retune
from cplus1_keras.serving.runs import (
    CALIBRATION_FILE,
    MODEL_FILE,
    SAVED_MODEL_FOLDER,
    load,
    next_version,
    save,
    save_calibration,
)
from cplus1_keras.serving.served import SavedModel
from cplus1_keras.serving.spec import ImageSpec, LabelSetSpec

__all__ = [
    "CALIBRATION_FILE",
    "CLASSES_FILE",
    "MODEL_FILE",
    "SAVED_MODEL_FOLDER",
    "BoxSpec",
    "ImageSpec",
    "LabelSetSpec",
    "PixelSpec",
    "Predictor",
    "SavedModel",
    "check",
    "check_names",
    "export",
    "isolate",
    "load",
    "next_version",
    "retune",
    "save",
    "save_calibration",
]
