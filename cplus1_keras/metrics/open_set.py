"""Open-set figures of a whole evaluation, counted exactly: ties and small samples included.

What `oscr` says of its arguments and errors holds for all. A sample is accepted where `score >= threshold`.
"""

import numpy as np

from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.metrics import counting


def oscr(labels, predictions, scores, group):
    """Open-set classification rate curve [TH Eq 5.1, 5.2].

    CCR(t) = share of the knowns whose prediction is right and whose score is >= t;
    FPR(t) = share of the group whose score is >= t; the thresholds t are the distinct scores of the group.

    Args:
        labels: Integers (...): `>= 0` known, `NEGATIVE`, `UNKNOWN` or `IGNORE`, which counts for nothing.
        predictions: Integers (...), argmax over the knowns, before any rejection.
        scores: Real numbers (...), higher = more known.
        group: What the classifier should refuse: `"negative"`, `"unknown"` or `"both"`.

    Returns:
        `OSCR(thresholds, fpr, ccr)`, three arrays of one length, thresholds ascending, rates in [0, 1].

    Raises:
        ValueError: for shapes that differ, NaN scores, labels outside the convention, no known, an empty group.

    >>> oscr([0, 1, 1, -2, -2], [0, 1, 0, 0, 1], [0.9, 0.6, 0.8, 0.7, 0.2], "unknown").ccr.round(3)
    array([0.667, 0.333])

    Reference: Dhamija, Günther and Boult, "Reducing Network Agnostophobia", NeurIPS 2018; thesis 2023, section 5.1.
    """
    return counting.curve(_count(labels, scores, group, predictions))


def ccr_at_fpr(labels, predictions, scores, fpr, group):
    """Correct classification rate at a false positive rate: the CCR at the lowest threshold with FPR <= `fpr`.

    Thresholds are scores of the group, so even at `fpr=1` knowns that score below the whole group count as refused.

    Args:
        fpr: A rate in [0, 1], or an array of them.

    Returns:
        A float, or an array of the shape of `fpr`; NaN for what the group is too small to say.

    >>> ccr_at_fpr([0, 1, 1, -2, -2], [0, 1, 0, 0, 1], [0.9, 0.6, 0.8, 0.7, 0.2], [0.5, 0.1], "unknown").round(3)
    array([0.333,   nan])

    Reference: thesis 2023, section 5.1, whose code asks for FPR < `fpr`.
    """
    fpr = counting.check_rates("fpr", fpr)
    values = counting.ccr_at_fpr(oscr(labels, predictions, scores, group), fpr)
    return values if values.ndim else float(values)


def open_auc(labels, predictions, scores, group):
    """OpenAUC, the exact area under the OSCR curve, in [0, closed-set accuracy].

    The share of pairs (known, member of the group) in which the known is classified rightly and scores higher than the
    member; ties count 1/2. No point (1, 1) is appended to the curve.

    >>> open_auc([0, 1, -2, -2], [0, 0, 0, 0], [0.9, 0.8, 0.9, 0.1], "unknown")
    0.375

    Reference: Wang et al., "OpenAUC: Towards AUC-Oriented Open-Set Recognition", NeurIPS 2022.
    """
    counts = _count(labels, scores, group, predictions)
    return counting.win_rate(counts, counts.right)


def auroc(labels, scores, group):
    """Area under the ROC curve, in [0, 1]: P(score of a known > score of a member of the group), ties count 1/2.

    >>> auroc([0, 1, -1, -1], [0.9, 0.8, 0.9, 0.1], "negative")
    0.625

    Reference: Fawcett, "An introduction to ROC analysis", 2006.
    """
    counts = _count(labels, scores, group)
    return counting.win_rate(counts, counts.known)


def aupr(labels, scores, group, positive="known"):
    """Average precision, in (0, 1]: sum over the distinct scores of (gain in recall) x precision.

    Args:
        positive: `"known"`, found by high scores, or `"group"`, by low ones.

    >>> round(aupr([0, 1, -1, -1], [0.9, 0.7, 0.8, 0.1], "negative"), 4)
    0.8333

    Reference: Davis and Goadrich, "The relationship between precision-recall and ROC curves", 2006.
    """
    if positive not in ("known", "group"):
        raise ValueError(f'`positive` must be "known" or "group". Received: positive={positive!r}')
    _, known, _, others = _count(labels, scores, group)
    found = (known, others) if positive == "known" else (others[::-1], known[::-1])
    return counting.average_precision(*found)


def fpr_at_tpr(labels, scores, group, tpr=0.95):
    """False positive rate at the highest threshold that accepts at least the share `tpr` of the knowns (FPR95).

    Args:
        tpr: In (0, 1].

    >>> fpr_at_tpr([0, 1, -1, -1], [0.9, 0.7, 0.8, 0.1], "negative")
    0.5

    Reference: Liang et al., "Enhancing the reliability of out-of-distribution image detection", ICLR 2018.
    """
    if np.ndim(tpr) or counting.check_rates("tpr", tpr) == 0:
        raise ValueError(f"`tpr` must be one rate in (0, 1]. Received: tpr={tpr}")
    return counting.fpr_at_tpr(_count(labels, scores, group), tpr)


def closed_set_accuracy(labels, predictions):
    """Share of the knowns whose prediction is right: the CCR of a threshold that accepts everything."""
    labels, predictions, _ = counting.flatten(labels, predictions)
    known = labels >= 0
    if not known.any():
        raise ValueError(f"The accuracy needs labels >= 0, and there is none among {labels.size} samples.")
    return float(np.mean(predictions[known] == labels[known]))


def _count(labels, scores, group, predictions=None):
    labels, predictions, scores = counting.flatten(labels, predictions, scores)
    counts = counting.count(labels, labels if predictions is None else predictions, scores, group)
    if not (counts.known.any() and counts.group.any()):
        numbers = ", ".join(f"{(labels == value).sum():,} of {value}" for value in (NEGATIVE, UNKNOWN))
        numbers = f"{(labels >= 0).sum():,} labels >= 0, {numbers}"
        raise ValueError(f"A figure needs at least one known and one member of {group!r}. Received: {numbers}")
    return counts
