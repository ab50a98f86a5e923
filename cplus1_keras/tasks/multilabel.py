"""Multi-label classification: which of the known classes an image shows, any number of them or none."""

import csv
import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from cplus1_keras import calibration, data, metrics, plots, serving
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.layers import Presence
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.segmentation import spaced
from cplus1_keras.tasks.task import Task, image_format

NONE = "none of these"


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Images that show any number of the known classes, and label sets that say which.

    A decision is about one class in one image, by its logit, the log-odds of its presence. It is a known's where the
    class is there, so that the CCR is the recall; a negative's where it is not; an unknown's where it is not and the
    image shows unknown classes and no known one: then every class that is found is a mistake.

    Args:
        augment: `augment(example, seed)` of `data.augment`, for training; or None.
        top_k: Number of classes in the figures of the k surest of each image.
        pictures: Number of test images that are drawn, with the activation maps of what was found in them.

    >>> MultiLabel(augment=data.augment.random_flip()).unit
    'label'
    """

    augment: Callable | None = None
    top_k: int = 3
    pictures: int = 8

    scores = metrics.BinnedScores
    unit = "label"

    def check(self, experiment, splits):
        super().check(experiment, splits)
        absent = [_count(splits.calibration, c, 0) for c in range(splits.num_classes)]
        confidence = 1 - (1 - experiment.confidence) / splits.num_classes
        needed = calibration.images_needed(experiment.fpr, confidence, single=True)
        few = {name: n for name, n in zip(splits.class_names, absent, strict=True) if n < needed}
        if few:
            raise ValueError(
                f"Thresholds for {splits.num_classes} classes at a rate of {experiment.fpr:g}, all of which hold with "
                f"{experiment.confidence:.0%} confidence, need at least {needed:,} calibration images without each "
                f"class; there are {few}. Give the split more (`calibration_fraction`), or ask for a larger `fpr`."
            )

    def metrics(self, model, experiment, num_classes):
        return {"logits": [metrics.PresenceAUROC(num_classes)]}

    def training(self, model, split, experiment, first_step=0):
        return data.training(
            split,
            experiment.batch_size,
            augment=self.augment,
            seed=experiment.seed,
            first_step=first_step,
            **image_format(model),
        )

    def predictor(self, model, score, splits):
        presence = Presence(splits.num_classes, -np.inf)
        return serving.Predictor(model, presence, splits.class_names, serving.LabelSetSpec())

    def with_calibration(self, predictor, found=None):
        presence = Presence(len(predictor.class_names), -np.inf if found is None else found.threshold)
        return serving.Predictor(predictor.model, presence, predictor.class_names, predictor.spec, found)

    def records(self, predictor, split, experiment):
        """A `Record` of C decisions for each image."""
        classes = np.arange(len(predictor.class_names))
        answers = self.answers(predictor, split, experiment)
        for group, foreign, (y, answer) in zip(split.groups, split.shows_unknown, answers, strict=True):
            truth = y["multi_hot"]
            absent = UNKNOWN if foreign and not np.any(truth == 1) else NEGATIVE
            labels = np.select([truth == 1, truth == 0], [classes, absent], IGNORE)
            yield Record(labels, classes, answer["score"], group, {"multi_hot": truth, **answer})

    def calibrate(self, predictor, split, experiment):
        """A threshold for each class: what it promises of all of them holds at once."""
        records = self.records(predictor, split, experiment)
        return calibration.calibrate_classes(records, experiment.fpr, experiment.confidence, "log_odds")

    def figures(self, predictor, split):
        return {"multi_label": Sets(predictor.class_names, self.top_k)}

    def judge(self, predictor, split, experiment, found=None):
        figures, scores = super().judge(predictor, split, experiment, found)
        ...
        return figures, scores
