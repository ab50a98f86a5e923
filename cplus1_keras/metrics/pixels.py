"""Open-set figures over the pixels of any number of images, in constant memory, each with a bound on its error.

A score is rounded down to a number of few bits, and only histograms are kept: 2^18 bins, which split each power of two
in 512. Every figure is the exact one of `open_set` on the rounded scores; how far the figure of the scores themselves
can lie from it follows from what shares a bin, and is stated beside it.
"""

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import counting, report

BITS = 18
TINY = np.finfo(np.float32).tiny
SIGN = np.uint32(1 << 31)
SHIFT = np.uint32(32 - BITS)
KINDS = ("known", "right", "negative", "unknown")


class PixelScores:
    """Histograms of the scores of known, rightly classified, negative and unknown pixels; 8 MB whatever was counted.

    Args:
        threshold: A threshold whose effect is counted exactly beside the figures without one, or None.

    Example:

    >>> pixels = PixelScores()
    >>> pixels.update([[0, 1], [-2, -2]], [[0, 0], [0, 0]], [[0.9, 0.8], [0.9, 0.1]])
    >>> figures = pixels.summary(fprs=[0.5])["unknown"]
    >>> figures["open_auc"], figures["ccr_at_fpr_0.5"], figures["errors"]["open_auc"]
    (0.375, 0.5, 0.125)
    """

    def __init__(self, threshold=None):
        self.threshold = threshold
        self.histograms = {kind: np.zeros(2**BITS, "int64") for kind in KINDS}
        self.accepted = dict.fromkeys(KINDS, 0)

    def update(self, labels, predictions, scores):
        """Count some pixels, as many and of whatever shape.

        Args:
            labels: Integers (...) in the package's convention.
            predictions: Integers (...), argmax over the knowns, before any rejection.
            scores: Real numbers (...), higher = more known; taken as float32.

        Raises:
            ValueError: for shapes that differ, a NaN score, a label outside the convention.
        """
        labels, predictions, scores = counting.checked(labels, predictions, scores)
        bins = bins_of(scores)
        chosen = [labels >= 0, labels == predictions, labels == NEGATIVE, labels == UNKNOWN]
        for kind, inside in zip(KINDS, chosen, strict=True):
            self.histograms[kind] += np.bincount(bins[inside], minlength=2**BITS)
            if self.threshold is not None:
                self.accepted[kind] += int(np.count_nonzero(scores[inside] >= np.float32(self.threshold)))

    def summary(self, fprs=(0.01, 0.05, 0.1, 0.3), groups=("negative", "unknown")):
        """The figures for each group.

        Args:
            fprs: False positive rates at which to state the CCR.
            groups: Which of `"negative"`, `"unknown"`, `"both"`.

        Returns:
            `{group: figures}`, plain Python, ready for JSON: `knowns` and `members` (pixels), `accuracy`,
            `ccr_at_fpr_0.01` and so on, `auroc`, `fpr95`, `open_auc`, and `errors`, for each figure but the accuracy,
            which is exact, how far at most it is from the exact one. What the pixels cannot resolve is None.

        Raises:
            ValueError: for a group of another name, a rate outside [0, 1].
        """
        fprs, result = counting.rate("fprs", list(fprs)), {}
        for group in groups:
            known, right, inside = self._histograms(group)
            knowns, size = int(known.sum()), int(inside.sum())
            accuracy = int(right.sum()) / knowns if knowns else None
            figures = {"knowns": knowns, "members": size, "accuracy": accuracy}
            pairs = _figures(known, right, inside, fprs) if knowns and size else _nothing(fprs)
            figures |= {name: value for name, (value, _) in pairs.items()}
            result[group] = {**figures, "errors": {name: error for name, (_, error) in pairs.items()}}
        return result

    def curve(self, group="unknown"):
        """The OSCR curve of a group, of scores rounded down to their bins' lower edges.

        Args:
            group: "negative", "unknown" or "both".

        Returns:
            `metrics.OSCR`, as `metrics.oscr` gives it: a threshold for each bin that the group has scores in.

        Raises:
            ValueError: for a group of another name, or without pixels of it or of known classes.

        >>> pixels = PixelScores()
        >>> pixels.update([0, 1, -2, -2], [0, 1, 0, 0], [0.75, 0.5, 0.5, 0.625])
        >>> [values.tolist() for values in pixels.curve()]
        [[0.5, 0.625], [1.0, 0.5], [1.0, 0.5]]
        """
        known, right, inside = self._histograms(group)
        if not known.any() or not inside.any():
            raise ValueError(f"A curve needs known pixels and {group} ones. Received: {known.sum()} and {inside.sum()}")
        kept = np.flatnonzero(inside)
        fpr, ccr = (h[::-1].cumsum()[::-1][kept] for h in (inside, right))
        thresholds = np.array([edge_of(index) for index in kept])
        return counting.OSCR(thresholds, fpr / inside.sum(), ccr / known.sum())

    def _histograms(self, group):
        """Histograms of the knowns, the right ones and the group."""
        counting.members(np.array([0]), group)
        members = {"negative": ["negative"], "unknown": ["unknown"], "both": ["negative", "unknown"]}[group]
        return self.histograms["known"], self.histograms["right"], sum(self.histograms[kind] for kind in members)

    def at_threshold(self):
        """What the threshold does, counted exactly.

        Returns:
            Dict of `threshold`; `ccr`, the share of known pixels answered rightly; `coverage`, the share of them that
            is accepted; `fpr_negative` and `fpr_unknown`, the share of those pixels that is accepted; None where there
            is no such pixel.

        Raises:
            ValueError: no threshold was given.
        """
        if self.threshold is None:
            raise ValueError("There is no threshold to judge. Make this `PixelScores(threshold=...)`.")
        kinds = {"ccr": ("right", "known"), "coverage": ("known", "known")}
        kinds |= {f"fpr_{kind}": (kind, kind) for kind in ("negative", "unknown")}
        totals = {kind: int(self.histograms[kind].sum()) for kind in KINDS}
        shares = {n: self.accepted[kind] / totals[of] if totals[of] else None for n, (kind, of) in kinds.items()}
        return {"threshold": float(self.threshold), **shares}


