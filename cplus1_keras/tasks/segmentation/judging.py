"""The figures of a split, and its scores, one image at a time."""

import numpy as np
from keras import ops

from cplus1_keras.metrics import ConfusionMatrix, PixelScores, without_edges


def judge(segmenter, images, fprs=(0.01, 0.05, 0.1, 0.3), edge_width=None):
    """All figures of a split, in one pass and constant memory: whatever the number of images, one is held at a time.

    mIoU, mAcc and aAcc take the argmax over all logits, with the background as a class where the model has a logit for
    it (Tables 1 to 9 of the C+1 paper). The open-set figures look at the knowns and the score.

    Args:
        segmenter: A `serving.Predictor`.
        images: Iterable of (images (N, H, W, channels), labels (N, H, W)), for example
            `data.segmentation.pipeline.evaluation(splits.test)`.
        fprs: False positive rates at which to state the CCR.
        edge_width: None, or pixels: the open-set figures are then given a second time, without the pixels at most so
            far from an edge between labels, as `metrics.without_edges` says.

    Returns:
        Plain values, ready for JSON: `images`; `segmentation`, as `metrics.ConfusionMatrix.summary`; `open_set`, as
        `metrics.PixelScores.summary`, for the groups that occur; `at_threshold`, where the threshold is finite, as
        `metrics.PixelScores.at_threshold`; with `edge_width` also that and
        `open_set_without_edges`. And beside them the `metrics.PixelScores` that they are from.

    Raises:
        ValueError: For labels of another size than the images, NaN scores.

    Example:

    >>> figures, pixels = judge(segmenter, pipeline.evaluation(splits.test))  # doctest: +SKIP
    >>> print(metrics.segmentation.table({"C+1": figures["segmentation"]}))  # doctest: +SKIP
    """
    threshold = float(ops.convert_to_numpy(segmenter.reject.threshold))
    threshold = threshold if np.isfinite(threshold) else None
    confusion = ConfusionMatrix(segmenter.num_classes, segmenter.background)
    pixels, inner, number = PixelScores(threshold), PixelScores(), 0
    for labels, answer in _answered(segmenter, images):
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
    return figures, pixels


def scored(segmenter, images):
    """Labels and scores image by image, for `calibration.threshold_at_pixel_fpr`.

    Args:
        segmenter: A `serving.Predictor`.
        images: As for `judge`.

    Yields:
        Pairs of arrays (H, W): labels, scores.

    Example:

    >>> held_out = pipeline.evaluation(splits.calibration)  # doctest: +SKIP
    >>> found = threshold_at_pixel_fpr(scored(segmenter, held_out), 0.1)  # doctest: +SKIP
    """
    for labels, answer in _answered(segmenter, images):
        yield from zip(labels, answer["score"], strict=True)


def _answered(segmenter, images):
    for number, (batch, labels) in enumerate(images):
        labels = np.asarray(labels)
        if labels.shape != tuple(batch.shape[:3]):
            raise ValueError(
                "Labels must have the size of their images. Received: labels of shape "
                f"{labels.shape}, images of shape {tuple(batch.shape)}"
            )
        answer = segmenter.predict(batch)
        if not answer["valid"].all():
            wrong = np.count_nonzero(~answer["valid"])
            raise ValueError(
                f"{wrong:,} of {labels.size:,} pixels in batch {number} have no score: the image has NaN or infinite "
                "pixels, or the model gives NaN."
            )
        yield labels, answer


def _present(pixels, fprs):
    return {group: figures for group, figures in pixels.summary(fprs).items() if figures["members"]}
