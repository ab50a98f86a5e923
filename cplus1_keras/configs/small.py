"""All families of losses on a net of three convolutions, small enough for a CPU: toy protocol, MNIST, CIFAR-10."""

import functools

import keras

from cplus1_keras import backbones, data
from cplus1_keras.configs import toy
from cplus1_keras.configs.families import families
from cplus1_keras.tasks.classification import Experiment

FEATURES = 10  # the thesis takes as many features as classes; anchors need at least that


def toy_small(
    method="objectosphere", data_dir="../shared/tfds", letters=toy.LETTERS, knowns="train[:4%]"
) -> Experiment:
    """The toy protocol, digits known and letters unknown, with a small net (--set method=)."""
    splits = functools.partial(toy.splits, data_dir=data_dir, letters=letters, knowns=knowns)
    return _experiment("toy_small", method, splits, 10, (28, 28, 1), negative_fraction=toy.NEGATIVE_FRACTION)


def mnist_small(method="objectosphere", data_dir="../shared/tfds", knowns="train[:6%]") -> Experiment:
    """MNIST, the field's first split with two unknown digits as negatives, with a small net (--set method=)."""
    splits = functools.partial(_one_set, "mnist", data.protocols.mnist(0, negatives=2), data_dir, knowns)
    return _experiment("mnist_small", method, splits, 6, (28, 28, 1))


def cifar10_small(method="objectosphere", data_dir="../shared/tfds", knowns="train[:60%]") -> Experiment:
    """CIFAR-10, the field's first split with two unknown classes as negatives, with a small net (--set method=)."""
    splits = functools.partial(_one_set, "cifar10", data.protocols.cifar10(0, negatives=2), data_dir, knowns)
    return _experiment("cifar10_small", method, splits, 6, (32, 32, 3))


def _one_set(name, protocol, data_dir, knowns, seed):
    train, test = (data.sources.tfds(name, part, data_dir=data_dir) for part in (knowns, "test"))
    return data.split(protocol, train, test, unknown_from_test_only=True, seed=seed)


def _experiment(name, method, splits, num_classes, shape, **settings):
    family = families(num_classes, FEATURES)[method]
    form = {"pool": False} if family.maps else {"features": FEATURES}
    return Experiment(
        name=f"{name}_{method}",
        data=splits,
        backbone=functools.partial(backbones.small_cnn, shape, **form),
        head=family.head,
        loss=family.loss,
        optimizer=functools.partial(keras.optimizers.Adam, 2e-3),
        score=family.score,
        epochs=6,
        **settings,
    )
