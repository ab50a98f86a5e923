"""Open-set classification: a label for each image."""

import csv
import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from cplus1_keras import calibration, data, losses, plots, serving
from cplus1_keras.images import shorten
from cplus1_keras.labels import NEGATIVE, REJECTED_NAME, UNKNOWN
from cplus1_keras.tasks.batches import image_format, order
from cplus1_keras.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Images, each of a known class or of none.

    Args:
        augment: `augment(example, seed)` of `data.augment`, for training; or None.
        negative_fraction: Share of negatives in a training batch, by sampling; None takes them as they come. A loss
            without a use for negatives trains without them.
        symmetric_noise, circular_noise: Share of the known training images that get the label of any class, or of the
            next one, as `data.noise` says; at most one of the two above 0.
        crop: (shorter side, side), such as (256, 224): images keep their shape and are resized to this shorter side; a
            square of this side is cut out at random in training, from the middle elsewhere. The model takes squares of
            that side. None stretches images to the model's size. Files that the exported model or `predict` is given
            are cut from the middle, too; as `images` it takes such squares.
        mixup: α >= 0 of `data.mixing.mixup`, which mixes training images; 0 mixes none.
        by_class: Whether the threshold's promise is for a negative class never seen: classes count in place of images,
            which takes many of them that do not train (`calibration_classes` of `data.split`).

    Raises:
        ValueError: For both kinds of noise, a share outside [0, 1], or a negative α.

    >>> Classification(augment=data.augment.random_crop(padding=4), negative_fraction=0.3).negative_fraction
    0.3
    """

    augment: Callable | None = None
    negative_fraction: float | None = None
    symmetric_noise: float = 0.0
    circular_noise: float = 0.0
    crop: tuple | None = None
    mixup: float = 0.0
    by_class: bool = False

    kind = "class"

    def __post_init__(self):
        rates = self.symmetric_noise, self.circular_noise
        if all(rates) or not all(0 <= rate <= 1 for rate in rates):
            raise ValueError(
                "Label noise is `symmetric_noise` or `circular_noise`, a share in [0, 1]. Received: "
                f"symmetric_noise={rates[0]}, circular_noise={rates[1]}"
            )

        if self.crop is not None and not (len(self.crop) == 2 and 0 < self.crop[1] <= self.crop[0]):
            raise ValueError(f"`crop` is (shorter side, side) in pixels, like (256, 224). Received: crop={self.crop}")
        if not self.mixup >= 0:
            raise ValueError(f"`mixup` is the α of a beta distribution, >= 0. Received: mixup={self.mixup}")

    def loss(self, loss):
        return losses.mix(loss) if self.mixup else loss

    def splits(self, splits, seed):
        for noise, rate in ((data.noise.symmetric, self.symmetric_noise), (data.noise.circular, self.circular_noise)):
            splits = data.noise.spoil(splits, noise, rate, seed) if rate else splits
        if self.crop is None:
            return splits
        return dataclasses.replace(splits, **{part.name: self._cut(part) for part in splits if part.name != "train"})

    def validation(self, model, split, experiment):
        # Training images, looked at where a run has no others, are cut as those are that judge it.
        looked_at = self._cut(split) if self.crop is not None and split.name == "train" else split
        return super().validation(model, looked_at, experiment)

    def spec(self):
        return serving.ImageSpec(short_side=None if self.crop is None else self.crop[0])

    def watched(self, experiment, splits):
        if experiment.loss.needs_negatives and splits.validation.has_negatives:
            return "val_auroc_negative"
        return super().watched(experiment, splits)

    def steps_per_epoch(self, split, experiment):
        fraction = self._negative_fraction(experiment)
        chosen = experiment.sampling, experiment.repeat_threshold
        return data.steps_per_epoch(split, experiment.batch_size, fraction, *chosen)

    def training(self, model, split, experiment, first_step=0):
        form, augment = image_format(model), self.augment
        if self.crop is not None:
            side, size = self.crop
            cut = functools.partial(_shorten, side), data.augment.random_crop(size)
            augment = data.augment.chain(*cut, data.augment.pad(size), *([augment] if augment else []))
            form = {**form, "image_size": None}
        batches = data.training(
            split,
            experiment.batch_size,
            augment=augment,
            negative_fraction=self._negative_fraction(experiment),
            **order(experiment, first_step),
            **form,
        )
        return data.mixing.mixup(batches, self.mixup, experiment.seed, first_step) if self.mixup else batches

    promises = (*Task.promises, "by_class")

    def check(self, experiment, splits):
        super().check(experiment, splits)
        if not self.by_class:
            return
        there = len({*self.held_out(splits, experiment)} - {None})
        needed = calibration.images_needed(experiment.fpr, experiment.confidence, single=False)
        if there < needed:
            raise ValueError(
                f"A promise about classes never seen (`by_class`), at a rate of {experiment.fpr:g} and "
                f"{experiment.confidence:.0%} confidence, takes {needed:,} negative classes that calibrate and do not "
                f"train; there are {there:,}. Name more as `calibration_classes` of `data.split`, ask for a larger "
                "`fpr`, or leave `by_class` False: the run tells what its classes say without a promise."
            )

    def choose_threshold(self, predictor, records, split, experiment):
        if not self.by_class:
            return super().choose_threshold(predictor, records, split, experiment)
        found = [(float(record.scores), index) for index, record in enumerate(records) if record.labels == NEGATIVE]
        scores, classes = [score for score, _ in found], np.array([split.class_name(index) for _, index in found])
        given = experiment.fpr, experiment.confidence, experiment.score.__name__
        return calibration.threshold_at_fpr(np.array(scores), *given, groups=classes)

    def find_threshold(self, predictor, splits, experiment):
        found, names = super().find_threshold(predictor, splits, experiment), self.held_out(splits, experiment)
        if len({*names} - {None}) < 2 or found.rule != "fpr":
            return found
        chosen = [index for index, name in enumerate(names) if name is not None]
        records = self.records(predictor, splits.calibration.subset(chosen), experiment)
        scores, classes = [float(record.scores) for record in records], [names[index] for index in chosen]
        new = calibration.judge_new_classes(scores, classes, found.threshold, experiment.fpr, experiment.confidence)
        return dataclasses.replace(found, new_classes=new)

    def held_out(self, splits, experiment):
        """For each calibration image the name of its class, where that is negative and never trained; else None."""
        split, train = splits.calibration, splits.train
        trained = set()
        if experiment.loss.needs_negatives:
            trained = {train.class_name(index) for index in np.flatnonzero(train.labels == NEGATIVE)}
        names = (split.class_name(index) if split.labels[index] == NEGATIVE else None for index in range(len(split)))
        return [None if name in trained else name for name in names]

    def write(self, directory, predictor, split, experiment, figures, judged):
        """`oscr.png`, `scores.png`, `accepted_unknowns.png` and `predictions.csv`."""
        files = super().write(directory, predictor, split, experiment, figures, judged)
        found, names = predictor.calibration, predictor.class_names
        labels, predictions, scores = judged.arrays
        plots.histogram(labels, scores, found.threshold, score_name=found.score).savefig(directory / "scores.png")
        sheet = accepted_unknowns(split, predictions, scores, found.threshold, names)
        sheet.savefig(directory / "accepted_unknowns.png")
        write_predictions(directory / "predictions.csv", split, predictions, scores, found.threshold, names)
        return [*files, "scores.png", "accepted_unknowns.png", "predictions.csv"]

    def _cut(self, split):
        return dataclasses.replace(split, source=split.source.centered(*self.crop))

    def _negative_fraction(self, experiment):
        return self.negative_fraction if experiment.loss.needs_negatives else 0


def _shorten(short_side, example, seed):
    return example | {"image": shorten(example["image"], short_side)}


def accepted_unknowns(split, predictions, scores, threshold, class_names, limit=40):
    """Contact sheet of the unknowns of a split that the threshold accepts, the surest first, `limit` at most.

    `predictions` and `scores` (N,) are in the order of the split.
    """
    unknown = split.labels == UNKNOWN
    accepted = np.flatnonzero(unknown & (scores >= threshold))
    shown = accepted[np.argsort(-scores[accepted], kind="stable")][:limit]
    chosen = split.subset(np.sort(shown)).dataset().as_numpy_iterator()
    images = dict(zip(np.sort(shown), (example["image"] for example in chosen), strict=True))
    title = f"None of {unknown.sum():,} unknowns was accepted" if unknown.any() else "The test set has no unknowns"
    if len(accepted):
        part = "" if len(shown) == len(accepted) else f", the {len(shown)} surest of them"
        title = f"{len(accepted):,} of {unknown.sum():,} unknowns accepted{part}\ntrue class → taken for, score"
    return plots.accepted_unknowns(
        np.array([images[index] for index in shown]),
        [class_names[predictions[index]] for index in shown],
        [split.class_name(index) for index in shown],
        scores[shown],
        threshold,
        title=title,
    )


def write_predictions(path, split, predictions, scores, threshold, class_names):
    """A split as csv: a line an image with its label, the prediction, the score and the answer at the threshold."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["example", "true_class", "label", "prediction", "score", "answer"])
        for index, (label, prediction, score) in enumerate(zip(split.labels, predictions, scores, strict=True)):
            answer = class_names[prediction] if score >= threshold else REJECTED_NAME
            # repr of a float32 as float64 is read back to the same score, so that thresholds decide alike.
            row = [split.describe(index), split.class_name(index), label, prediction, repr(float(score)), answer]
            writer.writerow(row)
