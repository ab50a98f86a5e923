"""Semantic segmentation and human parsing: a label for each pixel."""

import dataclasses
import types
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import data, metrics, models, plots, serving
from cplus1_keras.labels import UNKNOWN
from cplus1_keras.layers.resizing import size_pair
from cplus1_keras.tasks.batches import order
from cplus1_keras.tasks.records import Record
from cplus1_keras.tasks.task import Task
from cplus1_keras.tasks.watching import Told, spaced

SMALLEST_CROP = 32


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """Images of any size, each pixel of a known class, background, or of none.

    Args:
        crop_size: Pixels of a training image, int or (height, width).
        base: None, or the size (long, short) within which images are scaled before they are judged, and before the
            random scale in training; answers are scaled back to the image's own size.
        keep_ratio: False stretches images to `base`, then (height, width).
        scales: Smallest and largest random scale in training.
        class_weights: Function from the pixels of each class in training, (C + 1,), to their weights, or None.
        flip_test: Whether to judge also the mean over each image and its mirror image.
        test_scales: Factors of each image's sides over which that mean goes, too. A model that scales images to `base`
            by itself sees no difference, so they want none.
        edge_width: Pixels beside an edge between labels that a second set of open-set figures leaves out, or None.
        largest: Largest side in pixels of an image that the exported model takes, and of a tile in judging.

    Raises:
        ValueError: For crops below 32 pixels, stretching without a size, or several scales with one.

    >>> Segmentation(crop_size=(192, 256), base=(256, 192)).scales
    (0.5, 2.0)
    """

    crop_size: int | tuple = 512
    base: tuple | None = None
    keep_ratio: bool = True
    scales: tuple = (0.5, 2.0)
    class_weights: Callable | None = None
    flip_test: bool = False
    test_scales: tuple = (1.0,)
    edge_width: int | None = 3
    largest: int = 2048

    scores = metrics.BinnedScores
    kind = "mask"
    unit = "pixel"
    headline = types.MappingProxyType({"mIoU": "logits_mean_iou", "AUROC": "val_auroc_negative"})

    def __post_init__(self):
        if min(size_pair(self.crop_size)) < SMALLEST_CROP:
            raise ValueError(
                f"`crop_size` must be at least {SMALLEST_CROP} pixels a side, one cell of the coarsest map of a ResNet "
                f"or HRNet. Received: crop_size={self.crop_size}"
            )
        if self.base is not None and tuple(self.test_scales) != (1.0,):
            raise ValueError(
                "`base` scales every image to one size, which undoes `test_scales`: give one of them. Received: "
                f"base={self.base}, test_scales={self.test_scales}"
            )
        if self.base is None and not self.keep_ratio:
            raise ValueError("`keep_ratio=False` stretches images to `base`. Received: base=None")

    def check(self, experiment, splits):
        """Reads all images that calibrate, watch or judge, too."""
        self.check_files((splits.calibration, splits.validation, splits.test))
        super().check(experiment, splits)

    def metrics(self, model, experiment, num_classes):
        background = model.output["logits"].shape[-1] > num_classes
        return {"logits": [metrics.KnownMeanIoU(num_classes, background)]}

    def watched(self, experiment, splits):
        return "val_mean_iou"

    def training(self, model, split, experiment, first_step=0):
        mirror = split.mirror
        change = data.augment.standard(
            self.crop_size, self.scales, mirror=mirror, base=self.base, keep_ratio=self.keep_ratio
        )
        weights = None if self.class_weights is None else self.class_weights(data.pixel_counts(split))
        return data.training(
            split,
            experiment.batch_size,
            channels=model.input_shape[-1],
            augment=change,
            class_weights=weights,
            **order(experiment, first_step),
        )

    def validation(self, model, split, experiment):
        return None

    def watched_figures(self, predictor):
        return Told(MeanIoU(predictor), lambda found: {"mean_iou": found["miou"]})

    def predictor(self, model, score, splits):
        return super().predictor(models.scale(model, self.base, self.keep_ratio), score, splits)

    def spec(self):
        return serving.PixelSpec(max_size=self.largest, tile=self.largest if self.base is None else None)

    def samples(self, predictor, split, experiment):
        return super().samples(predictor, split, experiment)[:, : self.largest, : self.largest]

    def records(self, predictor, split, experiment):
        answers = self.answers(predictor, split, experiment)
        for group, (labels, answer) in zip(split.groups, answers, strict=True):
            yield Record(labels, answer["known_argmax"], answer["score"], group, answer)

    def values(self, split):
        masks = split.source.stream().map(lambda record: split.source.decode(record)["mask"])
        return masks.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()

    def figures(self, predictor, split):
        figures = {"segmentation": MeanIoU(predictor)}
        if self.edge_width is not None:
            figures["open_set_without_edges"] = WithoutEdges(self.edge_width)
        return figures

    def judge(self, predictor, split, experiment, found=None, watch=None):
        figures, scores = super().judge(predictor, split, experiment, found, watch)
        mirror = split.mirror if self.flip_test else None
        spec = dataclasses.replace(predictor.spec, mirror=mirror, scales=self.test_scales)
        if spec != predictor.spec:
            averaging = serving.Predictor(predictor.model, predictor.reject, predictor.class_names, spec)
            matrix = MeanIoU(averaging)
            for record in self.records(averaging, split, experiment):
                matrix.update(record)
            figures["segmentation_averaged"] = matrix.result()
        return figures, scores

    def write(self, directory, predictor, split, experiment, figures, judged, number=8):
        """`oscr.png`, `classes.md`, and in `pictures/` some images and the features of their pixels in two dimensions.

        Half of the images are evenly spaced over the split, the others have the most unknown pixels of 64.
        """
        files = super().write(directory, predictor, split, experiment, figures, judged)
        folder = directory / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        indices = telling(split, number)
        chosen = split.subset(indices)
        for index, figure in zip(indices, self.draw(predictor, chosen, experiment).values(), strict=True):
            figure.savefig(folder / f"{index:05d}.png")
        self.draw_features(predictor, chosen, experiment).savefig(folder / "features.png")
        table = metrics.segmentation.class_table({experiment.name: figures["segmentation"]})
        (directory / "classes.md").write_text(table + "\n", encoding="utf-8")
        return [*files, "pictures", "classes.md"]

    def draw(self, predictor, split, experiment):
        """Input, truth, prediction and the map of the unknown of each image of a split, by name."""
        found, figures = predictor.calibration, {}
        for number, (images, labels) in enumerate(self.images(predictor, split, experiment)):
            answer = {name: value[0] for name, value in predictor.predict(images.numpy()).items()}
            threshold = None if found is None else found.threshold
            title, score = f"{experiment.name}: {split.describe(number)}", experiment.score.__name__
            figures[f"segmentation/{number}"] = plots.panels(
                images[0].numpy(), labels[0].numpy(), answer, predictor.class_names, threshold, score, title
            )
        return figures

    def draw_features(self, predictor, split, experiment):
        """The features of the pixels of all images of a split in two dimensions."""
        model, cells = keras.Model(predictor.model.input, predictor.model.output["features"]), []
        for images, labels in self.images(predictor, split, experiment):
            features = model(images, training=False)
            labels = tf.image.resize(labels[..., None], features.shape[1:3], "nearest")
            cells.append((np.reshape(features, (-1, features.shape[-1])), np.ravel(labels)))
        features, labels = (np.concatenate(values) for values in zip(*cells, strict=True))
        return plots.pixel_features(features, labels, predictor.class_names, title=f"{experiment.name}: pixels")

    def tables(self, figures):
        rows = {"as it is": figures["segmentation"]}
        if "segmentation_averaged" in figures:
            rows["averaged"] = figures["segmentation_averaged"]
        return [metrics.segmentation.iou_table(rows)]


