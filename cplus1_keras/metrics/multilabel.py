"""Figures of label sets: mean average precision, and precision, recall and F1 for each class and overall."""

import numpy as np

from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.metrics import counting
from cplus1_keras.metrics.tables import align, check_names, percent

FIGURES = {"map": "mAP", "cf1": "CF1", "cp": "CP", "cr": "CR", "of1": "OF1", "op": "OP", "or": "OR"}


class MultiLabelScores:
    """Figures of multi-label classification, as Table 4 of the HNC paper gives them; keeps all scores.

    Of class c, TP_c of the P_c images predicted to show it do, and T_c show it:

        CP, CR = mean_c TP_c / P_c, mean_c TP_c / T_c      OP, OR = sum TP_c / sum P_c, sum TP_c / sum T_c
        CF1 = mean_c 2 TP_c / (P_c + T_c)                  OF1 = 2 sum TP_c / (sum P_c + sum T_c)

    mAP is the mean of the classes' average precisions. Means are over the classes that some image shows; the precision
    of a class that is never predicted is 0. CF1 is scikit-learn's macro F1, as in the paper's table (first row P 80.8,
    R 63.4, F1 69.5); others take the harmonic mean of CP and CR. Entries that are `IGNORE` count for nothing.

    Args:
        thresholds: A class is predicted where score >= threshold, a number or (C,).
        top_k: A second set of figures counts only the k highest scores of each image; 0 leaves it out.

    >>> scores = MultiLabelScores()
    >>> scores.update([[1, 0], [1, 1]], [[2.0, 1.0], [-1.0, 3.0]])
    >>> result = scores.result(["cat", "dog"])
    >>> result["op"], result["cr"], result["map"], result["classes"]["dog"]["precision"]
    (0.6666666666666666, 0.75, 1.0, 0.5)

    Reference: Sun et al., "Fixing Localization Errors to Improve Image Classification" (HNC), ECCV 2020, section 4.2.
    """

    def __init__(self, thresholds=0.0, top_k=3):
        self.thresholds, self.top_k, self.parts = np.asarray(thresholds, "float32"), top_k, []

    def update(self, multi_hot, scores):
        """Count some images: labels (..., C), 1 present, 0 absent, `IGNORE` not annotated, and scores (..., C)."""
        truth, scores = np.asarray(multi_hot), np.asarray(scores)
        size = truth.shape[-1:]
        if truth.shape != scores.shape or not size or (self.parts and self.parts[0][0].shape[1:] != size):
            shapes = f"{truth.shape} and {scores.shape}"
            raise ValueError(f"Labels and scores must be (..., C) with the same C each time. Received: shapes {shapes}")
        if not np.isin(truth, (0, 1, IGNORE)).all():
            raise ValueError(f"`multi_hot` must be 0, 1 or {IGNORE}. Received: {np.unique(truth)[:5].tolist()}")
        if np.isnan(scores).any():
            raise ValueError(f"`scores` must not be NaN, and {np.isnan(scores).sum():,} of {scores.size:,} are.")
        self.parts.append((truth.reshape(-1, *size).astype("int8"), scores.reshape(-1, *size).astype("float32")))

    def result(self, class_names=None):
        """The figures, ready for JSON; classes without names are numbered, and what no image tells is None.

        Returns:
            Dict of `images`; `map`, `cf1`, `cp`, `cr`, `of1`, `op`, `or` in [0, 1]; `top_3`, the second set, without
            `map`; `classes`: `{name: {"images", "ap", "f1", "precision", "recall"}}`.
        """
        if not self.parts:
            raise ValueError("Nothing was counted. Call `update(multi_hot, scores)` first.")
        truth, scores = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        names = check_names(class_names, truth.shape[1])
        present, chosen = truth == 1, (scores >= self.thresholds) & (truth != IGNORE)
        ap = [_average_precision(*pair) for pair in zip(truth.T, scores.T, strict=True)]
        result = {"images": len(truth), "map": counting.average(ap), **_means(present, chosen)}
        if self.top_k:
            order = np.argsort(np.where(truth == IGNORE, np.inf, -scores), axis=1, kind="stable")[:, : self.top_k]
            highest = np.zeros_like(chosen)
            np.put_along_axis(highest, order, True, axis=1)
            result[f"top_{self.top_k}"] = _means(present, chosen & highest)
        rows = zip(names, present.sum(axis=0).tolist(), ap, *_shares(present, chosen), strict=True)
        heads = ("images", "ap", "precision", "recall", "f1")
        result["classes"] = {name: dict(zip(heads, row, strict=True)) for name, *row in rows}
        return result


def _average_precision(multi_hot, scores):
    """`metrics.aupr` of one class, with the images that lack it as the group; None where no image shows it."""
    if not (multi_hot == 1).any():
        return None
    labels, kept = np.where(multi_hot == 1, 0, NEGATIVE), multi_hot != IGNORE
    counts = counting.count(labels[kept], labels[kept], scores[kept], "negative")
    return counting.average_precision(counts.known, counts.group)


def table(results, top_k=0):
    """The figures in percent, a row for each of `{method: MultiLabelScores.result()}`, or those of the `top_k`."""
    shown = {method: result[f"top_{top_k}"] if top_k else result for method, result in results.items()}
    heads = {key: head for key, head in FIGURES.items() if key != "map" or not top_k}
    rows = [[method, *(percent(values[key]) for key in heads)] for method, values in shown.items()]
    return align([["method", *heads.values()], *rows])


def _shares(present, chosen):
    """Precision, recall and F1 of each class, None for a class that no image shows."""
    right, shown, predicted = (kind.sum(axis=0) for kind in (present & chosen, present, chosen))
    parts = right / np.maximum(predicted, 1), right / np.maximum(shown, 1), 2 * right / np.maximum(predicted + shown, 1)
    return [[float(v) if n else None for v, n in zip(part, shown, strict=True)] for part in parts]


def _means(present, chosen):
    """The figures for each class and overall."""
    each, overall = _shares(present, chosen), _shares(present.reshape(-1, 1), chosen.reshape(-1, 1))
    values = map(counting.average, (*each, *overall))
    return dict(zip(("cp", "cr", "cf1", "op", "or", "of1"), values, strict=True))
