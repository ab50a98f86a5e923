"""Open-set classification of images: an `Experiment` says what to train; `run` trains, judges, calibrates, exports."""

import dataclasses
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import backbones, calibration, data, metrics, scores, serving
from cplus1_keras.callbacks import StopOnNaN
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.layers import Reject
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.models import OpenSetModel
from cplus1_keras.provenance import write_json
from cplus1_keras.tasks import report
from cplus1_keras.tasks.directory import CHECKPOINT, new_directory


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run depends on. What has weights or state is given as a factory, so that each run gets its own.

    Args:
        name: Names the run's directory.
        data: Function from a seed to `data.Splits`.
        backbone: Function of no argument that gives a `keras.Model` from images (pixels 0..255) to features.
        head: Function from the number of known classes to a head, or to any function from features to named outputs.
        loss: A loss of `cplus1_keras.losses`. Where it has no use for negatives, training leaves them out.
        optimizer: Function of no argument that gives a Keras optimizer.
        score: A score of `cplus1_keras.scores`; the run judges, calibrates and serves with it.
        epochs: Passes over the known training images.
        batch_size: Images in a global batch, over all replicas.
        augment: Function on batches of training images, or None.
        negative_fraction: Share of negatives in a training batch, by sampling; None takes them as they come.
        fpr: False positive rate that the threshold is calibrated for, in (0, 1).
        coverage: Share of knowns that the threshold accepts where the protocol has no negatives, in (0, 1).
        confidence: Confidence of the calibration, in (0, 1).
        seed: Of the weights, the splits and the order of images.

    >>> faster = dataclasses.replace(configs.resolve("digits"), epochs=3)
    """

    name: str
    data: Callable[[int], data.Splits]
    backbone: Callable[[], keras.Model]
    head: Callable[[int], Callable]
    loss: OpenSetLoss
    optimizer: Callable[[], keras.optimizers.Optimizer]
    score: Callable = scores.log_odds
    epochs: int = 30
    batch_size: int = 64
    augment: Callable | None = None
    negative_fraction: float | None = None
    fpr: float = 0.1
    coverage: float = 0.95
    confidence: float = 0.95
    seed: int = 0

    def run(self, workdir="runs"):
        """Train, judge, calibrate and export; see `run`."""
        return run(self, workdir)


def build(experiment, num_classes):
    """The compiled model of an experiment.

    Args:
        experiment: An `Experiment`.
        num_classes: Number of known classes.

    Returns:
        `OpenSetModel` from images to the head's outputs.

    >>> build(configs.resolve("digits"), num_classes=6).output["logits"].shape
    (None, 6)
    """
    backbone = experiment.backbone()
    model = OpenSetModel(backbone.input, experiment.head(num_classes)(backbone.output), name=experiment.name)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        backbones.synchronize_batch_norm(model)
    watched = [metrics.KnownAccuracy(num_classes)]
    if experiment.loss.needs_negatives:
        watched += [metrics.BinnedAUROC(num_classes, "negative"), metrics.BinnedOSCR(num_classes, "negative")]
    model.compile(experiment.optimizer(), experiment.loss, metrics={"logits": watched})
    return model


def training_images(model, experiment, splits):
    """The training batches of an experiment, without negatives where the loss has no use for them.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        splits: `data.Splits`.

    Returns:
        `tf.data.Dataset` of (images, labels).

    >>> model.fit(training_images(model, experiment, splits), epochs=3, shuffle=False)  # doctest: +SKIP
    """
    return data.training(
        splits.train,
        experiment.batch_size,
        augment=experiment.augment,
        negative_fraction=experiment.negative_fraction if experiment.loss.needs_negatives else 0,
        seed=experiment.seed,
        **_image_format(model),
    )


def judge(model, experiment, split, num_classes):
    """Predictions and scores of a model on a split.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`; its score and batch size are used.
        split: `data.Split`.
        num_classes: Number of known classes.

    Returns:
        Pair of arrays (N,) in the order of `split.labels`: the most likely known class, and the score in float32.

    >>> predictions, scores = judge(model, experiment, splits.test, splits.num_classes)  # doctest: +SKIP
    """
    answer = Reject(num_classes, threshold=-np.inf, score=experiment.score)(model.output)
    # Only these two: `predict` concatenates every output that a model has.
    judged = keras.Model(model.input, {"class_id": answer["class_id"], "score": answer["score"]})
    images = data.evaluation(split, experiment.batch_size, **_image_format(model))
    result = judged.predict(images.map(lambda image, label: image), verbose=0)
    return result["class_id"], result["score"]


def calibrate(experiment, labels, scores_):
    """The threshold of an experiment with its evidence: from the negatives, or without any from the knowns.

    Args:
        experiment: An `Experiment`.
        labels: Labels of the calibration split, (N,).
        scores_: Their scores, (N,).

    Returns:
        `calibration.Calibration`.

    Raises:
        ValueError: If there are too few negatives for the rate and the confidence.

    >>> calibrate(configs.resolve("digits"), np.full(100, -1), np.arange(100.0)).accepted
    4
    """
    name = experiment.score.__name__
    negative = is_negative(labels)
    if negative.any():
        return calibration.threshold_at_fpr(scores_[negative], experiment.fpr, experiment.confidence, score=name)
    known = scores_[is_known(labels)]
    return calibration.threshold_at_coverage(known, experiment.coverage, experiment.confidence, score=name)


def run(experiment, workdir="runs"):
    """Train, judge, calibrate and export. Prints what a person wants to know; everything else is in the directory.

    Args:
        experiment: An `Experiment`.
        workdir: Folder of runs; the run gets a directory of its own there and never overwrites another.

    Returns:
        Path of the run's directory.

    Raises:
        ValueError: If the loss needs negatives and the protocol has none, or the calibration lacks negatives.
        FloatingPointError: If the loss becomes NaN.

    >>> directory = run(configs.resolve("digits"))  # doctest: +SKIP
    """
    start = time.monotonic()
    keras.utils.set_random_seed(experiment.seed)
    splits = experiment.data(experiment.seed)
    _check_negatives(experiment, splits)
    directory = new_directory(workdir, experiment.name)
    write_json(directory / "config.json", report.describe(experiment))
    print(f"{experiment.name}, to {directory}\n{splits.summary()}\n", flush=True)
    with strategy().scope():
        model = build(experiment, splits.num_classes)
    fit(model, experiment, splits, directory)
    found, figures = evaluate(model, experiment, splits, directory)
    figures["seconds"] = round(time.monotonic() - start, 1)
    write_json(directory / "metrics.json", figures)
    reject = Reject(splits.num_classes, found.threshold, experiment.score)
    serving.save(directory, serving.Predictor(model, reject, splits.class_names, calibration=found))
    (directory / CHECKPOINT).unlink()  # `model.keras` takes its place
    images, _ = next(iter(data.evaluation(splits.test, experiment.batch_size, **_image_format(model))))
    saved_model = serving.next_version(directory)
    serving.load(directory).export(saved_model, samples=images.numpy())
    print("\n" + report.epilogue(figures, found, directory, saved_model))
    return directory


def evaluate(model, experiment, splits, directory):
    """Calibrate a trained model and judge it on the test split; writes predictions and pictures to a directory.

    Args:
        model: A trained `OpenSetModel`.
        experiment: An `Experiment`.
        splits: `data.Splits`.
        directory: Directory of the run.

    Returns:
        Pair of the `calibration.Calibration` and the figures, plain values ready for JSON.

    Raises:
        ValueError: As `calibrate`.

    >>> found, figures = evaluate(model, experiment, splits, directory)  # doctest: +SKIP
    """
    _, scores_ = judge(model, experiment, splits.calibration, splits.num_classes)
    found = calibrate(experiment, splits.calibration.labels, scores_)
    predictions, scores_ = judge(model, experiment, splits.test, splits.num_classes)
    names = splits.class_names
    report.write_predictions(directory / "predictions.csv", splits.test, predictions, scores_, found.threshold, names)
    report.write_figures(directory, experiment.name, splits.test, predictions, scores_, found, names)
    figures = report.figures(splits.test.labels, predictions, scores_, found.threshold)
    return found, {**report.describe(experiment), **figures, "calibration": found.to_dict()}


def strategy():
    """`MirroredStrategy` over all GPUs if there are several, else TensorFlow's default strategy.

    >>> strategy().num_replicas_in_sync
    1
    """
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def per_replica(batch_size, strategy):
    """How many images of a batch each replica gets.

    Args:
        batch_size: Images in a global batch.
        strategy: A `tf.distribute.Strategy`.

    Returns:
        int.

    Raises:
        ValueError: If they cannot all get as many: one without an image fails in its layers.

    >>> per_replica(16, strategy())
    16
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the {replicas} replicas (GPUs) that share a batch. "
            f"Received: batch_size={batch_size}"
        )
    return batch_size // replicas


def fit(model, experiment, splits, directory):
    """Train a compiled model on the splits of an experiment.

    Writes a checkpoint, `last_good.keras`, and TensorBoard logs to a directory.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        splits: `data.Splits`.
        directory: Directory of the run.

    Returns:
        Keras's `History`.

    Raises:
        FloatingPointError: If the loss becomes NaN; the last good checkpoint stays.

    >>> history = fit(model, experiment, splits, directory)  # doctest: +SKIP
    """
    checkpoint = directory / CHECKPOINT
    watchers = [
        StopOnNaN(checkpoint),
        keras.callbacks.ModelCheckpoint(checkpoint),
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
    ]
    images = training_images(model, experiment, splits)
    replicas = experiment.batch_size // per_replica(experiment.batch_size, model.distribute_strategy)
    watched = _divisible(splits.validation, replicas)
    validation = data.evaluation(watched, experiment.batch_size, **_image_format(model))
    # The data set shuffles by itself, in an order that the seed and the epoch decide.
    return model.fit(images, validation_data=validation, epochs=experiment.epochs, callbacks=watchers, shuffle=False)


def _image_format(model):
    """What `data` must make of an image for this model."""
    height, width, channels = model.input_shape[1:]
    return {"image_size": (height, width), "channels": channels}


def _divisible(split, replicas):
    """The split without its last images, fewer than `replicas`: a replica without an image fails in its layers."""
    count = len(split) - len(split) % replicas
    return dataclasses.replace(split, source=split.source.subset(np.arange(count)), labels=split.labels[:count])


def _check_negatives(experiment, splits):
    if experiment.loss.needs_negatives and not is_negative(splits.train.labels).any():
        terms = [loss.name for _, loss in experiment.loss.terms() if loss.needs_negatives]
        raise ValueError(
            f"The loss {terms} learns from negatives, and the training split has none. Name negative classes in the "
            f"protocol {splits.protocol.name!r}, or take a loss without them, like CrossEntropyLoss()."
        )
