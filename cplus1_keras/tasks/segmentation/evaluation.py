"""A trained model of an `Experiment` judged: figures of a split, the threshold with its evidence, pictures."""

import dataclasses
import itertools

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import metrics, plots
from cplus1_keras.data.segmentation import pipeline
from cplus1_keras.labels import UNKNOWN
from cplus1_keras.layers import Reject
from cplus1_keras.models import scaled
from cplus1_keras.serving import PixelSpec, Predictor
from cplus1_keras.tasks import report
from cplus1_keras.tasks.segmentation import calibration, judging, pictures


def answering(model, experiment, class_names, threshold=-np.inf, mirror=None):
    """What answers for the pixels of images: the trained model at the scale of its training, and a threshold.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        class_names: Names of the known classes.
        threshold: Accept where score >= threshold.
        mirror: `protocol.mirror()` for the flip test, or None.

    Returns:
        `serving.Predictor`.

    >>> experiment = configs.resolve("camvid")
    >>> answering(experiment.model(8), experiment, "abcdefgh").predict(np.zeros((1, 96, 128, 3)))["class_id"].shape
    (1, 96, 128)
    """
    reject = Reject(len(class_names), threshold, experiment.score)
    tile = tile_of(experiment)
    served = scaled(model, experiment.base, experiment.keep_ratio)
    return Predictor(served, reject, class_names, PixelSpec(tile=tile, mirror=mirror))


def tile_of(experiment):
    """The size of tiles that an experiment judges images in; None where they are scaled to a size that fits anyway.

    >>> tile_of(configs.resolve("camvid")) is None
    True
    """
    return experiment.largest if experiment.base is None else None


def judge_split(model, experiment, split, threshold=-np.inf, images=None):
    """All figures of a split.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        split: A `SegmentationSplit`.
        threshold: Accept where score >= threshold.
        images: How many images to take, from the first; None takes all.

    Returns:
        As `judging.judge`: plain values, with `experiment.flip_test` also `segmentation_with_flip`, and
        `metrics.PixelScores`.

    >>> figures, pixels = judge_split(model, experiment, splits.test)  # doctest: +SKIP
    >>> figures["segmentation"]["miou"]  # doctest: +SKIP
    """
    protocol, pairs = split.protocol, pipeline.evaluation(split).take(-1 if images is None else images)
    answers = answering(model, experiment, protocol.class_names, threshold)
    figures, pixels = judging.judge(answers, pairs, edge_width=experiment.edge_width)
    if experiment.flip_test:
        answers = answering(model, experiment, protocol.class_names, mirror=protocol.mirror())
        figures["segmentation_with_flip"] = judging.judge(answers, pairs)[0]["segmentation"]
    return figures, pixels


def calibrate(model, experiment, split):
    """The threshold of an experiment with its evidence: from background pixels, or without any from the knowns.

    Images count as independent, not pixels; crops of one image count as one image.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        split: A `SegmentationSplit` that neither trained nor chose anything.

    Returns:
        `calibration.Calibration`.

    Raises:
        ValueError: If there are too few images for the rate and the confidence.

    >>> print(calibrate(model, experiment, splits.calibration))  # doctest: +SKIP
    """
    answers = answering(model, experiment, split.protocol.class_names)
    pairs = _joined(split.source.groups, judging.scored(answers, pipeline.evaluation(split)))
    given = {"confidence": experiment.confidence, "score": experiment.score.__name__}
    if split.protocol.background:
        return calibration.threshold_at_pixel_fpr(pairs, experiment.fpr, **given)
    return calibration.threshold_at_pixel_coverage(pairs, experiment.coverage, **given)


