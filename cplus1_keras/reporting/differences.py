"""Whether one run is better than another: paired differences on the images that both were judged on."""

import numpy as np

from cplus1_keras.labels import IGNORE
from cplus1_keras.metrics import bootstrap, counting
from cplus1_keras.metrics.accumulators import FPRS, to_json
from cplus1_keras.reporting.runs import read_predictions

WORK = 4e7
"""Images times replications of a bootstrap, about two seconds."""


def differences(run, other, group):
    """Figures of a run minus those of another, on the images that both were judged on, drawn together.

    Args:
        run, other: `Run`s.
        group: `"negative"`, `"unknown"` or `"both"`.

    Returns:
        Dict by figure of `[difference, low, high]`, the ends of a 95 % bootstrap interval, each a float or None; empty
        where the runs do not tell one label for each image, or share no images.

    >>> differences(read_run("runs/a"), read_run("runs/b"), "unknown")["auroc"]  # doctest: +SKIP
    [0.012, 0.003, 0.021]
    """
    shared = _match(run, other)
    if shared is None:
        return {}
    labels, *arrays = shared
    kept = (labels >= 0) | np.isin(labels, counting.GROUPS[group])
    if not ((labels[kept] >= 0).any() and (labels[kept] < 0).any()):
        return {}
    thresholds, given = [], [labels[kept]]
    for predictions, scores in (arrays[:2], arrays[2:]):
        distinct, ranks = np.unique(scores[kept], return_inverse=True)
        thresholds.append(distinct)
        given += [predictions[kept], ranks]

    def values(labels, *drawn):
        pairs = zip((drawn[:2], drawn[2:]), thresholds, strict=True)
        first, second = (counting.figures(counting.tally(labels, *own, known), FPRS) for own, known in pairs)
        return np.array([first[name] - second[name] for name in first])

    names = [*counting.figures(counting.tally(*given[:3], thresholds[0]), FPRS)]
    ends = bootstrap(values, *given, samples=int(np.clip(WORK / len(given[0]), 100, 1000)))
    return {name: [*map(to_json, own)] for name, own in zip(names, np.transpose(ends), strict=True)}


def _match(run, other):
    """Labels, and predictions and scores of both, of the images that both name and label alike; None without any."""
    first, second = read_predictions(run.path), read_predictions(other.path)
    if first is None or second is None:
        return None
    _, left, right = np.intersect1d(first.examples, second.examples, return_indices=True)
    same = (first.labels[left] == second.labels[right]) & (first.labels[left] != IGNORE)
    left, right = left[same], right[same]
    if not len(left):
        return None
    ours = first.predictions[left], first.scores[left]
    return first.labels[left], *ours, second.predictions[right], second.scores[right]
