"""Open-set segmentation: an `Experiment` says what to train; `run` trains, judges, calibrates, exports."""

import dataclasses
import math
import time
from collections.abc import Callable

import keras

from cplus1_keras import backbones, metrics, scores, serving
from cplus1_keras.callbacks import StopOnNaN
from cplus1_keras.data.preprocessing import size_pair
from cplus1_keras.data.segmentation import augment, pipeline, splits, weights
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.layers import Reject
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.models import OpenSetModel, scaled
from cplus1_keras.optimizers import poly
from cplus1_keras.provenance import write_json
from cplus1_keras.tasks import report
from cplus1_keras.tasks.classification import per_replica, strategy
from cplus1_keras.tasks.directory import CHECKPOINT, new_directory
from cplus1_keras.tasks.segmentation import calibration, pictures, reporting
from cplus1_keras.tasks.segmentation.evaluation import answering, evaluate, spaced, tile_of
from cplus1_keras.tasks.segmentation.gradients import TermGradients
from cplus1_keras.tasks.segmentation.validation import Validation

SMALLEST_CROP = 32


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run depends on. What has weights or state is given as a factory, so that each run gets its own.

    Args:
        name: Names the run's directory.
        data: Function from a seed to `SegmentationSplits`.
        model: Function from the number of known classes to a model of `tasks.segmentation`, not compiled.
        loss: A loss of `cplus1_keras.losses`.
        optimizer: Function from a learning rate, a schedule, to a Keras optimizer.
        learning_rate: The first one; in all steps it falls by `poly` to 1e-4, or stays if it is not above that.
        steps: Training batches. Papers count these, not epochs.
        batch_size: Images in a global batch, over all replicas.
        crop_size: Pixels of a training image, int or (height, width).
        base: None, or the size (long, short) within which images are scaled before they are judged, and before the
            random scale in training; answers are scaled back to the image's own size.
        keep_ratio: False stretches images to `base`, then (height, width).
        scales: Smallest and largest random scale in training.
        class_weights: Function from the pixels of each class in training, (C + 1,), to their weights, or None.
        flip_test: Whether to judge also the mean over each image and its mirror image.
        score: A score of `cplus1_keras.scores`; the run judges, calibrates and serves with it.
        interval: Steps from one checkpoint and line of the log to the next, about: the divisor of `steps` next to it.
        fpr: False positive rate on background pixels that the threshold is calibrated for, in (0, 1).
        coverage: Share of known pixels that the threshold accepts where the protocol has no background, in (0, 1).
        confidence: Confidence of the calibration, in (0, 1).
        edge_width: Pixels beside an edge between labels that a second set of open-set figures leaves out, or None.
        largest: Largest side in pixels of an image that the exported model takes, and of a tile in judging.
        seed: Of the weights, the splits, and the order and augmentation of images.

    Raises:
        ValueError: For no step or image, a learning rate that is not above 0, crops below 32 pixels, or a number of
            steps without a divisor near `interval`, or stretching without a size.

    >>> faster = dataclasses.replace(configs.resolve("camvid"), steps=100)
    """

    name: str
    data: Callable[[int], splits.SegmentationSplits]
    model: Callable[[int], OpenSetModel]
    loss: OpenSetLoss
    optimizer: Callable[..., keras.optimizers.Optimizer]
    learning_rate: float = 0.01
    steps: int = 20_000
    batch_size: int = 16
    crop_size: int | tuple = 512
    base: tuple | None = None
    keep_ratio: bool = True
    scales: tuple = (0.5, 2.0)
    class_weights: Callable | None = None
    flip_test: bool = False
    score: Callable = scores.log_odds
    interval: int = 1000
    fpr: float = 0.1
    coverage: float = 0.95
    confidence: float = 0.95
    edge_width: int | None = 3
    largest: int = 2048
    seed: int = 0

    def __post_init__(self):
        for field in ("steps", "batch_size", "interval", "learning_rate"):
            if not getattr(self, field) > 0:
                raise ValueError(f"`{field}` must be above 0. Received: {field}={getattr(self, field)}")
        if min(size_pair(self.crop_size)) < SMALLEST_CROP:
            raise ValueError(
                f"`crop_size` must be at least {SMALLEST_CROP} pixels a side, one cell of the coarsest map of a ResNet "
                f"or HRNet. Received: crop_size={self.crop_size}"
            )

        if self.base is None and not self.keep_ratio:
            raise ValueError("`keep_ratio=False` stretches images to `base`. Received: base=None")
        _epochs(self.steps, self.interval)

    def run(self, workdir="runs"):
        """Train, judge, calibrate and export; see `run`."""
        return run(self, workdir)


def build(experiment, num_classes):
    """The compiled model of an experiment.

    Args:
        experiment: An `Experiment`.
        num_classes: Number of known classes.

    Returns:
        `OpenSetModel` from images to outputs for each pixel.

    >>> build(configs.resolve("camvid"), num_classes=8).output["logits"].shape
    (None, None, None, 9)
    """
    model = experiment.model(num_classes)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        backbones.synchronize_batch_norm(model)
    background = model.output["logits"].shape[-1] > num_classes
    rate = poly(experiment.learning_rate, experiment.steps)
    watched = [metrics.KnownMeanIoU(num_classes, background)]
    model.compile(experiment.optimizer(rate), experiment.loss, metrics={"logits": watched})
    return model


def training_images(experiment, parts):
    """The training batches of an experiment, without end.

    Args:
        experiment: An `Experiment`.
        parts: `SegmentationSplits`.

    Returns:
        `tf.data.Dataset` of (images, labels), or (images, labels, weights) where classes weigh differently.

    >>> images, labels = next(iter(training_images(experiment, experiment.data(0))))  # doctest: +SKIP
    """
    by_class = None
    if experiment.class_weights is not None:
        by_class = experiment.class_weights(weights.pixel_counts(parts.train))
    mirror = parts.protocol.mirror()
    scale = {"base": experiment.base, "keep_ratio": experiment.keep_ratio}
    change = augment.standard(experiment.crop_size, experiment.scales, mirror=mirror, **scale)
    return pipeline.training(
        parts.train, experiment.batch_size, experiment.crop_size, change, by_class, experiment.seed
    )


def fit(model, experiment, parts, directory, verbose="auto"):
    """Train a compiled model, with a checkpoint, `last_good.keras`, and TensorBoard logs in a directory.

    What Keras calls an epoch is about `experiment.interval` steps, a divisor of all. The log shows each term of the
    loss and, as `gradient_ratio/<term>`, how much it pulls beside the first; see `TermGradients`. A validation split is
    judged after each epoch as the test will be; see `Validation`.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        parts: `SegmentationSplits`.
        directory: Directory of the run.
        verbose: As for Keras's `fit`.

    Returns:
        Keras's `History`.

    Raises:
        FloatingPointError: If the loss becomes NaN; the last good checkpoint stays.
        ValueError: If the batch cannot be shared equally by the replicas.

    >>> history = fit(model, experiment, parts, directory)  # doctest: +SKIP
    """
    batches = training_images(experiment, parts)
    share = per_replica(experiment.batch_size, model.distribute_strategy)
    first = [tensor[:share] for tensor in next(iter(batches))]
    checkpoint = directory / CHECKPOINT
    segmenter = answering(model, experiment, parts.class_names)
    shown = parts.validation if len(parts.validation) else parts.train
    shown = dataclasses.replace(shown, source=shown.source.subset(spaced(shown, 4)))
    watchers = [
        StopOnNaN(checkpoint),
        keras.callbacks.ModelCheckpoint(checkpoint),
        TermGradients(*first),
        *([Validation(segmenter, pipeline.evaluation(parts.validation))] if len(parts.validation) else []),
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
        pictures.SegmentationPictures(
            segmenter, pipeline.evaluation(shown), parts.class_names, directory / "logs" / "pictures"
        ),
    ]
    epochs = _epochs(experiment.steps, experiment.interval)
    return model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=experiment.steps // epochs,
        callbacks=watchers,
        verbose=verbose,
        shuffle=False,  # the data set shuffles by itself, in an order that the seed and the step decide
    )


def run(experiment, workdir="runs"):
    """Train, judge, calibrate and export. Prints what a person wants to know; everything else is in the directory.

    Args:
        experiment: An `Experiment`.
        workdir: Folder of runs; the run gets a directory of its own there and never overwrites another.

    Returns:
        Path of the run's directory.

    Raises:
        ValueError: If the loss needs background and the protocol has none, or there are too few calibration images.
        FloatingPointError: If the loss becomes NaN.

    >>> directory = run(configs.resolve("camvid"))  # doctest: +SKIP
    """
    start = time.monotonic()
    keras.utils.set_random_seed(experiment.seed)
    parts = experiment.data(experiment.seed)
    print(f"{experiment.name}\n{parts.summary()}\nReads what will judge it, to see that all is there.", flush=True)
    _check(experiment, parts)
    directory = new_directory(workdir, experiment.name)
    print(f"Writes to {directory}\n", flush=True)
    write_json(directory / "config.json", report.describe(experiment))
    with strategy().scope():
        model = build(experiment, parts.num_classes)
    fit(model, experiment, parts, directory)
    found, figures = evaluate(model, experiment, parts, directory)
    figures["seconds"] = round(time.monotonic() - start, 1)
    write_json(directory / "metrics.json", figures)
    served = scaled(model, experiment.base, experiment.keep_ratio)
    tile, largest = tile_of(experiment), experiment.largest
    reject, spec = Reject(parts.num_classes, found.threshold, experiment.score), serving.PixelSpec(largest, tile)
    serving.save(directory, serving.Predictor(served, reject, parts.class_names, spec, found))
    (directory / CHECKPOINT).unlink()  # `model.keras` takes its place
    image, _ = next(iter(pipeline.evaluation(parts.test)))
    sample = image[:, :largest, :largest].numpy()
    saved_model = serving.next_version(directory)
    serving.load(directory).export(saved_model, samples=sample)
    print("\n" + reporting.epilogue(figures, found, directory, saved_model))
    return directory


def _epochs(steps, interval):
    """The divisor of `steps` that makes epochs of about `interval` steps."""
    divisors = [epochs for epochs in range(1, steps + 1) if steps % epochs == 0]
    best = min(divisors, key=lambda epochs: abs(math.log(steps / epochs / interval)))
    if steps / best > 4 * interval or (best > 1 and steps / best < interval / 4):
        raise ValueError(
            f"`steps` must be a multiple of a number near `interval`, {interval}, so that epochs are equal. Received: "
            f"steps={steps}. Take {interval * max(1, round(steps / interval))}."
        )
    return best


def _check(experiment, parts):
    """What a run would otherwise find out after hours of training: it reads all images that judge the model, too."""
    if experiment.loss.needs_negatives and not parts.protocol.has_background:
        terms = [loss.name for _, loss in experiment.loss.terms() if loss.needs_negatives]
        raise ValueError(
            f"The loss {terms} learns from background pixels, and the protocol {parts.protocol.name!r} has none. Name "
            "mask values in its `background`, turn a class into it by `protocol.with_background(name)`, or take a loss "
            "without background, like CrossEntropyLoss()."
        )
    kind, is_kind, rate = "known", is_known, 1 - experiment.coverage
    if parts.protocol.background:
        kind, is_kind, rate = "background", is_negative, experiment.fpr
    needed, there = calibration.images_needed(rate, experiment.confidence), _images_with(is_kind, parts.calibration)
    if there < needed:
        raise ValueError(
            f"A threshold at a rate of {rate:g} and {experiment.confidence:.0%} confidence needs at least {needed:,} "
            f"calibration images with {kind} pixels; the split has {there:,}. Give it more (`calibration_fraction` of "
            "`split`), or ask for a larger `fpr` or a smaller `coverage`."
        )
    for split in (parts.validation, parts.test):
        for _ in split.dataset():
            pass


def _images_with(is_kind, split):
    """How many images have pixels of a kind; crops of one count once."""
    labels = (labels for _, labels in split.dataset().as_numpy_iterator())
    return len({group for group, found in zip(split.source.groups, labels, strict=True) if is_kind(found).any()})