def write_pictures(model, experiment, split, threshold, directory, number=8):
    """Pictures of some images of a split, and of the features of their pixels in two dimensions.

    Half of them are evenly spaced over the split, the others have the most unknown pixels of 64 evenly spaced ones.

    Args:
        model: What `build` returns, trained.
        experiment: An `Experiment`.
        split: A `SegmentationSplit`.
        threshold: Accept where score >= threshold.
        directory: Folder to write to, made if absent: `000.png` and so on, and `features.png`.
        number: How many images, at most.

    >>> write_pictures(model, experiment, splits.test, found.threshold, "pictures")  # doctest: +SKIP
    """
    directory.mkdir(parents=True, exist_ok=True)
    indices, names = _telling(split, number), split.protocol.class_names
    chosen = dataclasses.replace(split, source=split.source.subset(indices))
    answers = answering(model, experiment, names, threshold)
    features_of, cells = keras.Model(answers.model.input, answers.model.output["features"]), []
    for index, (image, labels) in zip(indices, pipeline.evaluation(chosen), strict=True):
        answer = {name: value[0] for name, value in answers.predict(image).items()}
        title, score = f"{experiment.name}: {split.source.names[index]}", experiment.score.__name__
        drawn = pictures.panels(image[0], labels[0], answer, names, threshold, score, title)
        drawn.savefig(directory / f"{index:05d}.png")
        features = features_of(image, training=False)
        labels = tf.image.resize(labels[..., None], features.shape[1:3], "nearest")
        cells.append((np.reshape(features, (-1, features.shape[-1])), np.ravel(labels)))
    features, labels = (np.concatenate(values) for values in zip(*cells, strict=True))
    title = f"{experiment.name}: features of pixels"
    pictures.pixel_features(features, labels, names, title=title).savefig(directory / "features.png")


def _telling(split, number):
    """Which images to look at, ascending."""
    some = spaced(split, 64)
    labels = dataclasses.replace(split, source=split.source.subset(some)).dataset().as_numpy_iterator()
    unknown = [np.count_nonzero(found == UNKNOWN) for _, found in labels]
    most = some[np.argsort(unknown, kind="stable")[len(some) - number // 2 :]]
    return np.union1d(most, spaced(split, number - len(most)))


def spaced(images, number):
    """Indices, ascending and at most this many, that are evenly spaced over something of a length.

    >>> spaced("abcdef", 3)
    array([0, 2, 5])
    """
    return np.unique(np.linspace(0, len(images) - 1, min(number, len(images))).astype(int))


def _joined(groups, pairs):
    """Labels and scores of each image, from those of its crops, which follow each other."""
    seen = set()
    for group, crops in itertools.groupby(zip(groups, pairs, strict=True), key=lambda item: item[0]):
        if group in seen:
            raise ValueError(f"Images of one group must follow each other in a source; those of {group!r} do not.")
        seen.add(group)
        labels, scored = zip(*((np.ravel(labels), np.ravel(scored)) for _, (labels, scored) in crops), strict=True)
        yield np.concatenate(labels), np.concatenate(scored)


def evaluate(model, experiment, parts, directory):
    """Calibrate a trained model and judge it on the test split; writes `classes.md`, `oscr.png` and `pictures/`.

    Args:
        model: What `build` returns, trained.
        experiment: An `Experiment`.
        parts: `SegmentationSplits`.
        directory: Directory of the run.

    Returns:
        Pair of the `calibration.Calibration` and the figures, plain values ready for JSON.

    Raises:
        ValueError: As `calibrate`.

    >>> found, figures = evaluate(model, experiment, splits, directory)  # doctest: +SKIP
    """
    found = calibrate(model, experiment, parts.calibration)
    figures, pixels = judge_split(model, experiment, parts.test, found.threshold)
    if figures["open_set"]:
        curves = {group: pixels.curve(group) for group in figures["open_set"]}
        plots.oscr(curves, title=f"{experiment.name}: OSCR over pixels of the test set").savefig(directory / "oscr.png")
    write_pictures(model, experiment, parts.test, found.threshold, directory / "pictures")
    table = metrics.segmentation.class_table({experiment.name: figures["segmentation"]})
    (directory / "classes.md").write_text(table + "\n", encoding="utf-8")
    return found, {**report.describe(experiment), **figures, "calibration": found.to_dict()}
