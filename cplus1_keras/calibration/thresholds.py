"""The lowest threshold that keeps a false positive rate, the highest that keeps a coverage; each at a confidence."""

import dataclasses
import itertools

import numpy as np

from cplus1_keras.calibration import bounds
from cplus1_keras.calibration.evidence import Calibration, group_name
from cplus1_keras.calibration.samples import keep_scores
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.metrics.bins import BINS, TINY, flush, lower_edge, to_bins

KINDS = {"fpr": ("FPR", "negative"), "coverage": ("Coverage", "known")}


def threshold_at_fpr(scores, fpr, confidence=0.95, score=None, groups=None):
    """Lowest threshold whose false positive rate is at most `fpr`, at a confidence, on inputs like these negatives.

    Of n negatives at most k may be accepted, k the largest number whose one-sided Clopper-Pearson upper bound is
    <= fpr. The threshold is the next float32 number above the (k+1)-th highest score, so ties are refused together.
    Over draws of the negatives the true FPR exceeds `fpr` with probability at most 1 - confidence.

    Where a group has several negatives, it accepts the share F_i, and the threshold is the lowest at which
    `mean_upper_bound` of all F_i is <= `fpr`, of those that are lower edges of the bins of `metrics.BinnedScores`.

    Args:
        scores: Scores (n,) of the calibration split's negatives, higher = more known; taken as float32.
        fpr: False positive rate asked for, in (0, 1).
        confidence: In (0, 1).
        score: Name of the score, kept as evidence.
        groups: What each negative belongs to (n,), such as the name of its video; None where all are independent.

    Returns:
        A `Calibration` with rule `"fpr"`.

    Raises:
        ValueError: for fewer than `images_needed` to prove the rate, NaN scores, infinite scores that no threshold
            refuses, rates outside (0, 1).

    >>> calibration = threshold_at_fpr(np.arange(100.0), 0.1)
    >>> calibration.accepted, round(calibration.bound, 4)
    (4, 0.0892)

    Reference: Clopper and Pearson, Biometrika 26, 1934; for order statistics Wilks, 1941; for groups Bates et al.,
    "Distribution-Free, Risk-Controlling Prediction Sets", JACM 2021, Theorem 1.
    """
    return _calibrate(_split(scores, groups), "fpr", fpr, confidence, score)


def threshold_at_coverage(scores, coverage, confidence=0.95, score=None, groups=None):
    """Highest threshold whose coverage is at least `coverage`, at a confidence, on inputs like these knowns.

    For where there are no negatives. Of n knowns at most k may be refused: the threshold is the (k+1)-th lowest score.

    Args:
        scores: Scores (n,) of the calibration split's knowns.
        coverage: Share of the knowns to accept, in (0, 1).
        confidence, score, groups: As for `threshold_at_fpr`, and so are the errors.

    Returns:
        A `Calibration` with rule `"coverage"`; its bound is a lower one.

    >>> calibration = threshold_at_coverage(np.arange(100.0), 0.9)
    >>> calibration.threshold, calibration.accepted, round(calibration.bound, 4)
    (4.0, 96, 0.9108)
    """
    return _calibrate(_split(scores, groups), "coverage", coverage, confidence, score)


