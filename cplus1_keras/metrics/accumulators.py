"""All open-set figures of an evaluation that comes in parts: exactly, or in constant memory with stated errors."""

import numpy as np

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import counting
from cplus1_keras.metrics.bins import BINS, lower_edge, to_bins
from cplus1_keras.metrics.intervals import bootstrap

KINDS = ("known", "right", "negative", "unknown")
FPRS = (0.01, 0.05, 0.1, 0.3)


class OpenSetScores:
    """What `ExactScores` and `BinnedScores` share: one way to count and one schema of figures."""

    def __init__(self, threshold=None):
        self.threshold = None if threshold is None else np.asarray(threshold, "float32")
        self.totals, self.accepted = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)

    def update(self, labels, predictions, scores):
        """Count some samples, as many and of whatever shape; arguments and errors are those of `metrics.oscr`."""
        kept = np.asarray(labels) != IGNORE
        labels, predictions, scores = counting.flatten(labels, predictions, scores)
        kinds = {"known": labels >= 0, "right": labels == predictions}
        kinds |= {"negative": labels == NEGATIVE, "unknown": labels == UNKNOWN}
        for kind, inside in kinds.items():
            self.totals[kind] += int(np.count_nonzero(inside))
        if self.threshold is not None:
            accepted = scores.astype("float32") >= np.broadcast_to(self.threshold, kept.shape)[kept]
            for kind, inside in kinds.items():
                self.accepted[kind] += int(np.count_nonzero(accepted & inside))
        self._keep(labels, predictions, scores, kinds)

    def summary(self, fprs=FPRS, groups=None):
        """The figures for each group.

        Args:
            fprs: False positive rates at which to state the CCR.
            groups: Which of `"negative"`, `"unknown"`, `"both"`; None takes those of the first two that have members.

        Returns:
            `{group: figures}`, ready for JSON: `knowns` and `members` (counts), `accuracy`, `ccr_at_fpr_0.01` and so
            on, `auroc`, `aupr_known`, `aupr_group`, `fpr95`, `open_auc`, and how far they can be trusted: `intervals`
            or `errors`. What the samples cannot resolve is None.
        """
        fprs, result = counting.check_rates("fprs", list(fprs)), {}
        for group in self.groups if groups is None else groups:
            counts = self.counts(group)
            numbers = {"knowns": int(counts.known.sum()), "members": int(counts.group.sum())}
            figures = {name: to_json(value) for name, value in counting.figures(counts, fprs).items()}
            result[group] = {**numbers, **figures, **self._trust(counts, fprs, group)}
        return result

    @property
    def groups(self):
        """Those of the negatives and the unknowns that have members."""
        return [group for group in ("negative", "unknown") if self.totals[group]]

    def curve(self, group):
        """The OSCR curve of a group, as `metrics.oscr`; of `BinnedScores` at the lower edges of the bins."""
        counts = self.counts(group)
        known, others = counts.known.sum(), counts.group.sum()
        if not (known and others):
            raise ValueError(f"A curve needs knowns and members of the group {group!r}. Received: {known} and {others}")
        return counting.curve(counts)

    def at_threshold(self):
        """What the threshold does, counted exactly; None for the share of none.

        Returns:
            Dict of `threshold`; `ccr`, the share of the knowns that is accepted and right; `coverage`, `fpr_negative`
            and `fpr_unknown`, the shares of the knowns, the negatives and the unknowns that are accepted.
        """
        if self.threshold is None:
            raise ValueError(f"There is no threshold to judge. Make this `{type(self).__name__}(threshold=...)`.")

        def share(kind, of):
            return self.accepted[kind] / self.totals[of] if self.totals[of] else None

        shares = {"ccr": share("right", "known"), "coverage": share("known", "known")}
        shares |= {f"fpr_{group}": share(group, group) for group in ("negative", "unknown")}
        return {"threshold": self.threshold.tolist(), **shares}


