"""Figures of segmentation: mIoU, mAcc and aAcc from one matrix of counts, over images of any size."""

import keras
import numpy as np
from keras import ops
from scipy.ndimage import maximum_filter, minimum_filter

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics.counting import average
from cplus1_keras.metrics.streaming import argmax, flatten
from cplus1_keras.metrics.tables import align, check_names, percent


class ConfusionMatrix:
    """Counts of pixels by true and predicted class, in one pass and constant memory.

        IoU_k = M_kk / (sum_j M_kj + sum_j M_jk - M_kk)     Acc_k = M_kk / sum_j M_kj     aAcc = sum_k M_kk / sum M

    M_kj counts pixels of class k that were taken for class j. mIoU and mAcc are means over the classes for which they
    exist: IoU for a class that occurs in truth or prediction, Acc for one that occurs in truth. `IGNORE` and
    `UNKNOWN` pixels count for nothing, and without a background nor do `NEGATIVE` ones.

    Args:
        num_classes: C, the number of known classes.
        background: Whether the background is a class, index C, as in all tables of the C+1 paper.

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update([[0, 1], [-1, -100]], [[0, 0], [2, 1]])
    >>> confusion.summary()["miou"]
    0.5

    Reference: Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015, section 4.
    """

    def __init__(self, num_classes, background=True):
        self.num_classes, self.background = num_classes, background
        self.matrix = np.zeros((num_classes + bool(background),) * 2, "int64")
        self.left_out = dict.fromkeys(("negative", "unknown", "ignored"), 0)

    def update(self, labels, predictions):
        """Count some pixels: labels (...), and predictions (...), the argmax over the logits, background included."""
        given = {"labels": np.asarray(labels), "predictions": np.asarray(predictions)}
        (labels, predictions), size = given.values(), len(self.matrix)
        if labels.shape != predictions.shape or {labels.dtype.kind, predictions.dtype.kind} - set("iu"):
            came = (f"{name} of shape {a.shape}, {a.dtype}" for name, a in given.items())
            raise ValueError(f"Labels and predictions must be integers of one shape. Received: {'; '.join(came)}")
        outside = (labels >= self.num_classes) | ((labels < UNKNOWN) & (labels != IGNORE))
        self._refuse("labels", labels[outside], f"0..{self.num_classes - 1}, {NEGATIVE}, {UNKNOWN} or {IGNORE}")
        self._refuse("predictions", predictions[(predictions < 0) | (predictions >= size)], f"0..{size - 1}")
        truth = np.where(self.background & (labels == NEGATIVE), self.num_classes, labels.astype("int64"))
        counted = truth >= 0
        pairs = truth[counted] * size + predictions[counted]
        self.matrix += np.bincount(pairs.ravel(), minlength=size**2).reshape(size, size)
        for name, label in {"negative": NEGATIVE, "unknown": UNKNOWN, "ignored": IGNORE}.items():
            self.left_out[name] += int(np.count_nonzero((labels == label) & ~counted))

    def summary(self, class_names=None):
        """The figures, ready for JSON; classes without names are numbered, and what no pixel tells is None.

        Returns:
            Dict of `miou`, `macc`, `aacc` in [0, 1]; `pixels`, counted; `left_out`, not counted, by kind; `classes`:
            `{name: {"iou", "acc", "pixels"}}`, the background's last.
        """
        names = check_names(class_names, self.num_classes) + ["background"] * bool(self.background)
        right, true, predicted = np.diag(self.matrix), self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        iou, acc = _shares(right, true + predicted - right), _shares(right, true)
        rows = zip(names, iou, acc, true.tolist(), strict=True)
        return {
            "miou": average(iou),
            "macc": average(acc),
            "aacc": _shares(right.sum(keepdims=True), true.sum(keepdims=True))[0],
            "pixels": int(true.sum()),
            "left_out": dict(self.left_out),
            "classes": {name: {"iou": i, "acc": a, "pixels": n} for name, i, a, n in rows},
        }

    def _refuse(self, name, wrong, allowed):
        if wrong.size:
            hint = "" if self.background else " Without a background give the argmax over the knowns."
            raise ValueError(
                f"`{name}` must be {allowed}. Received: {np.unique(wrong)[:5].tolist()} in {wrong.size:,} pixels.{hint}"
            )


