"""Thresholds for pixels, with a guarantee that counts images: the pixels of one image are not independent.

What is controlled is the mean over images of the share of an image's pixels that is accepted. The guarantee covers
images like those of the calibration split, which must have chosen neither weights, steps nor hyper-parameters.
"""

import math

import numpy as np

from cplus1_keras.calibration import Calibration
from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.metrics.pixels import BITS, bins_of, edge_of

BETS = np.array([0.25, 0.5, 0.75, 1.0])
"""Shares of the capital that are bet: 1 wins fastest where no share is ever large, less survives images full of errors.
"""


def threshold_at_pixel_fpr(images, fpr, confidence=0.95, score=None):
    """Lowest threshold whose false positive rate on background pixels, on average over images, is at most `fpr`.

    Of image i the threshold accepts the share F_i of the background's pixels; images without background say nothing and
    are left out. F_i falls as the threshold rises, and so does `mean_upper_bound` of all F_i, so the lowest threshold
    with a bound <= `fpr` has a mean over all images like these above `fpr` with probability at most 1 - confidence.
    Thresholds are lower edges of the bins of `metrics.PixelScores`, 512 to each power of two, and F_i is exact there.

    Args:
        images: Iterable of pairs (labels, scores), an image each, of whatever shape: integers in the package's
            convention and real numbers, higher = more known. Read once; of an image only a histogram is kept.
        fpr: Rate asked for, in (0, 1).
        confidence: In (0, 1).
        score: Name of the score, kept as evidence.

    Returns:
        A `Calibration` with rule `"fpr"`, whose samples are images.

    Raises:
        ValueError: for too few images with background pixels (the message says how many it needs), NaN scores, more
            infinite scores than may be accepted, rates outside (0, 1), shapes that differ.

    Example:

    >>> images = [(np.full((4, 4), -1), np.arange(16.0).reshape(4, 4) + i / 8) for i in range(60)]
    >>> print(threshold_at_pixel_fpr(images, 0.1))  # doctest: +NORMALIZE_WHITESPACE
    Accept score >= 20.03: 3.44 % of an image's negatives accepted, the mean of 60 images (33 of 960 pixels);
    at 95 % confidence at most 9.7 %; asked: 10 %.

    Reference: Bates et al., "Distribution-Free, Risk-Controlling Prediction Sets", JACM 2021, Theorem 1, with the bound
    of `mean_upper_bound`.
    """
    histograms = _histograms(images, is_negative)
    _check_number(len(histograms), fpr, confidence, "FPR", fpr, "negative")

    def shares(index):
        return np.array([h.accepted(index) for h in histograms])

    edge = _first(lambda index: _proves(shares(index), fpr, confidence))
    if edge >= int(bins_of(np.inf)):
        raise ValueError("Too many scores are infinite: no threshold refuses them. Take `log_odds`, or repair the net.")
    return _calibration(histograms, edge, "fpr", fpr, confidence, mean_upper_bound(shares(edge), confidence), score)


def threshold_at_pixel_coverage(images, coverage, confidence=0.95, score=None):
    """Highest threshold that accepts at least `coverage` of an image's known pixels, on average over images.

    For protocols without a background. As `threshold_at_pixel_fpr`, for the share of known pixels that is refused.

    Args:
        images, confidence, score: As for `threshold_at_pixel_fpr`.
        coverage: Share of the known pixels to accept, in (0, 1).

    Returns:
        A `Calibration` with rule `"coverage"`, whose samples are images; its bound is a lower one.

    Raises:
        ValueError: as `threshold_at_pixel_fpr`, for images with known pixels.

    Example:

    >>> images = [(np.zeros((4, 4), int), np.arange(16.0).reshape(4, 4)) for i in range(60)]
    >>> threshold_at_pixel_coverage(images, 0.8).threshold
    2.0
    """
    histograms = _histograms(images, is_known)
    _check_number(len(histograms), 1 - coverage, confidence, "coverage", coverage, "known")

    def refused(index):
        return np.array([1 - h.accepted(index) for h in histograms])

    edge = _first(lambda index: not _proves(refused(index), 1 - coverage, confidence)) - 1
    bound = 1 - mean_upper_bound(refused(edge), confidence)
    return _calibration(histograms, edge, "coverage", coverage, confidence, bound, score)