class ExactScores(OpenSetScores):
    """Open-set figures of samples that fit in memory, exact, with bootstrap intervals.

    Args:
        threshold: A threshold whose effect is counted beside the figures without one, or None; for label sets (C,).
        samples: Replications for 95 % intervals, as `metrics.bootstrap`; 0 gives none.
        seed: Seed of the bootstrap.

    >>> scores = ExactScores(samples=0)
    >>> scores.update([0, 1, -2, -2], [0, 0, 0, 0], [0.9, 0.8, 0.9, 0.1])
    >>> figures = scores.summary(fprs=[0.1, 0.5])["unknown"]
    >>> figures["open_auc"], figures["ccr_at_fpr_0.1"], figures["ccr_at_fpr_0.5"]
    (0.375, None, 0.5)
    """

    def __init__(self, threshold=None, samples=1000, seed=0):
        super().__init__(threshold)
        self.samples, self.seed = samples, seed
        self.parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0, "float32"))]

    def _keep(self, labels, predictions, scores, kinds):
        self.parts.append((labels, predictions, scores))

    @property
    def arrays(self):
        """Labels, predictions and scores (N,) of all samples that are not ignored, in the order of the updates."""
        return tuple(np.concatenate(part) for part in zip(*self.parts, strict=True))

    def counts(self, group):
        """`counting.Counts` of a group."""
        return counting.count(*self.arrays, group)

    def _trust(self, counts, fprs, group):
        if not (self.samples and len(counts.thresholds)):
            return {}
        labels, predictions, scores = self.arrays
        kept = (labels >= 0) | np.isin(labels, counting.GROUPS[group])
        ranks = np.searchsorted(counts.thresholds, scores[kept])

        def values(*drawn):
            return np.array([*counting.figures(counting.tally(*drawn, counts.thresholds), fprs).values()])

        given = labels[kept], predictions[kept], ranks
        _, low, high = bootstrap(values, *given, samples=self.samples, seed=self.seed)
        ends = zip(counting.figures(counts, fprs), low, high, strict=True)
        return {"intervals": {name: [to_json(low), to_json(high)] for name, low, high in ends}}


class BinnedScores(OpenSetScores):
    """Open-set figures of any number of samples in 8 MB, such as all pixels of a data set, each with its largest error.

    Scores are rounded down to the lower edge of their bin, 512 bins to each power of two. The figures are exact for
    those; `errors` says how far at most they are from the figures of the scores themselves, the accuracy not at all.

    Args:
        threshold: A threshold whose effect is counted exactly beside the figures without one, or None.

    >>> pixels = BinnedScores()
    >>> pixels.update([[0, 1], [-2, -2]], [[0, 0], [0, 0]], [[0.9, 0.8], [0.9, 0.1]])
    >>> figures = pixels.summary(fprs=[0.5])["unknown"]
    >>> figures["open_auc"], figures["ccr_at_fpr_0.5"], figures["errors"]["open_auc"]
    (0.375, 0.5, 0.125)
    """

    def __init__(self, threshold=None):
        super().__init__(threshold)
        self.histograms = {kind: np.zeros(BINS, "int64") for kind in KINDS}

    def _keep(self, labels, predictions, scores, kinds):
        bins = to_bins(scores)
        for kind, inside in kinds.items():
            self.histograms[kind] += np.bincount(bins[inside], minlength=BINS)

    def counts(self, group):
        """`counting.Counts` of a group."""
        counting.check_group(group)
        known, right, negative, unknown = self.histograms.values()
        inside = {"negative": negative, "unknown": unknown, "both": negative + unknown}[group]
        kept = np.flatnonzero(known + inside)
        return counting.Counts(lower_edge(kept), known[kept], right[kept], inside[kept])

    def _trust(self, counts, fprs, group):
        _, known, right, members = counts
        if not (known.any() and members.any()):
            return {"errors": dict.fromkeys([*counting.figures(counts, fprs)][1:])}
        pairs, last = float(known.sum()) * float(members.sum()), counting.last_accepting(counts, 0.95)
        errors = {
            **{f"ccr_at_fpr_{fpr:g}": _error_of_ccr(counts, fpr) for fpr in fprs},
            "auroc": float((known * (members / 2)).sum() / pairs),  # pairs in one bin may all be won, or all lost
            "aupr_known": _error_of_precision(known, members),
            "aupr_group": _error_of_precision(members[::-1], known[::-1]),
            "fpr95": float(members[last] / members.sum()),
            "open_auc": float((right * (members / 2)).sum() / pairs),
        }
        return {"errors": errors}


def _error_of_ccr(counts, fpr):
    """The exact threshold lies in the chosen bin, or in the one below the lowest edge with this FPR."""
    group, right = counting.accumulate(counts.group), counting.accumulate(counts.right)
    first = int(np.flatnonzero(group / group[0] <= fpr)[0])
    later = np.flatnonzero(counts.group[first:])
    if not later.size:
        return None
    value, highest, lowest = (int(right[i]) for i in (first + later[0], max(first - 1, 0), first + later[0] + 1))
    return max(highest - value, value - lowest) / int(counts.known.sum())


def _error_of_precision(found, other):
    """Within a bin precision lies between that of its first sample found last, and of all found before the others."""
    chosen, true, false = found > 0, counting.accumulate(found), counting.accumulate(other)
    highest = true[:-1] / np.maximum(true[:-1] + false[1:], 1)
    lowest = (true[1:] + 1) / (true[1:] + 1 + false[:-1])
    value = true[:-1] / np.maximum(true[:-1] + false[:-1], 1)
    error = np.maximum(highest - value, value - lowest)
    return float((found * error)[chosen].sum() / found.sum())


def to_json(value):
    """A figure as a float, None for NaN."""
    return None if np.isnan(value) else float(value)
