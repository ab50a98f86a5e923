"""Photographs at the papers' sizes: CIFAR-10 and CIFAR-100, the open-set protocols of ImageNet, CUB-200-2011.

`method` is a name of `families.families`, `net` a key of `NETS`; a GPU is needed for all of them.
"""

import functools

import keras

from cplus1_keras import backbones, data, models
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs.families import families
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import SGDWithL2, stepwise
from cplus1_keras.tasks import Classification

NETS = {
    "resnet56": (functools.partial(backbones.cifar_resnet, 56), 64),
    "resnet110": (functools.partial(backbones.cifar_resnet, 110), 64),
    "densenet": (backbones.cifar_densenet, 342),
    "resnext8": (backbones.cifar_resnext, 1024),
    "resnext16": (functools.partial(backbones.cifar_resnext, groups=16), 1024),
    "plain": (backbones.plain_cnn, None),
}
"""Nets of HNC's and, "plain", of the anchor-based loss's tables, each with the length of its features."""


def cifar(
    name,
    data_set,
    method="softmax",
    net="resnet56",
    shifted=True,
    dropout=0.0,
    data_dir: str | None = None,
    download=False,
):
    """All classes known; `shifted` crops and flips (CIFAR-10+). `dropout` is that of the net "plain"."""
    check_choice("net", net, NETS)
    make, length = NETS[net]
    if net == "plain":
        make, length = functools.partial(make, data_set, dropout=dropout), 512 if data_set == "cifar100" else 256
    classes = 100 if data_set == "cifar100" else 10
    family = _family(method, classes, max(classes, length))
    form = {"pool": False} if family.maps else {}
    if method in ("e_ncm", "c_ncm") and length < classes:
        form = {"features": classes}  # anchors need an axis each
    moves = data.augment.chain(data.augment.random_crop(padding=4), data.augment.random_flip())
    return Experiment(
        name=f"{name}_{net}_{method}",
        task=Classification(augment=moves if shifted else None),
        data=functools.partial(closed_splits, data_set=data_set, data_dir=data_dir, download=download),
        model=functools.partial(models.classifier, backbone=functools.partial(make, **form), head=family.head),
        loss=family.loss,
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=1e-4),
        learning_rate=0.1,
        schedule=functools.partial(stepwise, at=(84 / 164, 122 / 164)),
        epochs=164,
        batch_size=128,
        score=family.score,
    )


def closed_splits(seed, data_set, data_dir=None, download=False):
    """A tenth of the training images watches, a twentieth calibrates the share of knowns that is accepted."""
    parts = (data.sources.tfds(data_set, part, data_dir=data_dir, download=download) for part in ("train", "test"))
    fractions = {"validation_fraction": 0.1, "calibration_fraction": 0.05}
    return data.split(data.protocols.closed(data_set), *parts, **fractions, seed=seed)


def imagenet(protocol=1, method="softmax", root: str | None = None, weights: str | None = None):
    """The thesis's protocols P1 to P3 at 224 x 224: ResNet-50 with as many features as known classes."""
    number = data.protocols.imagenet(protocol).num_classes
    family = _family(method, number, number)
    form = {"pool": False} if family.maps else {"features": number}
    net = functools.partial(backbones.resnet, 50, weights=weights, **form)
    return Experiment(
        name=f"imagenet_p{protocol}_{method}",
        task=Classification(crop=(256, 224), augment=data.augment.random_flip()),
        data=functools.partial(imagenet_splits, protocol=protocol, root=root),
        model=functools.partial(models.classifier, backbone=net, head=family.head),
        loss=family.loss,
        optimizer=functools.partial(keras.optimizers.SGD, momentum=0.9),
        learning_rate=1e-3,
        epochs=120,
        batch_size=64,
        score=family.score,
    )


def imagenet_splits(seed, protocol, root=None):
    """A fifth of the training images watches, a tenth calibrates; tests are ILSVRC's validation images."""
    train, test = (data.sources.ilsvrc(path_to("imagenet", root), part) for part in ("train", "val"))
    fractions = {"validation_fraction": 0.2, "calibration_fraction": 0.1}
    return data.split(
        data.protocols.imagenet(protocol), train, test, **fractions, unknown_from_test_only=True, seed=seed
    )


def cub(method="cam", root: str | None = None, weights: str | None = "resnet50_imagenet"):
    """CUB-200-2011, HNC's Table 3: ResNet-50 from ImageNet's weights; 90 epochs are ours, the paper prints none."""
    family = _family(method, 200, 2048)
    form = {"pool": False} if family.maps else {}
    net = functools.partial(backbones.resnet, 50, weights=weights, **form)
    return Experiment(
        name=f"cub_{method}",
        task=Classification(crop=(256, 224), augment=data.augment.random_flip()),
        data=functools.partial(cub_splits, root=root),
        model=functools.partial(models.classifier, backbone=net, head=family.head),
        loss=family.loss,
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=1e-4),
        learning_rate=1e-3,
        schedule=functools.partial(stepwise, at=(50 / 90,)),
        epochs=90,
        batch_size=16,
        score=family.score,
    )


def cub_splits(seed, root=None):
    """A twentieth of the training images calibrates the share of knowns that is accepted; none watches."""
    train, test = (data.sources.cub(path_to("cub", root), part) for part in ("train", "test"))
    protocol = data.Protocol(train.class_names, name="cub")
    return data.split(protocol, train, test, validation_fraction=0.0, calibration_fraction=0.05, seed=seed)


def _family(method, num_classes, features):
    table = families(num_classes, features)
    check_choice("method", method, table)
    return table[method]
