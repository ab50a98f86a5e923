"""Tasks: what a label is of. Each is a handful of functions that `experiment.run` asks for."""

from cplus1_keras.tasks.classification import Classification
from cplus1_keras.tasks.detection import Detection
from cplus1_keras.tasks.multilabel import MultiLabel
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.segmentation import Segmentation
from cplus1_keras.tasks.task import Task

__all__ = ["Classification", "Detection", "MultiLabel", "Record", "Segmentation", "Task"]