class MeanIoU:
    """mIoU, mAcc and aAcc of records, the background a class where the model has a logit for it."""

    def __init__(self, predictor):
        background = predictor.model.output["logits"].shape[-1] > len(predictor.class_names)
        self.matrix, self.names = metrics.ConfusionMatrix(len(predictor.class_names), background), predictor.class_names

    def update(self, record):
        self.matrix.update(record.labels, record.more["argmax"])

    def result(self):
        return self.matrix.summary(self.names)


class WithoutEdges:
    """Open-set figures of records without the pixels beside an edge between labels."""

    def __init__(self, width):
        self.width, self.scores = width, metrics.BinnedScores()

    def update(self, record):
        self.scores.update(metrics.ignore_edges(record.labels, self.width), record.predictions, record.scores)

    def result(self):
        return {"edge_width": self.width, **self.scores.summary()}


def telling(split, number):
    """Indices, ascending, of images to look at: half evenly spaced, half with the most unknown pixels of 64."""
    some = spaced(len(split), 64)
    examples = split.subset(some).dataset().as_numpy_iterator()
    unknown = [np.count_nonzero(example["labels"] == UNKNOWN) for example in examples]
    most = some[np.argsort(unknown, kind="stable")[len(some) - number // 2 :]]
    return np.union1d(most, spaced(len(split), number - len(most)))
