"""What a run asks of a task. The answers here are those of any model with one label for each position of its logits."""

import collections
import dataclasses
import time
import types

import keras
import numpy as np

from cplus1_keras import calibration, data, metrics, plots, serving
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.layers import Reject
from cplus1_keras.tasks.batches import image_format, order
from cplus1_keras.tasks.evidence import Evidence
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.strangers import NearAndFar, Strangers

SAMPLE = 32
"""How many images of each split are read before a training, where they are not in memory."""

LEAK = 0.01
"""Share of a split that may be copies of training images, as a few of large data sets are."""

KINDS = {
    "class": "one class for each image",
    "classes": "a set of classes for each image",
    "mask": "a class for each pixel",
    "boxes": "a class for each of its boxes",
}
"""What a source's kind means."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A label for each image, or for each position of something that a model gives for it.

    A subclass has its own settings as fields, and overrides what differs: most often `metrics`, `training`, `records`
    and `figures`. All methods that take an `experiment` read its settings only.
    """

    scores = metrics.ExactScores
    """Accumulator of labels, predictions and scores; `metrics.BinnedScores` where there are too many to hold."""

    kind = None
    """Kind of source that it takes, a key of `KINDS`; None for any."""

    unit = "image"
    """What a label is of, in words."""

    promises = ("fpr", "coverage", "confidence")
    """Settings, of the experiment or the task, that ask for another threshold."""

    headline = types.MappingProxyType({"accuracy": "logits_known_accuracy", "AUROC": "val_auroc_negative"})
    """Figures for the line of progress: the name to show, and that in the logs of `fit`."""

    def splits(self, splits, seed):
        """What a run takes in place of the splits that its `data` gives."""
        return splits

    def loss(self, loss):
        """The loss that trains, made of the one that an experiment has."""
        return loss

    def for_splits(self, splits):
        """This task, with what its figures ask of the training split."""
        return self

    def check(self, experiment, splits):
        """Raises ValueError for what a run would otherwise find out after its training."""
        source = splits.train.source
        if self.kind not in (None, source.kind):
            needs = f"{type(self).__name__} needs a source of kind {self.kind!r}, {KINDS[self.kind]}"
            raise ValueError(f"{needs}. Received one of kind {source.kind!r}, {KINDS[source.kind]}: {source!r}")
        if experiment.loss.needs_negatives and not splits.train.has_negatives:
            terms = [loss.name for _, loss in experiment.loss.terms() if loss.needs_negatives]
            raise ValueError(
                f"The loss {terms} learns from negatives, and training has none by the protocol "
                f"{splits.protocol.name!r}. Name negative classes in it, or take a loss without them, like "
                "CrossEntropyLoss()."
            )
        if not len(splits.test) or not (source.kind == "mask" or splits.test.shows_known.any()):
            raise ValueError(
                "The test split has no image of a known class, so nothing would judge the run. Give it `test_fraction` "
                f"> 0. Received: {len(splits.test):,} test images"
            )
        if experiment.patience and not len(splits.validation):
            raise ValueError(
                "`patience` watches the validation split, which is empty. Give it a `validation_fraction` > 0, or "
                f"images of its own. Received: patience={experiment.patience}"
            )
        if experiment.steps is None:
            self.steps_per_epoch(splits.train, experiment)  # refuses a batch that is larger than all images
        self.check_files(splits, SAMPLE)
        self.check_copies(splits)
        self.check_rate(experiment, splits.calibration)

    def check_files(self, splits, sample=None):
        """Raises ValueError where a file cannot be read or labels not be told; reads so many of a split, or all."""
        start = time.monotonic()
        problems = data.check(splits, sample)
        seconds = time.monotonic() - start
        if seconds > 3:
            print(f"Looking at {sum(len(split) for split in splits):,} images took {seconds:.0f} s.", flush=True)
        if problems:
            more = f"\n... and {len(problems) - 5:,} more" if len(problems) > 5 else ""
            raise ValueError("\n".join(problems[:5]) + more)

    def check_copies(self, splits, decode=False):
        """Tells of images that are in two splits; ValueError where they are above 1 % of one that does not train."""
        copies = data.find_copies(splits, decode)
        found = [own for own in copies if own[0].startswith("train: ")]
        if not found:
            return
        text = f"{len(found):,} images train and are in another split, too, such as {' = '.join(found[0])}."
        for split in splits:
            number = sum(any(place.startswith(f"{split.name}: ") for place in own) for own in found)
            if split.name != "train" and number > LEAK * len(split):
                share = f"They are {number / len(split):.1%} of {split.name}, whose figures would be worthless"
                raise ValueError(f"{text} {share}. Remove them.")
        print(f"Note: {text} Remove them: what was trained on judges nothing.", flush=True)

    def check_rate(self, experiment, split):
        """Raises ValueError where a calibration split has too few images to prove the rate asked for."""
        counts = {"negative": collections.Counter(), "known": collections.Counter()}
        for group, labels in zip(split.groups, self.labels(split), strict=True):
            for kind, is_kind in (("negative", is_negative), ("known", is_known)):
                number = int(np.count_nonzero(is_kind(labels)))
                counts[kind] += collections.Counter({group: number} if number else {})
        kind, rate = ("negative", experiment.fpr) if counts["negative"] else ("known", 1 - experiment.coverage)
        single = max(counts[kind].values(), default=1) == 1
        needed, there = calibration.images_needed(rate, experiment.confidence, single), len(counts[kind])
        if there < needed:
            pixels = "" if self.unit == "image" else f" {self.unit}s"
            raise ValueError(
                f"A threshold at a rate of {rate:g} and {experiment.confidence:.0%} confidence needs at least "
                f"{needed:,} calibration images with {kind}{pixels or ' labels'}; the split has {there:,}. Give it "
                "more (`calibration_fraction` of `split`), or ask for a larger `fpr` or a smaller `coverage`."
            )

    def labels(self, split):
        """The labels of each image of a split, in its order."""
        if split.labels is not None:
            return split.labels
        return (example["labels"] for example in split.dataset().as_numpy_iterator())

    def metrics(self, model, experiment, num_classes):
        """Metrics for `compile`, a dict by output."""
        return {"logits": [metrics.KnownAccuracy(num_classes)]}

    def watched(self, experiment, splits):
        """Name in the logs of `fit` of the figure that `patience` watches; larger is better."""
        return "val_logits_known_accuracy"

    def steps_per_epoch(self, split, experiment):
        """Batches of a pass over the training images."""
        chosen = experiment.sampling, experiment.repeat_threshold
        return data.steps_per_epoch(split, experiment.batch_size, None, *chosen)

    def training(self, model, split, experiment, first_step=0):
        """Training batches (images, y) or (images, y, weights) without end, beginning with the step of this number."""
        return data.training(split, experiment.batch_size, **order(experiment, first_step), **image_format(model))

    def validation(self, model, split, experiment):
        """Batches of a split to look at after each epoch, or None where images have no common size."""
        replicas = model.distribute_strategy.num_replicas_in_sync
        # A replica without an image fails in its layers.
        count = len(split) - len(split) % replicas
        if not count:
            return None
        return data.evaluation(split.subset(np.arange(count)), experiment.batch_size, **image_format(model))

    def watched_figures(self, predictor):
        """An accumulator, with `update(record)` and `result()`, of floats by name that each epoch tells; or None."""
        return None

    def predictor(self, model, score, splits):
        """A `serving.Predictor` that accepts everything."""
        reject = Reject(splits.num_classes, -np.inf, score)
        return serving.Predictor(model, reject, splits.class_names, self.spec())

    def spec(self):
        """What the model's outputs say about raw images, an output spec of `serving`."""
        return serving.ImageSpec()

    def with_calibration(self, predictor, found=None):
        """The predictor with the threshold of a calibration; without one it accepts everything."""
        threshold = -np.inf if found is None else found.threshold
        reject = Reject(predictor.reject.num_classes, threshold, predictor.reject.score)
        return serving.Predictor(predictor.model, reject, predictor.class_names, predictor.spec, found)

    def images(self, predictor, split, experiment):
        """What is judged: batches (images, y) of all images of a split, in its order."""
        height, width, channels = predictor.image_shape
        size = None if None in (height, width) else (height, width)
        return data.evaluation(split, experiment.batch_size if size else 1, image_size=size, channels=channels)

    def samples(self, predictor, split, experiment):
        """A batch of images on which an export must answer as the model does."""
        return next(iter(self.images(predictor, split, experiment)))[0].numpy()

    def answers(self, predictor, split, experiment):
        """Pairs of y and the predictor's answer, for one image after the other."""
        number = 0
        for images, y in self.images(predictor, split, experiment):
            answer = predictor.predict(images.numpy())
            for i in range(len(images)):
                own = {name: value[i] for name, value in answer.items()}
                if not np.all(own["valid"]):
                    raise ValueError(
                        f"{split.describe(number)} has no score: the image has NaN or infinite pixels, or the model "
                        "gives NaN. Repair the image or train with a smaller learning rate."
                    )
                yield keras.tree.map_structure(lambda value, i=i: value[i].numpy(), y), own
                number += 1

    def records(self, predictor, split, experiment):
        """A `Record` for each image, in the split's order; the predictor accepts everything."""
        answers = self.answers(predictor, split, experiment)
        for group, (labels, answer) in zip(split.groups, answers, strict=True):
            yield Record(labels, answer["class_id"], answer["score"], group, answer)

    def calibrate(self, predictor, split, experiment):
        """The threshold with its evidence, a `calibration.Calibration`."""
        return self.choose_threshold(predictor, self.records(predictor, split, experiment), split, experiment)

    def choose_threshold(self, predictor, records, split, experiment):
        """What `calibrate` finds on these records of a split's images, in its order."""
        chosen = experiment.fpr, experiment.coverage, experiment.confidence
        return calibration.calibrate(records, *chosen, score=experiment.score.__name__)

    def find_threshold(self, predictor, splits, experiment):
        """`calibrate` on the calibration split, and what more a task can tell by the other splits."""
        return self.calibrate(predictor, splits.calibration, experiment)

    def values(self, split):
        """Iterator of what `Strangers.update` takes beside each record of a split; None where classes are not told."""
        return None if split.labels is None else iter(split.source.labels)

    def figures(self, predictor, split):
        """Accumulators by name, with `update(record)` and `result()`: figures that this task has beside all others."""
        return {}

    def judge(self, predictor, split, experiment, found=None, watch=None):
        """All figures of a split in one pass over its images.

        `watch(record, values)` is called for each, where it is given.

        Returns:
            Pair of the figures, plain values ready for JSON: `images`, `open_set` by group, where there is a
            calibration `at_threshold` and, of strangers, `by_class` and, where the protocol tells near from far ones,
            `by_distance`, which are groups then, too; those of `figures`; and the accumulator that holds the scores.
        """
        common, own, number = self.scores(getattr(found, "threshold", None)), self.figures(predictor, split), 0
        values = None if found is None else self.values(split)
        strangers = None if values is None else Strangers(split.source.names, found.threshold)
        apart = NearAndFar(strangers, split.protocol.far, self.scores) if strangers and split.protocol.far else None
        for record in self.records(predictor, split, experiment):
            common.update(record.labels, record.predictions, record.scores)
            for accumulator in own.values():
                accumulator.update(record)
            own_values = None if values is None else next(values)
            for counting in filter(None, (strangers, apart)):
                counting.update(record, own_values)
            if watch is not None:
                watch(record, own_values)
            number += 1
        figures = {"images": number, "open_set": common.summary()}
        if found is not None:
            figures["at_threshold"] = common.at_threshold()
        if strangers is not None:
            figures["by_class"] = strangers.result()
        if apart is not None:
            figures["open_set"] |= apart.summary()
            figures["by_distance"] = apart.result()
        return figures | {name: accumulator.result() for name, accumulator in own.items()}, common

    def evidence(self, predictor, split, found):
        """What a report needs beside the figures: its `update` watches `judge`, and it writes itself to the run."""
        return Evidence(found, predictor.class_names, split.source.names, self.unit)

    def write(self, directory, predictor, split, experiment, figures, judged):
        """Write pictures and tables of a judged split into a run's directory; returns the files' names."""
        curves = {group: judged.curve(group) for group in judged.groups}
        if not curves:
            return []
        title = f"{experiment.name}: OSCR over the test's {self.unit}s"
        plots.oscr(curves, title=title).savefig(directory / "oscr.png")
        return ["oscr.png"]

    def tables(self, figures):
        """Markdown tables of this task's own figures, for the last words of a run."""
        return []