def calibrate(records, fpr, coverage, confidence=0.95, score=None, unit=None):
    """The `Calibration` of a split: at a false positive rate, or where there are no negatives at a coverage.

    Of a group with several decisions only a histogram is kept. Errors are those of `threshold_at_fpr`.

    Args:
        records: Iterable of `tasks.Record`s, read once; those of a group follow each other.
        fpr, coverage, confidence, score: As for `threshold_at_fpr` and `threshold_at_coverage`.
        unit: What a decision is; None takes `"image"` for labels of shape (), `"pixel"` for (H, W), else `"decision"`.

    >>> from cplus1_keras.tasks.records import Record
    >>> labels, scores = np.full((4, 4), -1), np.arange(16.0).reshape(4, 4)
    >>> images = [Record(labels, 0 * labels, scores + i / 8, str(i)) for i in range(60)]
    >>> print(calibrate(images, fpr=0.1, coverage=0.95))  # doctest: +NORMALIZE_WHITESPACE
    Accept score >= 20.03: 3.44 % of an image's negatives accepted, the mean of 60 images (33 of 960 pixels);
    at 95 % confidence at most 9.7 %; asked: 10 %.
    """
    negatives, knowns, seen, singles = [], [], set(), []
    for name, members in itertools.groupby(records, key=lambda record: record.group):
        if name in seen:
            raise ValueError(f"Records of one group must follow each other; those of {name!r} do not.")
        seen.add(name)
        negative, known = [], []
        for record in members:
            labels, scores = np.asarray(record.labels), np.asarray(record.scores)
            unit = unit or {0: "image", 2: "pixel"}.get(labels.ndim, "decision")
            if labels.shape != scores.shape:
                raise ValueError(f"{name!r} has labels of shape {labels.shape} and scores of shape {scores.shape}.")
            if not labels.ndim:
                singles.append((int(labels), float(scores)))
            negative += _reduce(name, scores[is_negative(labels)])
            if not (negatives or negative):
                known += _reduce(name, scores[is_known(labels)])
        negatives += _join(negative)
        knowns += _join(known)
        if negatives:
            knowns.clear()
    rule, groups, target = ("fpr", negatives, fpr) if negatives else ("coverage", knowns, coverage)
    found = _calibrate(groups, rule, target, confidence, score, unit or "image")
    if len(singles) != len(seen):  # scores of one group depend on each other
        return found
    return dataclasses.replace(found, sample=keep_scores(*zip(*singles, strict=True)))


class Histogram:
    """The decisions of a group by bins of their scores, from its parts: scores, or pairs (bins, numbers in them)."""

    def __init__(self, parts):
        pairs = (part if isinstance(part, tuple) else (to_bins([part]), [1]) for part in parts)
        bins, counts = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
        self.bins, places = np.unique(bins.astype("uint32"), return_inverse=True)
        counts = np.bincount(places, counts).astype("uint32")
        self.above = np.append(counts[::-1].cumsum()[::-1], 0).astype("uint32")
        self.size = int(self.above[0])

    def accepted(self, index):
        """How many decisions the edge of this bin accepts."""
        return int(self.above[np.searchsorted(self.bins, index)])


def _reduce(name, scores):
    """What is kept of scores, as a list: nothing, the only one, or a pair of bins and the numbers in them."""
    if np.isnan(scores).any():
        raise ValueError(f"{name!r} has NaN scores, {np.isnan(scores).sum():,} of {scores.size:,}.")
    if scores.size <= 1:
        return scores.tolist()
    return [np.unique(to_bins(scores), return_counts=True)]


def _join(parts):
    """The evidence of a group, as a list: nothing, its only score, or a histogram."""
    alone = len(parts) == 1 and not isinstance(parts[0], tuple)
    return parts if alone or not parts else [Histogram(parts)]


def _split(scores, groups):
    """The evidence of arrays: all scores at once where they are independent."""
    scores = np.asarray(scores)
    if scores.ndim != 1 or scores.dtype.kind not in "fiu":
        raise ValueError(f"`scores` must be real numbers (n,). Received: shape={scores.shape}, dtype={scores.dtype}")
    if np.isnan(scores).any():
        raise ValueError(f"`scores` must not be NaN, and {np.isnan(scores).sum():,} of {scores.size:,} are.")
    if groups is None:
        return scores
    if np.shape(groups) != scores.shape:
        raise ValueError(f"`groups` must name one for each score. Received: {np.shape(groups)} for {scores.shape}")
    _, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(counts) == scores.size:
        return scores
    parts = np.split(scores[np.argsort(places, kind="stable")], np.cumsum(counts)[:-1])
    return [Histogram([np.unique(to_bins(part), return_counts=True)]) for part in parts]


