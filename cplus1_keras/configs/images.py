"""All families of losses on small images: the thesis's toy protocol, Fashion-MNIST, MNIST and CIFAR-10.

`method` is a name of `families.families`; `knowns` a slice of the data set that trains, calibrates and watches, like
"train[:10%]"; `data_dir` and `download` are those of `data.sources.tfds`. Adam with a constant rate: the thesis does
not say how it trained the toy nets.
"""

import functools

import keras

from cplus1_keras import backbones, data, models
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.families import families
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Classification

FEATURES = 10  # the thesis takes as many features as classes; anchors need at least that

PROTOCOLS = {
    "fashion_mnist": data.protocols.fashion_mnist,
    "mnist": functools.partial(data.protocols.mnist, 0, negatives=2),
    "cifar10": functools.partial(data.protocols.cifar10, 0, negatives=2),
}
"""How a set of TFDS is split: our thirds, or the field's first split with two unknown classes as negatives."""

TRAINING = {
    "lenet": {"learning_rate": 1e-3, "epochs": 15, "batch_size": 128},
    "small": {"learning_rate": 2e-3, "epochs": 6, "batch_size": 64},
}


def toy_splits(seed, data_dir=None, download=False, letters=None, knowns="train"):
    """Digits of MNIST and letters of NIST by the toy protocol.

    The unknown letters of both NIST splits are test. A tenth of the other training images watches, a fifth calibrates.
    `letters` is an npz file with x_train, y_train, x_test, y_test; labels 1..26 = a..z.
    """
    names, letters = dict(enumerate("abcdefghijklmnopqrstuvwxyz", 1)), path_to("letters", letters, "letters")

    def part(mnist, letter):
        digits = data.sources.tfds("mnist", mnist, data_dir=data_dir, download=download)
        return data.combine(digits, data.sources.npz(letters, f"x_{letter}", f"y_{letter}", names))

    train, test = part(knowns, "train"), part("test", "test")
    return data.split(data.protocols.toy(), train, test, calibration_fraction=0.2, validation_fraction=0.1, seed=seed)


def one_set_splits(seed, data_set, data_dir=None, download=False, knowns="train"):
    """Knowns, negatives and unknowns from one set of TFDS by its protocol of `PROTOCOLS`."""
    parts = (data.sources.tfds(data_set, part, data_dir=data_dir, download=download) for part in (knowns, "test"))
    field = data_set != "fashion_mnist"
    return data.split(PROTOCOLS[data_set](), *parts, unknown_from_test_only=field, seed=seed)


def toy(
    name,
    net,
    method="objectosphere",
    data_dir: str | None = None,
    download=False,
    letters: str | None = None,
    knowns="train",
):
    """The toy protocol; negatives are sampled, with repetition, to 46.8 % of a training batch."""
    splits = functools.partial(toy_splits, data_dir=data_dir, download=download, letters=letters, knowns=knowns)
    # 42,240 of 90,240 training images, Table 5.1 of the thesis
    return _experiment(name, net, method, splits, 10, (28, 28, 1), negative_fraction=0.468)


def one_set(name, net, data_set, method="objectosphere", data_dir: str | None = None, download=False, knowns="train"):
    """Knowns, negatives and unknowns from one data set."""
    splits = functools.partial(one_set_splits, data_set=data_set, data_dir=data_dir, download=download, knowns=knowns)
    return _experiment(name, net, method, splits, 6, (32, 32, 3) if data_set == "cifar10" else (28, 28, 1))


def _experiment(name, net, method, splits, num_classes, shape, negative_fraction=None):
    table = families(num_classes, FEATURES)
    check_choice("method", method, table)
    family = table[method]
    form = {"pool": False} if family.maps and net == "small" else {"features": FEATURES}
    backbone = {"lenet": backbones.lenet_plus_plus, "small": backbones.small_cnn}[net]
    backbone = functools.partial(backbone, shape, **form)
    return Experiment(
        name=f"{name}_{method}",
        task=Classification(negative_fraction=negative_fraction),
        data=splits,
        model=functools.partial(models.classifier, backbone=backbone, head=family.head),
        loss=family.loss,
        optimizer=keras.optimizers.Adam,
        score=family.score,
        **TRAINING[net],
    )
