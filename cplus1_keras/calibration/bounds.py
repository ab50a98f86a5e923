"""Upper confidence bounds on a rate: of single decisions, and of groups of decisions that depend on each other."""

import math

import numpy as np
from scipy.special import betaincinv

BETS = np.array([0.25, 0.5, 0.75, 1.0])  # 1 wins fastest where no share is large, less survives images full of errors


def clopper_pearson_upper(k, n, confidence):
    """The probability at which k or fewer events in n trials have the probability 1 - confidence; 1 where k = n.

    Args:
        k, n: Numbers of events and trials, 0 <= k <= n, n >= 1; integers or arrays.
        confidence: In (0, 1).

    >>> print(clopper_pearson_upper(0, 299, 0.95).round(5))
    0.00997

    Reference: Clopper and Pearson, Biometrika 26, 1934.
    """
    k, n = np.broadcast_arrays(k, n)
    if (k < 0).any() or (k > n).any() or (n < 1).any() or not 0 < confidence < 1:
        raise ValueError(f"Needs 0 <= k <= n >= 1, confidence in (0, 1). Received: k={k}, n={n}, {confidence=}")
    return np.where(k == n, 1.0, betaincinv(k + 1.0, np.maximum(n - k, 1), confidence))


def mean_upper_bound(values, confidence):
    """Upper bound on the mean of a distribution on [0, 1], from independent draws of it; valid for any number of them.

    Against the claim "the mean is at least m" one bets a share b of one's capital on each draw being below m:

        e(m) = mean over b of  prod_i (1 - b (x_i - m) / (1 - m)),   b in (1/4, 1/2, 3/4, 1)

    If the claim holds, e(m) has a mean of at most 1, so it reaches 1 / (1 - confidence) with a probability of at most
    1 - confidence (Markov). e rises with m, and the bound is the smallest m where it does: a float in (0, 1]. It is
    tight where the draws vary little, as shares of pixels do.

    Args:
        values: Draws (n,), in [0, 1], n >= 1.
        confidence: In (0, 1).

    >>> round(mean_upper_bound([0.02, 0.04, 0.03] * 30, 0.95), 4)
    0.0714

    Reference: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024, with
    bets that are fixed in advance.
    """
    values = np.asarray(values, "float64")
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all() or not 0 < confidence < 1:
        raise ValueError(f"Needs draws (n,) in [0, 1], confidence in (0, 1). Received: {values.shape}, {confidence=}")
    # No bet wins against the mean of the draws and those below: the product is at most 1 there.
    low, high = float(values.mean()), 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if refutes(values, middle, confidence) else (middle, high)
    return high


def refutes(values, mean, confidence):
    """Whether the draws refute a mean of `mean` or more: e(mean) of `mean_upper_bound` is large enough."""
    with np.errstate(divide="ignore"):
        logs = np.log(1 - BETS + BETS * ((1 - values[:, None]) / (1 - mean))).sum(axis=0)
    return np.logaddexp.reduce(logs) - math.log(len(BETS)) >= -math.log1p(-confidence)


def images_needed(rate, confidence=0.95, single=True):
    """Number of images with which a rate can be proved at all: if the threshold accepts nothing wrong in any of them.

    Args:
        rate, confidence: In (0, 1).
        single: Whether an image is one decision (Clopper-Pearson) or many, such as pixels (`mean_upper_bound`).

    >>> images_needed(0.1), images_needed(0.01), images_needed(0.1, single=False)
    (29, 299, 38)
    """
    if single:
        return math.ceil(round(math.log1p(-confidence) / math.log1p(-rate), 9))
    enough = images_needed(rate, 1 - (1 - confidence) / len(BETS)) + 1  # the bet 1 alone proves it with so many
    return first(lambda count: refutes(np.zeros(count), rate, confidence), 0, enough)


def first(allowed, low, high):
    """The lowest integer above `low` that is `allowed`, as are then all above it; `high` is taken to be."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if allowed(middle) else (middle, high)
    return high