def _calibrate(groups, rule, target, confidence, score, unit="image"):
    what, kind = KINDS[rule]
    rate = target if rule == "fpr" else 1 - target
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise ValueError(f"{what} and confidence must lie in (0, 1). Received: {target} and {confidence}")
    single = not any(isinstance(group, Histogram) for group in groups) and (len(groups) or unit == "image")
    needed = bounds.images_needed(rate, confidence, single)
    if len(groups) < needed:
        whole = group_name(unit)[1]
        units = f"{kind}s" if single else f"{whole}s with {kind} {unit}s"
        hint = "" if single else f"What belongs to one {whole} is not independent and counts once. "
        start = f"{what} {target:g} at {100 * confidence:g} % confidence needs at least {needed:,} {units}"
        raise ValueError(f"{start}; there are {len(groups):,}. {hint}Calibrate on more, or ask for less.")
    choose, count = (_choose_for_singles, _count_singles) if single else (_choose_for_groups, _count_groups)
    groups = np.sort(flush(groups)) if single else [g if isinstance(g, Histogram) else Histogram([g]) for g in groups]

    def at(threshold, **more):
        threshold, accepted, shares, decisions = count(groups, threshold)
        bound = _bound(accepted, shares, decisions, rule, confidence)
        found = len(groups), accepted, float(np.mean(shares)), bound
        return Calibration(float(threshold), rule, float(target), confidence, *found, score, unit, decisions, **more)

    return at(choose(groups, rule, rate, confidence), at=at)


def _bound(accepted, shares, decisions, rule, confidence):
    """Bound on the rate, an upper one for `"fpr"`; `shares` is one float where decisions are single."""
    if np.ndim(shares):
        bound = bounds.mean_upper_bound(shares if rule == "fpr" else 1 - shares, confidence)
    else:
        errors = accepted if rule == "fpr" else decisions - accepted
        bound = bounds.clopper_pearson_upper(errors, decisions, confidence)
    return float(bound if rule == "fpr" else 1 - bound)


def _choose_for_singles(ascending, rule, rate, confidence):
    """The threshold by Clopper-Pearson."""
    n = ascending.size
    allowed = bounds.first(lambda k: bounds.clopper_pearson_upper(k, n, confidence) > rate, 0, n) - 1
    if rule == "coverage":
        return ascending[allowed]
    if ascending[n - 1 - allowed] == np.inf:
        raise ValueError(f"More than {allowed} of the {n} scores are infinite: no threshold refuses them.")
    return _next_above(ascending[n - 1 - allowed])


def _count_singles(ascending, threshold):
    """Threshold, number and share accepted, number of decisions."""
    accepted = int(ascending.size - np.searchsorted(ascending, np.float32(threshold)))
    return threshold, accepted, accepted / ascending.size, ascending.size


def _choose_for_groups(groups, rule, rate, confidence):
    """The threshold by the bound of group means: the lower edge of a bin."""
    if rule == "coverage":
        above = bounds.first(lambda edge: not bounds.refutes(1 - _shares(groups, edge), rate, confidence), -1, BINS)
        return lower_edge(above - 1)
    edge = bounds.first(lambda index: bounds.refutes(_shares(groups, index), rate, confidence), -1, BINS)
    if edge >= int(to_bins(np.inf)):
        raise ValueError("Too many scores are infinite: no threshold refuses them. Take `log_odds`.")
    return lower_edge(edge)


def _count_groups(groups, threshold):
    """Threshold rounded down to the edge of a bin, number accepted, share of each group, number of decisions."""
    edge = int(to_bins(threshold))
    accepted, decisions = sum(group.accepted(edge) for group in groups), sum(group.size for group in groups)
    return lower_edge(edge), accepted, _shares(groups, edge), decisions


def _shares(groups, edge):
    return np.array([group.accepted(edge) / group.size for group in groups])


def _next_above(score):
    """The next larger float32 number that is 0 or normal: accelerators compare subnormal ones as 0."""
    with np.errstate(over="ignore", under="ignore"):
        above = np.nextafter(score, np.float32(np.inf))
    return flush(above) if above <= 0 else max(above, TINY)