@keras.saving.register_keras_serializable("cplus1_keras")
class KnownMeanIoU(keras.metrics.MeanIoU):
    """Keras's mean IoU for labels in the package's convention; 0 as long as there is no pixel of a class.

    Args:
        num_classes: C, the number of known classes.
        background: Whether the background is a class, index C, and the prediction the argmax over all C+1 logits.
            Otherwise pixels of the background are left out, and the prediction is the argmax over the knowns.
        name, dtype: As for every Keras metric; replicas can sum counts in float32 on every backend.

    >>> metric = KnownMeanIoU(2, background=True)
    >>> metric.update_state(np.array([[0, -1, -100]]), np.array([[[2.0, 1, 0], [0, 1, 2.0], [0, 2.0, 0]]]))
    >>> print(round(float(metric.result()), 6))
    1.0
    """

    def __init__(self, num_classes, background=False, name="mean_iou", dtype="float32"):
        super().__init__(num_classes + bool(background), name=name, dtype=dtype)
        self.known_classes, self.background = num_classes, background

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, logits, weights = flatten(y_true, y_pred, sample_weight, self.known_classes)
        if logits.shape[-1] < self.num_classes:
            needed = f"KnownMeanIoU(background=True) needs {self.num_classes} logits, the background's last."
            raise ValueError(f"{needed} Received: {logits.shape[-1]}. Build the head with background=True.")
        if self.background:
            labels = ops.where(labels == NEGATIVE, self.known_classes, labels)
        super().update_state(labels, argmax(logits, self.num_classes), weights)

    def get_config(self):
        own = {"num_classes": self.known_classes, "background": self.background}
        return {**own, "name": self.name, "dtype": self._dtype}


def ignore_edges(labels, width):
    """Labels (..., H, W) in which the pixels near an edge are `IGNORE`: those that have another label around them.

    Around is the square of side 2·width + 1. Ignored pixels make no edge; background and unknown classes do.

    Args:
        labels: Integers (..., H, W).
        width: Pixels on each side of an edge, an int >= 0.

    >>> ignore_edges([[0, 0, 0, 1, 1, 1]], 1)
    array([[   0,    0, -100, -100,    1,    1]])

    Reference: the trimap of Kohli et al., "Robust higher order potentials for enforcing label consistency", IJCV 2009.
    """
    labels = np.asarray(labels)
    if labels.ndim < 2 or not isinstance(width, int | np.integer) or width < 0:
        raise ValueError(f"Needs labels (..., H, W) and a width, an int >= 0. Received: {labels.shape}, {width!r}")
    window = (1,) * (labels.ndim - 2) + (2 * width + 1,) * 2
    limits, ignored = np.iinfo("int32"), labels == IGNORE
    highest = maximum_filter(np.where(ignored, limits.min, labels), window, mode="nearest")
    lowest = minimum_filter(np.where(ignored, limits.max, labels), window, mode="nearest")
    return np.where(highest > lowest, IGNORE, labels)


def iou_table(summaries):
    """mIoU, mAcc and aAcc in percent, a row for each of `{method: ConfusionMatrix.summary()}`."""
    rows = [[method, *(percent(s[name]) for name in ("miou", "macc", "aacc"))] for method, s in summaries.items()]
    return align([["method", "mIoU", "mAcc", "aAcc"], *rows])


def class_table(summaries):
    """IoU and Acc of every class in percent, two columns for each method: Table 5 of the C+1 paper."""
    found = [{**s["classes"], "mean": {"iou": s["miou"], "acc": s["macc"]}} for s in summaries.values()]
    if any([*classes] != [*found[0]] for classes in found):
        raise ValueError(f"The methods must be judged on the same classes. Received: {[[*c] for c in found]}")
    head = ["category", *(f"{method} {kind}" for method in summaries for kind in ("IoU", "Acc"))]
    rows = [[row, *(percent(classes[row][kind]) for classes in found for kind in ("iou", "acc"))] for row in found[0]]
    return align([head, *rows])


def _shares(count, total):
    """Shares as plain floats, None for 0/0."""
    return [n / of if of else None for n, of in zip(count.tolist(), total.tolist(), strict=True)]