def mean_upper_bound(values, confidence):
    """Upper bound on the mean of a distribution on [0, 1], from independent draws of it; valid for any number of them.

    Against the claim "the mean is at least m" one bets a share b of one's capital on each draw being below m:

        e(m) = mean over b of  prod_i (1 - b (x_i - m) / (1 - m)),   b in (1/4, 1/2, 3/4, 1)

    If the claim holds, e(m) has a mean of at most 1, so it reaches 1 / (1 - confidence) with a probability of at most
    1 - confidence (Markov). e rises with m, and the bound is the smallest m where it does. It falls and rises with each
    draw, whatever their order, and it is tight where the draws vary little: those of shares of pixels do. With x_i = 0
    throughout, 95 % and m = 0.1 it takes 38 draws, where Clopper-Pearson, for draws that are 0 or 1, takes 29.

    Args:
        values: Draws (n,), in [0, 1], n >= 1.
        confidence: In (0, 1).

    Returns:
        A float in (0, 1].

    Raises:
        ValueError: for no draw, draws outside [0, 1] or NaN, a confidence outside (0, 1).

    Example:

    >>> round(mean_upper_bound([0.02, 0.04, 0.03] * 30, 0.95), 4)
    0.0714

    Reference: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024, with
    bets that are fixed in advance.
    """
    values = np.asarray(values, "float64")
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all() or not 0 < confidence < 1:
        raise ValueError(
            "Needs draws (n,) in [0, 1], n at least 1, and a confidence in (0, 1). "
            f"Received: shape {values.shape}, confidence={confidence}"
        )
    # No bet wins against the mean of the draws and those below: the product is at most 1 there.
    low, high = float(values.mean()), 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if _proves(values, middle, confidence) else (middle, high)
    return high


def images_needed(rate, confidence=0.95):
    """Number of images with which a rate can be proved at all: if the threshold accepts no pixel of any of them.

    Args:
        rate: In (0, 1).
        confidence: In (0, 1).

    Returns:
        int.

    Example:

    >>> images_needed(0.1), images_needed(0.01)
    (38, 392)
    """
    low, high = 0, 1
    while not _proves(np.zeros(high), rate, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _proves(np.zeros(middle), rate, confidence) else (middle, high)
    return high


class _Histogram:
    """One image's pixels of one kind, by bins of their scores."""

    def __init__(self, scores):
        self.bins, counts = np.unique(bins_of(scores).astype("uint32"), return_counts=True)
        self.above = np.append(counts[::-1].cumsum()[::-1], 0).astype("uint32")
        self.pixels = int(scores.size)

    def number(self, index):
        """How many pixels the edge of this bin accepts."""
        return int(self.above[np.searchsorted(self.bins, index)])

    def accepted(self, index):
        """Their share."""
        return self.number(index) / self.pixels


def _histograms(images, is_of_kind):
    histograms = []
    for number, (labels, scores) in enumerate(images):
        labels, scores = np.asarray(labels), np.asarray(scores)
        if labels.shape != scores.shape:
            raise ValueError(f"Image {number} has labels of shape {labels.shape} and scores of shape {scores.shape}.")
        scores = scores[is_of_kind(labels)]
        if np.isnan(scores).any():
            raise ValueError(f"Image {number} has NaN scores, {np.isnan(scores).sum():,} of {scores.size:,}.")
        if scores.size:
            histograms.append(_Histogram(scores))
    return histograms


def _check_number(images, rate, confidence, what, asked, kind):
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise ValueError(f"{what} and confidence must lie in (0, 1). Received: {asked} and {confidence}")
    needed = images_needed(rate, confidence)
    if images < needed:
        raise ValueError(
            f"{what} {asked:g} at {100 * confidence:g} % confidence needs at least {needed:,} images with {kind} "
            f"pixels; there are {images:,}. Pixels of one image are not independent, so they do not count. Calibrate "
            "on more images, or ask for less."
        )


def _proves(values, mean, confidence):
    """Whether the draws refute a mean of `mean` or more: e(mean) of `mean_upper_bound` is large enough."""
    with np.errstate(divide="ignore"):
        logs = np.log(1 - BETS + BETS * ((1 - values[:, None]) / (1 - mean))).sum(axis=0)
    return np.logaddexp.reduce(logs) - math.log(len(BETS)) >= -math.log1p(-confidence)


def _first(allowed):
    """The lowest bin for which `allowed` holds, which then holds for all above; one above all if it never does."""
    low, high = -1, 2**BITS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if allowed(middle) else (middle, high)
    return high


def _calibration(histograms, index, rule, target, confidence, bound, score):
    accepted, pixels = sum(h.number(index) for h in histograms), sum(h.pixels for h in histograms)
    rate = float(np.mean([h.accepted(index) for h in histograms]))
    found = float(edge_of(index)), rule, float(target), confidence, len(histograms), accepted, rate, float(bound), score
    return Calibration(*found, pixels=pixels)