def table(summaries):
    """A summary of `PixelScores` as a Markdown table, a row for each group.

    >>> pixels = PixelScores()
    >>> pixels.update([0, 1, -2], [0, 0, 0], [0.9, 0.8, 0.7])
    >>> print(table(pixels.summary(fprs=[], groups=["unknown"])))
    | group   | knowns | members | accuracy | auroc | fpr95 | open_auc |
    |---------|--------|---------|----------|-------|-------|----------|
    | unknown | 2      | 1       | 0.500    | 1.000 | 0.000 | 0.500    |
    """
    figures = [name for name in next(iter(summaries.values())) if name != "errors"]
    return report.table(summaries, figures)


def without_edges(labels, width):
    """Labels in which the pixels near an edge are `IGNORE`: what lies there is a matter of taste of who drew the mask.

    A pixel is near an edge if another label lies in the square of side 2·width + 1 around it. Ignored pixels make no
    edge; background and unknown classes do.

    Args:
        labels: Integers (H, W), or (..., H, W).
        width: Pixels on each side of an edge, an int >= 0.

    Returns:
        Array of the shape of `labels`.

    Raises:
        ValueError: for another width or fewer axes.

    Example:

    >>> without_edges([[0, 0, 0, 1, 1, 1]], 1)
    array([[   0,    0, -100, -100,    1,    1]])

    Reference: the trimap of Kohli et al., "Robust higher order potentials for enforcing label consistency", IJCV 2009.
    """
    labels = np.asarray(labels)
    if labels.ndim < 2 or not isinstance(width, int | np.integer) or width < 0:
        raise ValueError(
            f"Needs labels (..., H, W) and a width in pixels, an int >= 0. Received: {labels.shape}, width={width!r}"
        )
    window = (1,) * (labels.ndim - 2) + (2 * width + 1,) * 2
    limits, ignored = np.iinfo("int32"), labels == IGNORE
    highest = maximum_filter(np.where(ignored, limits.min, labels), window, mode="nearest")
    lowest = minimum_filter(np.where(ignored, limits.max, labels), window, mode="nearest")
    return np.where(highest > lowest, IGNORE, labels)


