"""Long tails: the imbalanced MNIST of the C2AM paper. `method` is a key of `families.TAILS`."""

import dataclasses
import functools

import numpy as np

from cplus1_keras import backbones, data, models
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.families import TAILS, tail_head, tail_loss
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import SGDWithL2, cosine
from cplus1_keras.tasks import Classification

RARE = ("7", "8", "9")
"""The digits of the paper's section 3.3 of which few images train."""


def tail_splits(seed, few=100, data_dir=None, download=False, knowns="train"):
    """MNIST, all digits known, with `few` training images of each of `RARE`; the seed chooses them."""
    parts = (data.sources.tfds("mnist", part, data_dir=data_dir, download=download) for part in (knowns, "test"))
    protocol = data.Protocol(tuple("0123456789"), name="mnist_tail")
    splits = data.split(protocol, *parts, calibration_fraction=0.05, validation_fraction=0.05, seed=seed)
    return dataclasses.replace(splits, train=cut(splits.train, RARE, few, seed))


def cut(split, rare, few, seed):
    """A split of images with one class each that has at most so many of some classes, at random.

    >>> splits = data.split(data.protocols.digits(), data.sources.digits())
    >>> data.image_counts(cut(splits.train, ["3"], 10, seed=0))
    array([89, 91, 88, 10, 90, 91])
    """
    order = np.random.default_rng([seed, 3]).permutation(len(split))
    labels = split.labels[order]
    kept = np.ones(len(split), bool)
    for name in rare:
        kept[np.flatnonzero(labels == split.protocol.class_names.index(name))[few:]] = False
    return split.subset(np.sort(order[kept]))


def mnist_tail(method="c2am", few=100, data_dir: str | None = None, download=False, knowns="train"):
    """Ten digits with 100 training images of 7, 8 and 9, and thousands of each other.

    Args:
        method: A key of `families.TAILS`; `--set sampling=class_aware` and `repeat_factor` go with each.
        few: Training images of each of 7, 8 and 9.
        data_dir, download: As for `data.sources.tfds`.
        knowns: The slice of MNIST that trains, calibrates and watches.

    Reference: C2AM (2022), section 3.3: features of length 50; the net and its training are ours.

    >>> mnist_tail("seesaw").name
    'mnist_tail_seesaw'
    """
    check_choice("method", method, TAILS)
    net = functools.partial(backbones.small_cnn, (28, 28, 1), features=50)
    return Experiment(
        name=f"mnist_tail_{method}",
        task=Classification(),
        data=functools.partial(tail_splits, few=few, data_dir=data_dir, download=download, knowns=knowns),
        model=functools.partial(models.classifier, backbone=net, head=functools.partial(tail_head, method=method)),
        loss=functools.partial(tail_loss, method=method),
        # C2AM's norms shrink by weight decay alone.
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=5e-4),
        learning_rate=0.02,
        schedule=cosine,
        steps=1000,
        interval=500,
    )
