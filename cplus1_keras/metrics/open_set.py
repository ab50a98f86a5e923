"""Open-set figures of a whole evaluation, counted exactly: ties, small samples and empty groups included.

Every figure is given for one group of samples that a classifier should refuse: `"negative"`, `"unknown"` or `"both"`.
A sample is accepted where its score reaches the threshold, `score >= threshold`; higher scores mean more known.
Samples labelled `IGNORE` count for nothing. Each figure takes a sort or two.
"""

import numpy as np

from cplus1_keras.metrics.counting import (
    aupr_of,
    auroc_of,
    ccr_of,
    checked,
    curve_of,
    fpr_at_tpr_of,
    open_auc_of,
    rate,
    sample_of,
)


def oscr(labels, predictions, scores, group):
    """Open-set classification rate curve [TH Eq 5.1, 5.2].

    CCR(t) = share of the knowns whose prediction is right and whose score is >= t;
    FPR(t) = share of the group whose score is >= t; the thresholds t are the distinct scores of the group.

    Args:
        labels: Integers (...): `>= 0` known, `NEGATIVE`, `UNKNOWN` or `IGNORE`.
        predictions: Integers (...), argmax over the knowns, before any rejection.
        scores: Real numbers (...), higher = more known.
        group: `"negative"`, `"unknown"` or `"both"`.

    Returns:
        `OSCR(thresholds, fpr, ccr)`, three arrays of one length, thresholds ascending, rates in [0, 1].

    Raises:
        ValueError: for shapes that differ, a NaN score, a label outside the convention, no known, an empty group.

    Example:

    >>> oscr([0, 1, 1, -2, -2], [0, 1, 0, 0, 1], [0.9, 0.6, 0.8, 0.7, 0.2], "unknown").ccr.round(3)
    array([0.667, 0.333])

    Reference: Dhamija, Günther and Boult, "Reducing Network Agnostophobia", NeurIPS 2018; thesis 2023, section 5.1.
    """
    return curve_of(sample_of(labels, scores, group, predictions))


def ccr_at_fpr(labels, predictions, scores, fpr, group):
    """Correct classification rate at a false positive rate: the CCR at the lowest threshold with FPR <= `fpr`.

    Args:
        labels, predictions, scores, group: As for `oscr`.
        fpr: A rate in [0, 1], or an array of them.

    Returns:
        A float, or an array of the shape of `fpr`. NaN where even the highest threshold has a larger FPR: a group of 50
        cannot say anything about an FPR of 0.01.

    Raises:
        ValueError: as for `oscr`, and for a rate outside [0, 1].

    Example:

    >>> ccr_at_fpr([0, 1, 1, -2, -2], [0, 1, 0, 0, 1], [0.9, 0.6, 0.8, 0.7, 0.2], [0.5, 0.1], "unknown").round(3)
    array([0.333,   nan])

    Reference: thesis 2023, section 5.1, whose code asks for FPR < `fpr`.
    """
    values = ccr_of(curve_of(sample_of(labels, scores, group, predictions)), rate("fpr", fpr))
    return values if values.ndim else float(values)


def open_auc(labels, predictions, scores, group):
    """OpenAUC, the exact area under the OSCR curve.

    The share of pairs (known, member of the group) in which the known is classified rightly and scores higher than the
    member; ties count 1/2. No point (1, 1) is appended to the curve.

    Args:
        labels, predictions, scores, group: As for `oscr`.

    Returns:
        A float in [0, 1], at most the closed-set accuracy.

    Raises:
        ValueError: as for `oscr`.

    Example:

    >>> open_auc([0, 1, -2, -2], [0, 0, 0, 0], [0.9, 0.8, 0.9, 0.1], "unknown")
    0.375

    Reference: Wang et al., "OpenAUC: Towards AUC-Oriented Open-Set Recognition", NeurIPS 2022.
    """
    return open_auc_of(sample_of(labels, scores, group, predictions))


def auroc(labels, scores, group):
    """Area under the ROC curve: P(score of a known > score of a member of the group), ties count 1/2.

    Args:
        labels, scores, group: As for `oscr`.

    Returns:
        A float in [0, 1]; 0.5 is chance.

    Raises:
        ValueError: as for `oscr`.

    Example:

    >>> auroc([0, 1, -1, -1], [0.9, 0.8, 0.9, 0.1], "negative")
    0.625

    Reference: Fawcett, "An introduction to ROC analysis", 2006.
    """
    return auroc_of(sample_of(labels, scores, group))


def aupr(labels, scores, group, positive="known"):
    """Average precision: sum over the distinct scores of (gain in recall) x precision, never the trapezoid.

    Args:
        labels, scores, group: As for `oscr`.
        positive: `"known"`, found by high scores, or `"group"`, found by low ones.

    Returns:
        A float in (0, 1]; chance is the share of the positives.

    Raises:
        ValueError: as for `oscr`, and for another `positive`.

    Example:

    >>> round(aupr([0, 1, -1, -1], [0.9, 0.7, 0.8, 0.1], "negative"), 4)
    0.8333

    Reference: Davis and Goadrich, "The relationship between precision-recall and ROC curves", 2006.
    """
    if positive not in ("known", "group"):
        raise ValueError(f'`positive` must be "known" or "group". Received: positive={positive!r}')
    return aupr_of(sample_of(labels, scores, group), positive)


def fpr_at_tpr(labels, scores, group, tpr=0.95):
    """False positive rate where the share `tpr` of the knowns is accepted (FPR95).

    The threshold is the highest one that accepts at least the share `tpr` of the knowns.

    Args:
        labels, scores, group: As for `oscr`.
        tpr: Share of the knowns, in (0, 1].

    Returns:
        The share of the group that this threshold accepts, a float in [0, 1]; lower is better.

    Raises:
        ValueError: as for `oscr`, and for a rate outside (0, 1].

    Example:

    >>> fpr_at_tpr([0, 1, -1, -1], [0.9, 0.7, 0.8, 0.1], "negative")
    0.5

    Reference: Liang et al., "Enhancing the reliability of out-of-distribution image detection", ICLR 2018.
    """
    if np.ndim(tpr) or rate("tpr", tpr) == 0:
        raise ValueError(f"`tpr` must be one rate in (0, 1]. Received: tpr={tpr}")
    return fpr_at_tpr_of(sample_of(labels, scores, group), tpr)


def closed_set_accuracy(labels, predictions):
    """Share of the knowns whose prediction is right: the CCR of a threshold that accepts everything.

    Args:
        labels, predictions: As for `oscr`.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: for shapes that differ, a label outside the convention, no known.

    Example:

    >>> closed_set_accuracy([0, 1, -1], [0, 0, 0])
    0.5
    """
    labels, predictions, _ = checked(labels, predictions)
    known = labels >= 0
    if not known.any():
        raise ValueError(f"The accuracy needs labels >= 0, and there is none among {labels.size} samples.")
    return float(np.mean(predictions[known] == labels[known]))
