"""Thresholds with a guarantee: chosen on a calibration split, each with the evidence for it.

An input is accepted where `score >= threshold`. The guarantee covers inputs like the calibration samples, which must
have chosen neither weights, epochs nor hyper-parameters; it says nothing about classes that nobody has seen. A
threshold is a float32 number, so that NumPy, `Reject` and a SavedModel decide alike on float32 scores.
"""

import dataclasses
import math

import numpy as np
from scipy.special import betaincinv

TINY = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A threshold and its evidence, as `threshold_at_fpr` and `threshold_at_coverage` return it.

    Where images are calibrated pixel by pixel, the samples are images, for only they are independent: `rate` and
    `bound` are about the share of an image's pixels, on average over images.

    Args:
        threshold: Accept where score >= threshold; a float32 number.
        rule: `"fpr"`, chosen on negatives, or `"coverage"`, chosen on knowns.
        target: The rate asked for.
        confidence: Of the bound, in (0, 1).
        samples: Number of calibration samples.
        accepted: How many of them, or of their pixels, the threshold accepts.
        rate: accepted / samples, or the mean over images of the share of pixels accepted.
        bound: One-sided bound: the FPR is at most, or the coverage at least, this.
        score: Name of the score that the threshold belongs to, if it was given.
        pixels: Number of pixels, where `samples` counts images.

    Raises:
        ValueError: for another rule.

    Example:

    >>> print(threshold_at_fpr(np.linspace(0, 1, 101), 0.05, score="log_odds"))
    Accept log_odds >= 0.99: 1 of 101 negatives accepted (0.99 %); at 95 % confidence at most 4.61 %; asked: 5 %.
    """

    threshold: float
    rule: str
    target: float
    confidence: float
    samples: int
    accepted: int
    rate: float
    bound: float
    score: str | None = None
    pixels: int | None = None

    def __post_init__(self):
        if self.rule not in ("fpr", "coverage"):
            raise ValueError(f'`rule` must be "fpr" or "coverage". Received: rule={self.rule!r}')

    def __str__(self):
        kind, side = ("negatives", "at most") if self.rule == "fpr" else ("knowns", "at least")
        share, level, bound, target = (
            f"{100 * x:.3g} %" for x in (self.rate, self.confidence, self.bound, self.target)
        )
        start = f"Accept {self.score or 'score'} >= {self.threshold:.4g}: "
        if self.pixels is not None:
            return (
                f"{start}{share} of an image's {kind} accepted, the mean of {self.samples:,} images "
                f"({self.accepted:,} of {self.pixels:,} pixels); at {level} confidence {side} {bound}; asked: {target}."
            )
        return (
            f"{start}{self.accepted:,} of {self.samples:,} {kind} accepted ({share}); at {level} confidence {side} "
            f"{bound}; asked: {target}."
        )

    def to_dict(self):
        """Plain Python values by field name, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`; a ValueError names fields that are missing or unheard of."""
        names = {field.name for field in dataclasses.fields(cls)}
        odd = sorted((names - {"score", "pixels"} - set(values)) | (set(values) - names))
        if odd:
            raise ValueError(f"A Calibration has the fields {', '.join(sorted(names))}. Missing or unknown: {odd}")
        return cls(**values)


def threshold_at_fpr(scores, fpr, confidence=0.95, score=None):
    """Lowest threshold whose false positive rate is at most `fpr`, at a confidence, on inputs like these negatives.

    Of n negatives at most k may be accepted, k the largest number whose one-sided Clopper-Pearson upper bound is
    <= fpr. The threshold is the next float32 number above the (k+1)-th highest score, so ties are refused together.
    Over draws of the negatives the true FPR exceeds `fpr` with probability at most 1 - confidence.

    Args:
        scores: Scores (n,) of the calibration split's negatives, higher = more known; taken as float32.
        fpr: False positive rate asked for, in (0, 1).
        confidence: In (0, 1).
        score: Name of the score, kept as evidence.

    Returns:
        A `Calibration` with rule `"fpr"`.

    Raises:
        ValueError: where n < ln(1 - confidence) / ln(1 - fpr): not even refusing all n would prove the rate. Also for
            NaN scores, an infinite score that no threshold refuses, rates outside (0, 1).

    Example:

    >>> calibration = threshold_at_fpr(np.arange(100.0), 0.1)
    >>> calibration.accepted, round(calibration.bound, 4)
    (4, 0.0892)

    Reference: Clopper and Pearson, Biometrika 26, 1934; for order statistics Wilks, 1941.
    """
    ascending = prepared(scores)
    allowed = largest_count(ascending.size, fpr, confidence, "FPR", "negatives", fpr)
    refused = ascending[ascending.size - 1 - allowed]
    threshold = next_above(refused)
    if refused == np.inf:
        raise ValueError(f"More than {allowed} of the {ascending.size} scores are infinite: no threshold refuses them.")
    accepted = int(ascending.size - np.searchsorted(ascending, threshold))
    bound = float(clopper_pearson_upper(accepted, ascending.size, confidence))
    return evidence(threshold, "fpr", fpr, confidence, ascending.size, accepted, bound, score)


def threshold_at_coverage(scores, coverage, confidence=0.95, score=None):
    """Highest threshold whose coverage is at least `coverage`, at a confidence, on inputs like these knowns.

    For where there are no negatives. Of n knowns at most k may be refused, k the largest number whose one-sided
    Clopper-Pearson upper bound is <= 1 - coverage; the threshold is the (k+1)-th lowest score.

    Args:
        scores: Scores (n,) of the calibration split's knowns, higher = more known; taken as float32.
        coverage: Share of the knowns to accept, in (0, 1).
        confidence: In (0, 1).
        score: Name of the score, kept as evidence.

    Returns:
        A `Calibration` with rule `"coverage"`; its bound is a lower one.

    Raises:
        ValueError: where n is too small to prove the coverage, for NaN scores, for rates outside (0, 1).

    Example:

    >>> calibration = threshold_at_coverage(np.arange(100.0), 0.9)
    >>> calibration.threshold, calibration.accepted, round(calibration.bound, 4)
    (4.0, 96, 0.9108)

    Reference: as `threshold_at_fpr`.
    """
    ascending = prepared(scores)
    allowed = largest_count(ascending.size, 1 - coverage, confidence, "Coverage", "knowns", coverage)
    threshold = ascending[allowed]
    accepted = int(ascending.size - np.searchsorted(ascending, threshold))
    bound = 1 - float(clopper_pearson_upper(ascending.size - accepted, ascending.size, confidence))
    return evidence(threshold, "coverage", coverage, confidence, ascending.size, accepted, bound, score)


def clopper_pearson_upper(k, n, confidence):
    """One-sided upper confidence bound on the probability behind k events in n trials.

    The p for which k or fewer events have the probability 1 - confidence; 1 where k = n.

    Args:
        k: Number of events, 0 to n; an integer or an array.
        n: Number of trials, at least 1; an integer or an array.
        confidence: In (0, 1).

    Returns:
        Floats in (0, 1] of the common shape.

    Raises:
        ValueError: for k outside 0 to n, a confidence outside (0, 1).

    Example:

    >>> print(clopper_pearson_upper(0, 299, 0.95).round(5))
    0.00997

    Reference: Clopper and Pearson, Biometrika 26, 1934.
    """
    k, n = np.broadcast_arrays(k, n)
    if (k < 0).any() or (k > n).any() or (n < 1).any() or not 0 < confidence < 1:
        raise ValueError(
            "k must lie in 0..n, n be at least 1 and confidence lie in (0, 1). "
            f"Received: k={k}, n={n}, confidence={confidence}"
        )
    return np.where(k == n, 1.0, betaincinv(k + 1.0, np.maximum(n - k, 1), confidence))


def largest_count(n, rate, confidence, what, kind, asked):
    """Largest k of n whose upper bound is <= rate; a ValueError where even 0 of n would not do."""
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise ValueError(f"{what} and confidence must lie in (0, 1). Received: {asked} and {confidence}")
    needed = math.ceil(round(math.log1p(-confidence) / math.log1p(-rate), 9))
    if n < needed:
        raise ValueError(
            f"{what} {asked:g} at {100 * confidence:g} % confidence needs at least {needed:,} {kind}; there are {n:,}. "
            "Calibrate on more of them, or ask for less."
        )
    low, high = 0, n  # low is allowed, high is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if clopper_pearson_upper(middle, n, confidence) <= rate else (low, middle)
    return low


def prepared(scores):
    """The scores as ascending float32."""
    scores = np.asarray(scores)
    if scores.ndim != 1 or scores.dtype.kind not in "fiu":
        raise ValueError(f"`scores` must be real numbers (n,). Received: shape={scores.shape}, dtype={scores.dtype}")
    if np.isnan(scores).any():
        raise ValueError(f"`scores` must not be NaN, and {np.isnan(scores).sum():,} of {scores.size:,} are.")
    with np.errstate(over="ignore"):
        scores = np.sort(scores.astype("float32"))
    return np.where(np.abs(scores) < TINY, np.float32(0), scores)


def next_above(score):
    """The next larger float32 number that is 0 or normal: accelerators compare subnormal ones as 0."""
    with np.errstate(over="ignore", under="ignore"):
        above = np.nextafter(score, np.float32(np.inf))
    if 0 < abs(above) < TINY:
        return TINY if above > 0 else np.float32(0)
    return above


def evidence(threshold, rule, target, confidence, samples, accepted, bound, score):
    """The `Calibration`, in plain Python numbers."""
    rate = accepted / samples
    return Calibration(float(threshold), rule, float(target), confidence, samples, accepted, rate, bound, score)
