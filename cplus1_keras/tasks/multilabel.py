"""Multi-label classification: which of the known classes an image shows, any number of them or none."""

import csv
import dataclasses
import types
from collections.abc import Callable

import keras
import numpy as np

from cplus1_keras import calibration, data, metrics, plots, serving
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.layers import Presence
from cplus1_keras.tasks.batches import image_format, order
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.task import Task
from cplus1_keras.tasks.watching import spaced

NONE = "none of these"


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Images that show any number of the known classes, or none of them.

    Each class of each image is decided by its logit, the log-odds of its presence. A decision is a known's where the
    class is there, so that the CCR is the recall; a negative's where it is not; and an unknown's where it is not and
    the image shows an unknown class and no known one: then each class that is found is a mistake.

    Args:
        augment: `augment(example, seed)` of `data.augment`, for training; or None.
        top_k: k, for figures of the k surest classes of each image beside those of all.
        pictures: Number of test images to draw, with activation maps of what was found, where the model gives `cams`.

    >>> MultiLabel(pictures=4).unit
    'label'
    """

    augment: Callable | None = None
    top_k: int = 3
    pictures: int = 8

    scores = metrics.BinnedScores
    kind = "classes"
    unit = "label"
    headline = types.MappingProxyType({"PR AUC": "logits_pr_auc", "val": "val_logits_pr_auc"})

    def check_rate(self, experiment, split):
        names, groups = split.protocol.class_names, np.array(split.groups)
        each, few = 1 - (1 - experiment.confidence) / len(names), []
        for name, lacks in zip(names, (split.multi_hot == 0).T, strict=True):
            there, single = len({*groups[lacks]}), len({*groups[lacks]}) == lacks.sum()
            needed = calibration.images_needed(experiment.fpr, each, single)
            few += [f"{name}: {there} of {needed:,}"] * (there < needed)
        if few:
            raise ValueError(
                f"Thresholds for {len(names)} classes at a rate of {experiment.fpr:g}, which hold together at "
                f"{experiment.confidence:.0%} confidence, need more calibration images, or groups of them, without a "
                f"class: {', '.join(few)}. Raise `calibration_fraction` of `split`, or ask for a larger `fpr`."
            )

    def metrics(self, model, experiment, num_classes):
        return {"logits": [metrics.PresenceAUC(num_classes)]}

    def watched(self, experiment, splits):
        return "val_logits_pr_auc"

    def training(self, model, split, experiment, first_step=0):
        return data.training(
            split,
            experiment.batch_size,
            augment=self.augment,
            **order(experiment, first_step),
            **image_format(model),
        )

    def predictor(self, model, score, splits):
        presence = Presence(splits.num_classes, -np.inf)
        return serving.Predictor(model, presence, splits.class_names, serving.LabelSetSpec())

    def with_calibration(self, predictor, found=None):
        presence = Presence(predictor.num_classes, -np.inf if found is None else found.thresholds)
        return serving.Predictor(predictor.model, presence, predictor.class_names, predictor.spec, found)

    def records(self, predictor, split, experiment):
        classes = np.arange(predictor.num_classes)
        answers = self.answers(predictor, split, experiment)
        for group, strange, (y, answer) in zip(split.groups, split.shows_unknown, answers, strict=True):
            truth = y["multi_hot"]
            absent = UNKNOWN if strange and not np.any(truth == 1) else NEGATIVE
            labels = np.select([truth == 1, truth == 0], [classes, absent], IGNORE)
            yield Record(labels, classes, answer["score"], group, {"multi_hot": truth, **answer})

    def choose_threshold(self, predictor, records, split, experiment):
        """A threshold for each class, whose promises hold together: a `calibration.ClassCalibration`."""
        asked = experiment.fpr, experiment.confidence, "log_odds"
        return calibration.calibrate_classes(records, *asked, class_names=predictor.class_names)

    def values(self, split):
        # An image that shows no known class is a stranger by each unknown one that it shows, whatever is found in it.
        roles = np.isin(split.source.class_names, split.protocol.unknown)
        for shown, known in zip(split.source.labels, split.shows_known, strict=True):
            strange = np.flatnonzero(shown & roles & ~known)
            yield np.repeat(strange[:, None], split.protocol.num_classes, axis=1)

    def watched_figures(self, predictor):
        return MeanAP()

    def figures(self, predictor, split):
        return {"multi_label": Sets(predictor, self.top_k)}

    def judge(self, predictor, split, experiment, found=None, watch=None):
        # Records tell what is found by the thresholds, and the scores are judged by them: one for each class.
        calibrated = self.with_calibration(predictor, found)
        thresholds = None if found is None else types.SimpleNamespace(threshold=found.thresholds)
        return super().judge(calibrated, split, experiment, thresholds, watch)

    def write(self, directory, predictor, split, experiment, figures, judged):
        """`oscr.png`, `predictions.csv`, and `maps.png` where the model gives activation maps."""
        files = super().write(directory, predictor, split, experiment, figures, judged)
        names = np.array(predictor.class_names)
        with open(directory / "predictions.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["example", "shows", "shows_unknown", "found", *(f"score {name}" for name in names)])
            for index, record in enumerate(self.records(predictor, split, experiment)):
                shows = "; ".join(names[record.more["multi_hot"] == 1])
                found = "; ".join(names[record.more["present"]]) or NONE
                # repr of a float32 as float64 is read back to the same score, so that thresholds decide alike.
                scores = [repr(float(score)) for score in record.scores]
                writer.writerow([split.describe(index), shows, bool(split.shows_unknown[index]), found, *scores])
        if "cams" not in predictor.model.output or not self.pictures:
            return [*files, "predictions.csv"]
        self.draw(predictor, split, experiment).savefig(directory / "maps.png")
        return [*files, "predictions.csv", "maps.png"]

    def draw(self, predictor, split, experiment):
        """Activation maps of what is found in some images of a split, evenly spaced."""
        shown = split.subset(spaced(len(split), self.pictures))
        maps, parts = keras.Model(predictor.model.input, predictor.model.output["cams"]), []
        for images, y in self.images(predictor, shown, experiment):
            answer = predictor.predict(images.numpy())
            parts.append([images, maps(images, training=False), answer["present"], answer["score"], y["multi_hot"]])
        images, cams, present, scores, truth = (np.concatenate(part) for part in zip(*parts, strict=True))
        return plots.activation_maps(images, cams, present, scores, predictor.class_names, truth, title=experiment.name)

    def tables(self, figures):
        own = figures["multi_label"]
        rows = {"p >= 1/2": own} | ({"calibrated": own["calibrated"]} if "calibrated" in own else {})
        return [metrics.multilabel.table(rows)]


class MeanAP:
    """mAP of records."""

    def __init__(self):
        self.scores = metrics.MultiLabelScores(top_k=0)

    def update(self, record):
        truth = np.where(record.labels == IGNORE, IGNORE, record.labels >= 0)
        self.scores.update(truth[None], record.scores[None])

    def result(self):
        return {"map": self.scores.result()["map"]}


class Sets:
    """Figures of label sets: those of the field, of the calibrated thresholds, and how "none of these" is used."""

    def __init__(self, predictor, top_k):
        self.names, found = predictor.class_names, predictor.calibration
        self.scores = {"": metrics.MultiLabelScores(top_k=top_k)}
        if found is not None:
            self.scores["calibrated"] = metrics.MultiLabelScores(found.thresholds, top_k=0)
        self.none = {"shows_known": [], "shows_none": [], "shows_unknown": []}

    def update(self, record):
        truth = record.more["multi_hot"]
        for scores in self.scores.values():
            scores.update(truth[None], record.scores[None])
        if np.any(truth == 1):
            self.none["shows_known"].append(record.more["none"])
        elif np.all(truth == 0):
            strange = np.any(record.labels == UNKNOWN)
            self.none["shows_unknown" if strange else "shows_none"].append(record.more["none"])

    def result(self):
        result, *others = (scores.result(self.names) for scores in self.scores.values())
        if not others:
            return result
        none = {
            kind: {"images": len(said), "none_of_these": float(np.mean(said)) if said else None}
            for kind, said in self.none.items()
        }
        return {**result, "calibrated": others[0], "none_of_these": none}