def bins_of(scores):
    """The bin of each score, in ascending order of the scores; NaN has none and must not be among them.

    >>> bins_of([-np.inf, -1.0, 0.0, 1.0, 1.001, 1.002]).tolist()
    [511, 66047, 131072, 196096, 196096, 196097]
    """
    with np.errstate(over="ignore"):
        scores = np.asarray(scores).astype("float32")
    # Accelerators compare subnormal numbers as 0, and -0.0 equals 0.0.
    bits = np.where(np.abs(scores) < TINY, np.float32(0), scores).view("uint32")
    return (np.where(bits & SIGN, ~bits, bits | SIGN) >> SHIFT).astype("int64")


def edge_of(index):
    """The smallest number in a bin, a float32: a score is at least this if and only if its bin is at least `index`.

    >>> edge_of(196097)
    np.float32(1.0019531)
    """
    ordered = np.uint32(index) << SHIFT
    edge = (ordered ^ SIGN if ordered & SIGN else ~ordered).view("float32")
    if np.isnan(edge):
        return np.float32(-np.inf)
    return edge if abs(edge) >= TINY else np.float32(0 if edge <= 0 else TINY)


def _nothing(fprs):
    names = [*(f"ccr_at_fpr_{fpr:g}" for fpr in fprs), "auroc", "fpr95", "open_auc"]
    return dict.fromkeys(names, (None, None))


def _figures(known, right, group, fprs):
    """`{figure: (value, bound on its error)}` of histograms that are not empty."""
    kept = np.flatnonzero(known + group)
    known, right, group = known[kept], right[kept], group[kept]
    knowns, members = int(known.sum()), int(group.sum())
    # Accepted by the lower edge of each bin that is not empty, and by an edge above them all: 0.
    above = {name: np.append(h[::-1].cumsum()[::-1], 0) for name, h in (("k", known), ("r", right), ("g", group))}
    figures = {f"ccr_at_fpr_{fpr:g}": _ccr(above, group, fpr, knowns) for fpr in fprs}
    figures["auroc"] = _pairs(known, group, knowns * members)
    # As in `fpr_at_tpr`: the fewest knowns that make up the share; 0.95 n rounds to their number or to its neighbour.
    fewest = next(k for k in range(int(0.95 * knowns), knowns + 1) if k / knowns >= 0.95)
    last = np.flatnonzero(above["k"] >= fewest)[-1]
    figures["fpr95"] = float(above["g"][last] / members), float(group[last] / members)
    figures["open_auc"] = _pairs(right, group, knowns * members)
    return figures


def _pairs(high, low, total):
    """Share of the pairs that `high` wins, those of one bin counted 1/2, and half the share of these."""
    high, low = high.astype("float64"), low.astype("float64")  # their products may exceed 2^63
    won, shared = high @ (np.cumsum(low) - low), high @ low
    return float((won + shared / 2) / total), float(shared / 2 / total)


def _ccr(above, group, fpr, knowns):
    """CCR at the lowest bin of the group that accepts at most this share of it, and a bound on its error."""
    first = int(np.flatnonzero(above["g"] / above["g"][0] <= fpr)[0])  # the lowest edge, the one above all if need be
    later = np.flatnonzero(group[first:])
    if not later.size:
        return None, None
    chosen = first + int(later[0])
    value, highest, lowest = (int(above["r"][i]) for i in (chosen, max(first - 1, 0), chosen + 1))
    return value / knowns, max(highest - value, value - lowest) / knowns
