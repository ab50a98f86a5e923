"""Wrong labels on purpose: a step between a source and its training split. Calibration and test stay as they are."""

import copy
import dataclasses

import numpy as np


def symmetric(labels, num_classes, rate, generator):
    """Labels (N,) of C classes, each by the probability `rate` replaced by one of any class, its own among them.

    Reference: HNC (2020), section 4.5.

    >>> symmetric(np.zeros(8, int), 3, 1.0, np.random.default_rng(0)).tolist()
    [2, 1, 1, 0, 0, 0, 0, 0]
    """
    drawn = generator.integers(num_classes, size=len(labels))
    return np.where(generator.random(len(labels)) < rate, drawn, labels)


def circular(labels, num_classes, rate, generator):
    """Labels (N,) of C classes, each by the probability `rate` replaced by the next class, the last by the first.

    Reference: HNC (2020), section 4.5, asymmetric noise.

    >>> circular(np.array([0, 1, 2]), 3, 1.0, np.random.default_rng(0)).tolist()
    [1, 2, 0]
    """
    return np.where(generator.random(len(labels)) < rate, (labels + 1) % num_classes, labels)


def spoil(splits, noise, rate, seed=0):
    """Splits whose known training images have wrong labels; negatives and the other splits keep theirs.

    Args:
        splits: `data.Splits` of images with one class each.
        noise: `symmetric`, `circular`, or a function of one's own like them.
        rate: r in [0, 1].
        seed: int >= 0, of the draws.

    Returns:
        `data.Splits`, whose `noisy` tells how many labels differ.

    Raises:
        ValueError: For a rate outside [0, 1], or images with something else than a class.

    >>> from cplus1_keras import data
    >>> splits = data.split(data.protocols.digits(), data.sources.digits())
    >>> spoil(splits, circular, 0.2).noisy
    123
    """
    train = splits.train
    if not 0 <= rate <= 1:
        raise ValueError(f"The rate of label noise is a share in [0, 1]. Received: {rate}")
    if train.labels is None:
        raise ValueError(f"Label noise is for images with one class each. Received: {train.source!r}")
    known = np.flatnonzero(train.labels >= 0)
    wrong = noise(train.labels[known], splits.num_classes, rate, np.random.default_rng([seed, 2]))
    # Of a class that merges several names the first one stands for all.
    values = np.array([train.source.class_names.index(_first_name(train, c)) for c in range(splits.num_classes)])
    changed = wrong != train.labels[known]
    source = copy.copy(train.source)
    source.labels = source.labels.copy()
    source.labels[known[changed]] = values[wrong[changed]]
    spoilt = dataclasses.replace(train, source=source)
    return dataclasses.replace(splits, train=spoilt, noisy=int(changed.sum()))


def _first_name(split, label):
    """The first name of a known class that the source of a split has."""
    return next(name for name in split.protocol.known[label][1] if name in split.source.class_names)
