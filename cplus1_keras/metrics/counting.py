"""Checks, sorting and counting behind the open-set figures: what they share, on arrays that are sorted once."""

from typing import NamedTuple

import numpy as np

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

GROUPS = {"negative": (NEGATIVE,), "unknown": (UNKNOWN,), "both": (NEGATIVE, UNKNOWN)}
"""Labels of the samples that a classifier should refuse, by the name of their group."""


class OSCR(NamedTuple):
    """A curve of correct classification rate against false positive rate; one entry for each threshold, ascending."""

    thresholds: np.ndarray
    fpr: np.ndarray
    ccr: np.ndarray


class Sample(NamedTuple):
    """Ascending scores of the knowns, of the members of the group, and of the rightly classified knowns."""

    known: np.ndarray
    group: np.ndarray
    right: np.ndarray


def checked(labels, predictions=None, scores=None):
    """Flat arrays without the ignored samples, or a ValueError that says what is wrong with them."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(
            "`labels` must be integers, one class index per sample; soft or one-hot labels have no open-set figures. "
            f"Received: dtype={labels.dtype}, shape={labels.shape}"
        )
    outside = (labels < UNKNOWN) & (labels != IGNORE)
    if outside.any():
        raise ValueError(
            f"`labels` must be >= 0 (known), {NEGATIVE} (negative), {UNKNOWN} (unknown) or {IGNORE} (ignored). "
            f"Received: {np.unique(labels[outside])[:5].tolist()}"
        )
    kept = labels != IGNORE
    given = {"predictions": (predictions, "iu", "integers"), "scores": (scores, "fiu", "real numbers")}
    flat = [labels[kept]]
    for name, (values, kinds, meaning) in given.items():
        if values is None:
            flat.append(None)
            continue
        values = np.asarray(values)
        if values.shape != labels.shape:
            raise ValueError(
                f"`{name}` must have one entry for each label. Received: {name} of shape {values.shape}, "
                f"labels of shape {labels.shape}"
            )
        if values.dtype.kind not in kinds:
            raise ValueError(f"`{name}` must be {meaning}. Received: dtype={values.dtype}")
        flat.append(values[kept])
    labels, predictions, scores = flat
    if predictions is not None and (predictions < 0).any():
        raise ValueError(
            "`predictions` must be class indices >= 0, the argmax over the knowns before any rejection: rejecting is "
            f"the scores' business. Received: {predictions.min()}"
        )
    if scores is not None and np.isnan(scores).any():
        raise ValueError(
            f"`scores` must not be NaN, and {np.isnan(scores).sum():,} of {scores.size:,} are: look for a loss that "
            "became NaN, or give those samples the score -inf to count them as refused."
        )
    return labels, predictions, scores


def members(labels, group):
    """True where a label belongs to the group; a ValueError for a group of another name."""
    if group not in GROUPS:
        raise ValueError(f"`group` must be one of {', '.join(map(repr, GROUPS))}. Received: group={group!r}")
    return np.isin(labels, GROUPS[group])


def sample_of(labels, scores, group, predictions=None):
    """Check what the user gave and sort it."""
    labels, predictions, scores = checked(labels, predictions, scores)
    known, inside = labels >= 0, members(labels, group)
    if not (known.any() and inside.any()):
        counts = ", ".join(f"{(labels == value).sum():,} of {value}" for value in (NEGATIVE, UNKNOWN))
        raise ValueError(
            f"An open-set figure needs at least one known and one member of the group {group!r}. "
            f"Received: {known.sum():,} labels >= 0, {counts}"
        )
    return sorted_sample(labels, predictions, scores, inside)


def sorted_sample(labels, predictions, scores, inside):
    """Scores of knowns, group and rightly classified knowns, ascending; for checked arrays."""
    scores = scores.astype("float64") if scores.dtype.kind in "iu" else scores  # so that they can be negated
    known = labels >= 0
    right = scores[:0] if predictions is None else np.sort(scores[known & (predictions == labels)])
    return Sample(np.sort(scores[known]), np.sort(scores[inside]), right)


def rate(name, value):
    """`value` as float64, or a ValueError where it is no rate."""
    array = np.asarray(value, "float64")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"`{name}` must lie in [0, 1]. Received: {name}={value}")
    return array


def starts(ascending):
    """Index of the first of each run of equal values."""
    return np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))


def curve_of(sample):
    """`open_set.oscr` of a sorted sample."""
    first = starts(sample.group)
    thresholds = sample.group[first]
    accepted = sample.right.size - np.searchsorted(sample.right, thresholds)
    return OSCR(thresholds, (sample.group.size - first) / sample.group.size, accepted / sample.known.size)


def ccr_of(curve, fpr):
    """`open_set.ccr_at_fpr` of a curve, for an array of rates."""
    reached = np.searchsorted(curve.fpr[::-1], fpr, side="right")  # how many thresholds have at most this FPR
    return np.where(reached > 0, curve.ccr[-np.maximum(reached, 1)], np.nan)


def pairs_won(high, low):
    """Number of pairs with high > low, ties counted 1/2, as an exact integer of halves."""
    return int((np.searchsorted(low, high) + np.searchsorted(low, high, side="right")).sum()) / 2


def open_auc_of(sample):
    """`open_set.open_auc` of a sorted sample."""
    return pairs_won(sample.right, sample.group) / (sample.known.size * sample.group.size)


def auroc_of(sample):
    """`open_set.auroc` of a sorted sample."""
    return pairs_won(sample.known, sample.group) / (sample.known.size * sample.group.size)


def aupr_of(sample, positive):
    """`open_set.aupr` of a sorted sample."""
    found, other = sample.known, sample.group
    if positive == "group":
        found, other = -sample.group[::-1], -sample.known[::-1]
    first = starts(found)
    true_positives = found.size - first
    false_positives = other.size - np.searchsorted(other, found[first])
    gain = np.diff(np.append(first, found.size))
    return float((gain * (true_positives / (true_positives + false_positives))).sum() / found.size)


def fpr_at_tpr_of(sample, tpr):
    """`open_set.fpr_at_tpr` of a sorted sample."""
    n = sample.known.size
    accepted = 1 + np.searchsorted(np.arange(1, n + 1) / n, tpr)  # the fewest knowns that make up the share
    threshold = sample.known[n - accepted]
    return float((sample.group.size - np.searchsorted(sample.group, threshold)) / sample.group.size)
