"""Detection: a box and a label for each object of an image."""

import csv
import dataclasses
import types
from collections.abc import Callable

import numpy as np

from cplus1_keras import calibration, data, metrics, models, plots, serving
from cplus1_keras.metrics.matching import MISTAKES, mistakes
from cplus1_keras.tasks.batches import order
from cplus1_keras.tasks.instances import Instances, runs
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.task import Task
from cplus1_keras.tasks.watching import Told, spaced

NAMES = {-1: "background", -2: "unknown", -100: "ignored"}


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """Images of any size with objects of known classes, of others, or none.

    A decision is a detection: a known's where it hits a known object, of its class or not, with an IoU of 0.5 or more;
    an unknown's where it hits an unknown object; a negative's where it hits neither. See `metrics.hit`.

    Args:
        augment: `augment(example, seed)` of `data.augment`, for training; brings all images to one size.
        base: None, or the size (long, short) within which images are scaled before they are judged; boxes are scaled
            back to the image's own size.
        keep_ratio: False stretches images to `base`, then (height, width).
        false_allowed: How many false detections an image may have for the threshold's promise: of all images the share
            `fpr` at most has more.
        sigmoid, max_detections, per_level, score_threshold, iou, class_agnostic, masks: As for `serving.BoxSpec`.
        largest: Largest side in pixels of an image that the exported model takes.
        pictures: Number of test images to draw.
        image_counts: How many training images show each class, for the AP of rare, common and frequent ones; None takes
            those of the run's own training split.

    >>> Detection(base=(640, 480), iou=0.5).spec().iou
    0.5
    """

    augment: Callable | None = None
    base: tuple | None = None
    keep_ratio: bool = True
    false_allowed: int = 0
    sigmoid: bool = False
    max_detections: int = 100
    per_level: int = 1000
    score_threshold: float = 0.05
    iou: float = 0.6
    class_agnostic: bool = False
    masks: bool = False
    largest: int = 2048
    pictures: int = 8
    image_counts: tuple | None = None

    scores = metrics.BinnedScores
    kind = "boxes"
    unit = "detection"
    decoding = ("class_agnostic", "iou", "masks", "max_detections", "per_level", "score_threshold", "sigmoid")
    promises = (*Task.promises, "false_allowed", *decoding)
    headline = types.MappingProxyType({"AP50": "val_ap50", "accuracy": "logits_known_accuracy"})

    def check(self, experiment, splits):
        if self.masks and any(len(part) and part.source.boxes.outlines is None for part in splits):
            needs = "`masks` needs sources whose objects have masks, such as `data.sources.coco_boxes(..., masks=True)`"
            raise ValueError(f"{needs}. Received: {splits.train.source!r}")
        super().check(experiment, splits)

    def check_rate(self, experiment, split):
        groups = {*split.groups}
        single = len(groups) == len(split)
        needed = calibration.images_needed(experiment.fpr, experiment.confidence, single)
        if len(groups) < needed:
            raise ValueError(
                f"A promise for all but {experiment.fpr:.0%} of the images at {experiment.confidence:.0%} confidence "
                f"needs at least {needed:,} calibration images, or groups of them; the split has {len(groups):,}. Give "
                "it more (`calibration_fraction` of `split`), or ask for a larger `fpr`."
            )

    def for_splits(self, splits):
        counts = data.image_counts(splits.train).tolist() if self.image_counts is None else self.image_counts
        return dataclasses.replace(self, image_counts=tuple(counts))

    def watched(self, experiment, splits):
        return "val_ap50"

    def metrics(self, model, experiment, num_classes):
        # Of the first box head of two stages, whose regions are sampled in training alone.
        name = "roi1_logits" if "roi_boxes" in model.output else "logits"
        return {name: [metrics.KnownAccuracy(num_classes)]}

    def training(self, model, split, experiment, first_step=0):
        return data.training(
            split,
            experiment.batch_size,
            channels=model.input_shape[-1],
            augment=self.augment,
            **order(experiment, first_step),
        )

    def validation(self, model, split, experiment):
        return None

    def watched_figures(self, predictor):
        names = ("ap", "ap50")
        return Told(Objects(predictor, samples=0), lambda found: {name: found["coco"][name] for name in names})

    def predictor(self, model, score, splits):
        return super().predictor(models.scale_boxes(model, self.base, self.keep_ratio), score, splits)

    def spec(self):
        return serving.BoxSpec(max_size=self.largest, **{name: getattr(self, name) for name in self.decoding})

    def with_calibration(self, predictor, found=None):
        same = super().with_calibration(predictor, found)
        # A run that is judged again may decode otherwise than it did.
        return serving.Predictor(same.model, same.reject, same.class_names, self.spec(), found)

    def samples(self, predictor, split, experiment):
        return super().samples(predictor, split, experiment)[:, : self.largest, : self.largest]

    def records(self, predictor, split, experiment):
        answers = self.answers(predictor, split, experiment)
        for number, (group, (y, answer)) in enumerate(zip(split.groups, answers, strict=True)):
            own = split.source.boxes[[number]]
            objects, labels = (y[name][: len(own.corners)] for name in ("boxes", "box_labels"))
            rows = {name: value for name, value in answer.items() if np.ndim(value) and name != "image"}
            found = {name: value[: answer["num_detections"]] for name, value in rows.items()}
            found |= {"image": answer["image"]} if "image" in answer else {}
            guesses, unjudged = found["known_argmax"], split.unjudged(number)
            which, hits = metrics.hit(found["boxes"], objects, labels, predictions=guesses, unjudged=unjudged)
            truth = {"objects": objects, "object_labels": labels, "areas": own.areas, "unjudged": unjudged}
            truth |= {"object_classes": split.class_labels[own.values], "which": which}
            if self.masks:  # in runs: as pixels they would be most of the memory
                found["masks"], truth["object_masks"] = metrics.encode_masks(found["masks"]), runs(own)
            yield Record(hits, guesses, found["score"], group, {**found, **truth})

    def choose_threshold(self, predictor, records, split, experiment):
        return calibration.calibrate_detections(
            records,
            experiment.fpr,
            experiment.confidence,
            score=experiment.score.__name__,
            allowed=self.false_allowed,
        )

    def values(self, split):
        return (split.source.boxes[[number]].values for number in range(len(split)))

    def figures(self, predictor, split):
        masks = {"masks": Instances(predictor)} if self.masks else {}
        return {"detection": Objects(predictor, image_counts=self.image_counts), **masks}

    def judge(self, predictor, split, experiment, found=None, watch=None):
        # What unknown objects do at the threshold is told by the figures of objects.
        return super().judge(self.with_calibration(predictor, found), split, experiment, found, watch)

    def write(self, directory, predictor, split, experiment, figures, judged):
        """`oscr.png`, `precision_recall.png`, `mistakes.png`, `pictures/`, `classes.md` and `predictions.csv`."""
        files = super().write(directory, predictor, split, experiment, figures, judged)
        objects, names = Objects(predictor), dict(enumerate(predictor.class_names)) | NAMES
        with open(directory / "predictions.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["example", "x1", "y1", "x2", "y2", "class", "confidence", "score", "answer", "hits"])
            for number, record in enumerate(self.records(predictor, split, experiment)):
                objects.update(record)
                rows = zip(*(record.more[name] for name in ("boxes", "confidence", "score", "class_name")), strict=True)
                kinds = zip(record.predictions.tolist(), record.labels.tolist(), rows, strict=True)
                for k, label, (box, confidence, score, answer) in kinds:
                    # repr of a float32 as float64 is read back to the same score, so that thresholds decide alike.
                    numbers = [repr(float(value)) for value in (*box, confidence, score)]
                    row = [split.describe(number), *numbers[:4], names[k], *numbers[4:], answer, names[label]]
                    writer.writerow(row)
        title = f"{experiment.name}: IoU 0.5"
        plots.precision_recall(objects.scores.curves(), title).savefig(directory / "precision_recall.png")
        self.draw_mistakes(objects.scores, predictor, split, experiment).savefig(directory / "mistakes.png")
        folder = directory / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        indices = spaced(len(split), self.pictures)
        drawn = self.draw(predictor, split.subset(indices), experiment)
        for index, figure in zip(indices, drawn.values(), strict=True):
            figure.savefig(folder / f"{index:05d}.png")
        table = metrics.coco.class_table(figures["detection"]["coco"])
        (directory / "classes.md").write_text(table + "\n", encoding="utf-8")
        return [*files, "predictions.csv", "precision_recall.png", "mistakes.png", "pictures", "classes.md"]

    def draw(self, predictor, split, experiment):
        """Objects beside detections in each image of a split, by name."""
        figures = {}
        for number, (images, y) in enumerate(self.images(predictor, split, experiment)):
            answer = {name: value[0] for name, value in predictor.predict(images.numpy()).items()}
            title = f"{experiment.name}: {split.describe(number)}"
            truth = y["boxes"][0].numpy(), y["box_labels"][0].numpy()
            figure = plots.detections(images[0].numpy(), *truth, answer, predictor.class_names, title=title)
            figures[f"detection/{number}"] = figure
        return figures

    def draw_mistakes(self, scores, predictor, split, experiment, columns=8):
        """The surest mistakes among accepted detections of a split, by kind."""
        threshold, names, rows = predictor.reject.threshold.numpy(), predictor.class_names, {}
        for number, image in enumerate(scores.images):
            for i, kind in enumerate(mistakes(image)):
                if kind and image.scores[i] >= threshold:
                    rows.setdefault(kind, []).append((-image.confidences[i], number, i))
        shown = {kind: sorted(rows[kind])[:columns] for kind in MISTAKES if kind in rows}
        needed = sorted({number for own in shown.values() for _, number, _ in own})
        pixels = [images[0].numpy() for images, _ in self.images(predictor, split.subset(needed), experiment)]
        pixels, kinds = dict(zip(needed, pixels, strict=True)), {}
        for kind, own in shown.items():
            images = [(pixels[number], scores.images[number], i) for _, number, i in own]
            texts = [f"{names[image.predictions[i]]} {image.scores[i]:.1f}" for _, image, i in images]
            kinds[f"{kind}: {len(rows[kind]):,}"] = [
                (picture, image.boxes[i], text) for (picture, image, i), text in zip(images, texts, strict=True)
            ]
        return plots.mistakes(kinds, columns, f"{experiment.name}: the surest mistakes of accepted detections")

    def tables(self, figures):
        found = metrics.detection.tables(figures["detection"])
        if "masks" in figures:
            names = [name for name, value in figures["masks"].items() if name.startswith("ap") and value is not None]
            row = ["masks", *(metrics.tables.percent(figures["masks"][name]) for name in names)]
            found.append(metrics.align([["", *(name.replace("_", " ") for name in names)], row]))
        return found


class Objects:
    """Figures of objects: COCO's, and what unknown ones do."""

    def __init__(self, predictor, samples=300, image_counts=None):
        found = predictor.calibration
        threshold, most = None if found is None else found.threshold, predictor.spec.max_detections
        names = predictor.class_names
        self.scores = metrics.DetectionScores(names, threshold, most, samples, image_counts=image_counts)

    def update(self, record):
        found = (record.more[name] for name in ("objects", "object_labels", "areas", "object_classes", "unjudged"))
        confidences = record.more["confidence"]
        self.scores.update(record.more["boxes"], record.predictions, confidences, record.scores, *found)

    def result(self):
        return self.scores.result()
