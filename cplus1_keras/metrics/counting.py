"""The core of all open-set figures: each is a function of how many samples have which score, sorted or in bins."""

from typing import NamedTuple

import numpy as np

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

GROUPS = {"negative": (NEGATIVE,), "unknown": (UNKNOWN,), "both": (NEGATIVE, UNKNOWN)}
"""Labels of what a classifier should refuse."""


class OSCR(NamedTuple):
    """A curve of correct classification rate against false positive rate; one entry for each threshold, ascending."""

    thresholds: np.ndarray
    fpr: np.ndarray
    ccr: np.ndarray


class Counts(NamedTuple):
    """Numbers of knowns, of rightly classified knowns and of members of a group, by ascending distinct scores."""

    thresholds: np.ndarray
    known: np.ndarray
    right: np.ndarray
    group: np.ndarray


def flatten(labels, predictions=None, scores=None):
    """Flat arrays without the ignored samples, or a ValueError that says what is wrong with them."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"`labels` must be integers, no soft or one-hot labels. Received: dtype={labels.dtype}")
    outside = (labels < UNKNOWN) & (labels != IGNORE)
    if outside.any():
        raise ValueError(
            f"`labels` must be >= 0 (known), {NEGATIVE} (negative), {UNKNOWN} (unknown) or {IGNORE} (ignored). "
            f"Received: {np.unique(labels[outside])[:5].tolist()}"
        )
    kept = labels != IGNORE
    predictions = _matching("predictions", predictions, labels, "iu", "integers", kept)
    scores = _matching("scores", scores, labels, "fiu", "real numbers", kept)
    if predictions is not None and (predictions < 0).any():
        raise ValueError(f"`predictions` must be class indices, before any rejection. Received: {predictions.min()}")
    if scores is not None and np.isnan(scores).any():
        raise ValueError(
            f"`scores` must not be NaN, and {np.isnan(scores).sum():,} of {scores.size:,} are. Mend the model, or "
            "give those samples the score -inf to count them as refused."
        )
    return labels[kept], predictions, scores


def _matching(name, values, labels, kinds, meaning, kept):
    if values is None:
        return None
    values = np.asarray(values)
    if values.shape != labels.shape:
        shapes = f"{name} of shape {values.shape}, labels of shape {labels.shape}"
        raise ValueError(f"`{name}` must have one entry for each label. Received: {shapes}")
    if values.dtype.kind not in kinds:
        raise ValueError(f"`{name}` must be {meaning}. Received: dtype={values.dtype}")
    return values[kept]


def check_group(group):
    """A ValueError for a group of another name."""
    if group not in GROUPS:
        raise ValueError(f"`group` must be one of {', '.join(map(repr, GROUPS))}. Received: group={group!r}")


def check_rates(name, values):
    """The rates as float64, or a ValueError where one is none."""
    array = np.asarray(values, "float64")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(f"`{name}` must lie in [0, 1]. Received: {name}={values}")
    return array


def count(labels, predictions, scores, group):
    """`Counts` of flat arrays, with an entry for each distinct score."""
    check_group(group)
    kept = (labels >= 0) | np.isin(labels, GROUPS[group])
    thresholds, ranks = np.unique(scores[kept], return_inverse=True)
    return tally(labels[kept], predictions[kept], ranks, thresholds)


def tally(labels, predictions, ranks, thresholds):
    """`Counts` of knowns and members of one group, from the rank of each sample's score among the thresholds."""
    kinds = labels >= 0, labels == predictions, labels < 0
    return Counts(thresholds, *(np.bincount(ranks[kind], minlength=len(thresholds)) for kind in kinds))


def average(values):
    """Mean of what is not None; None where nothing is."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def accumulate(counts):
    """How many samples each threshold accepts; 0 in the end, for one above them all."""
    return np.append(counts[::-1].cumsum()[::-1], 0)


def curve(counts):
    """The OSCR curve."""
    chosen = np.flatnonzero(counts.group)
    group, right = accumulate(counts.group)[chosen], accumulate(counts.right)[chosen]
    return OSCR(counts.thresholds[chosen], group / counts.group.sum(), right / counts.known.sum())


def ccr_at_fpr(oscr, fpr):
    """CCR at the lowest threshold of a curve that has at most this FPR, NaN if none has; for an array of rates."""
    reached = np.searchsorted(oscr.fpr[::-1], fpr, side="right")  # how many thresholds have at most this FPR
    return np.where(reached > 0, oscr.ccr[-np.maximum(reached, 1)], np.nan)


def pairs_won(high, low, ops=np):
    """Number of pairs in which `high` has the higher score, ties counted 1/2; `ops` may be `keras.ops`."""
    return ops.sum(high * (ops.cumsum(low) - low / 2))


def win_rate(counts, high):
    """Share of the pairs of a known and a member that `high` wins: all knowns, or those classified rightly."""
    return float(pairs_won(high, counts.group) / (float(counts.known.sum()) * float(counts.group.sum())))


def average_precision(found, other):
    """Sum over thresholds of (gain in recall) x precision, for what high scores should find."""
    chosen = np.flatnonzero(found)
    true, false = accumulate(found)[chosen], accumulate(other)[chosen]
    return float((found[chosen] * (true / (true + false))).sum() / found.sum())


def last_accepting(counts, tpr):
    """Index of the highest threshold that accepts at least this share of the knowns."""
    knowns = int(counts.known.sum())
    # A product such as 0.55 x 100 may round to more than 55, so the share itself is compared.
    fewest = next(k for k in range(int(tpr * knowns), knowns + 1) if k / knowns >= tpr)
    return np.flatnonzero(accumulate(counts.known) >= fewest)[-1]


def fpr_at_tpr(counts, tpr):
    """Share of the group that is accepted where this share of the knowns is."""
    return float(accumulate(counts.group)[last_accepting(counts, tpr)] / counts.group.sum())


def figures(counts, fprs):
    """All figures by name, NaN for what the samples cannot resolve; what `open_set` says of each."""
    _, known, right, group = counts
    names = [*(f"ccr_at_fpr_{fpr:g}" for fpr in fprs), "auroc", "aupr_known", "aupr_group", "fpr95", "open_auc"]
    values = [np.nan] * len(names)
    if known.any() and group.any():
        precisions = average_precision(known, group), average_precision(group[::-1], known[::-1])
        values = [*ccr_at_fpr(curve(counts), fprs), win_rate(counts, known), *precisions]
        values += [fpr_at_tpr(counts, 0.95), win_rate(counts, right)]
    accuracy = right.sum() / known.sum() if known.any() else np.nan
    return {"accuracy": accuracy, **dict(zip(names, values, strict=True))}
