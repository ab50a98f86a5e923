"""The figures of a split, and its scores, one image at a time."""

import numpy as np
from keras import ops

from cplus1_keras.metrics import ConfusionMatrix, PixelScores, without_edges


def judge(segmenter, images, fprs=(0.01, 0.05, 0.1, 0.3), edge_width=None):
    """All figures of a split, in one pass and constant memory: whatever the number of images, one is held at a time.

    mIoU, mAcc and aAcc take the argmax over all logits, with the background as a class where the model has a logit for
    it (Tables 1 to 9 of the C+1 paper). The open-set figures look at the knowns and the score.

    Args:
        segmenter: A `serving.Segmenter`.
        images: Iterable of (images (N, H, W, channels), labels (N, H, W)), for example
            `data.segmentation.pipeline.evaluation(splits.test)`.
        fprs: False positive rates at which to state the CCR.
        edge_width: None, or pixels: the open-set figures are then given a second time, without the pixels at most so
            far from an edge between labels, as `metrics.without_edges` says.

    Returns:
        Plain values, ready for JSON: `images`; `segmentation`, as `metrics.ConfusionMatrix.summary`; `open_set`, as
        `metrics.PixelScores.summary`, for the groups that occur; `at_threshold`, where the threshold is finite, as
        `metrics.PixelScores.at_threshold`; with `edge_width` also that and
        `open_set_without_edges`.

    Raises:
        ValueError: For labels of another size than the images, NaN scores.

    Example:

    >>> figures = judge(segmenter, pipeline.evaluation(splits.test))  # doctest: +SKIP
    >>> print(metrics.segmentation.table({"C+1": figures["segmentation"]}))  # doctest: +SKIP
    """
    threshold = float(ops.convert_to_numpy(segmenter.reject.threshold))
    threshold = threshold if np.isfinite(threshold) else None
    confusion = ConfusionMatrix(segmenter.num_classes, segmenter.background)
    pixels, inner, number = PixelScores(threshold), PixelScores(), 0
    for batch, labels in images:
        labels, answer = _labels(labels, batch), segmenter.predict(batch)
        confusion.update(labels, answer["argmax"])
        pixels.update(labels, answer["known_argmax"], answer["score"])
        if edge_width is not None:
            inner.update(without_edges(labels, edge_width), answer["known_argmax"], answer["score"])
        number += len(labels)
    figures = {
        "images": number,
        "segmentation": confusion.summary(segmenter.class_names),
        "open_set": _present(pixels, fprs),
    }
    if threshold is not None:
        figures["at_threshold"] = pixels.at_threshold()
    if edge_width is not None:
        figures["edge_width"], figures["open_set_without_edges"] = edge_width, _present(inner, fprs)
    return figures


def scored(segmenter, images):
    """Labels and scores image by image, for `calibration.threshold_at_pixel_fpr`.

    Args:
        segmenter: A `serving.Segmenter`.
        images: As for `judge`.

    Yields:
        Pairs of arrays (H, W): labels, scores.

    Example:

    >>> held_out = pipeline.evaluation(splits.calibration)  # doctest: +SKIP
    >>> found = threshold_at_pixel_fpr(scored(segmenter, held_out), 0.1)  # doctest: +SKIP
    """
    for batch, labels in images:
        yield from zip(_labels(labels, batch), segmenter.predict(batch)["score"], strict=True)


def _labels(labels, images):
    labels = np.asarray(labels)
    if labels.shape != tuple(images.shape[:3]):
        raise ValueError(
            "Labels must have the size of their images. Received: labels of shape "
            f"{labels.shape}, images of shape {tuple(images.shape)}"
        )
    return labels


def _present(pixels, fprs):
    return {group: figures for group, figures in pixels.summary(fprs).items() if figures["members"]}
