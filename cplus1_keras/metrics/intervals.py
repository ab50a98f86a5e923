"""How far a figure can be trusted: bootstrap intervals of any figure of `open_set`."""

from typing import NamedTuple

import numpy as np

from cplus1_keras.labels import NEGATIVE, UNKNOWN


class Interval(NamedTuple):
    """A figure and the ends of its interval; each a float, or an array where the figure is one."""

    estimate: float
    low: float
    high: float


def bootstrap(metric, labels, *arrays, confidence=0.95, samples=1000, seed=0, **arguments):
    """Percentile `Interval` of a figure, by drawing the evaluation's samples again with replacement.

    Knowns, negatives and unknowns are drawn apart, each as often as the evaluation has them. An end that would rest on
    replications that cannot resolve the figure is NaN. It measures the uncertainty of this finite test set, not that of
    training again with another seed.

    Args:
        metric: `metric(labels, *arrays, **arguments)` -> float or array.
        labels: Integers (N,) in the package's convention.
        *arrays: What else the metric takes, each (N, ...).
        confidence: Probability that the interval should cover, in (0, 1).
        samples: Number of replications, at least 1 / (1 - confidence).
        seed: Seed of the draws.
        **arguments: Passed to the metric, such as `group="unknown"`.

    >>> labels, scores = np.repeat([0, -2], 100), np.concatenate([np.linspace(0.3, 1, 100), np.linspace(0, 0.7, 100)])
    >>> interval = bootstrap(metrics.auroc, labels, scores, group="unknown")
    >>> bool(0.75 < interval.low < interval.estimate < interval.high < 0.9)
    True

    Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    if not 0 < confidence < 1 or samples * (1 - confidence) < 1 - 1e-9:
        raise ValueError(
            f"Needs `samples` >= 1 / (1 - confidence). Received: confidence={confidence}, samples={samples}"
        )
    labels, *arrays = map(np.asarray, (labels, *arrays))
    if labels.ndim != 1 or any(a.shape[:1] != labels.shape for a in arrays):
        shapes = ", ".join(str(a.shape) for a in (labels, *arrays))
        raise ValueError(f"`labels` must be of shape (N,) and each array of shape (N, ...). Received: {shapes}")
    estimate = metric(labels, *arrays, **arguments)
    kinds = [np.flatnonzero(kind) for kind in (labels >= 0, labels == NEGATIVE, labels == UNKNOWN)]
    generator, drawn = np.random.default_rng(seed), []
    for _ in range(samples):
        index = np.concatenate([kind[generator.integers(kind.size, size=kind.size)] for kind in kinds if kind.size])
        drawn.append(metric(labels[index], *(a[index] for a in arrays), **arguments))
    low, high = _percentiles(np.asarray(drawn, "float64"), confidence)
    return Interval(*(np.asarray(v) if np.ndim(estimate) else float(v) for v in (estimate, low, high)))


def _percentiles(drawn, confidence):
    """Ends of the interval over the first axis; unresolved replications push both ends outwards, at last to NaN."""
    tail, missing = (1 - confidence) / 2, np.isnan(drawn)
    low = np.quantile(np.where(missing, -np.inf, drawn), tail, axis=0, method="lower")
    high = np.quantile(np.where(missing, np.inf, drawn), 1 - tail, axis=0, method="higher")
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)
