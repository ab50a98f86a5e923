"""Photographs at the papers' sizes: CIFAR-10 and CIFAR-100, the open-set protocols of ImageNet, CUB-200-2011; digits.

`method` is a name of `families.families`, `net` a key of `NETS`; a GPU is needed for all of them.
"""

import dataclasses
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
    "small": (functools.partial(backbones.small_cnn, (32, 32, 3)), 4096),
}
"""Nets of HNC's tables, and one for a CPU, each with the length of its features."""


def cifar(
    name,
    data_set,
    method="softmax",
    net="resnet56",
    shifted=True,
    hnc=1.0,
    coarse=False,
    data_dir: str | None = None,
    download=False,
):
    """All classes known, as HNC trains; `shifted` crops and flips (CIFAR-10+).

    `hnc` multiplies the weight of that loss; `coarse` takes the 20 superclasses of CIFAR-100.
    """
    check_choice("net", net, NETS)
    make, length = NETS[net]
    classes = 20 if coarse else 100 if data_set == "cifar100" else 10
    family = _family(method, classes, max(classes, length), hnc)
    form = {"pool": False} if family.maps else {}
    if method in ("e_ncm", "c_ncm") and length < classes:
        form = {"features": classes}  # anchors need an axis each
    return _closed(
        f"{name}_{net}_{method}",
        family,
        functools.partial(make, **form),
        functools.partial(closed_splits, data_set=data_set, coarse=coarse, data_dir=data_dir, download=download),
        shifted,
        l2=1e-4,
        learning_rate=0.1,
        schedule=functools.partial(stepwise, at=(84 / 164, 122 / 164)),
        epochs=164,
        batch_size=128,
    )


def plain(
    name,
    data_set,
    method="e_ncm",
    dropout=0.0,
    shifted=False,
    width=1.0,
    data_dir: str | None = None,
    download=False,
    knowns="train",
):
    """The anchor-based loss's nets and training; all classes known. `width` multiplies the channels of the net.

    The rate falls where the paper's training loss stalls: here after a half and three quarters of 90 epochs.
    """
    net = functools.partial(backbones.plain_cnn, data_set, dropout=dropout, width=width)
    family = _family(method, 100 if data_set == "cifar100" else 10, 512 if data_set == "cifar100" else 256)
    return _closed(
        f"{name}_{method}",
        family,
        functools.partial(net, pool=not family.maps),
        functools.partial(closed_splits, data_set=data_set, data_dir=data_dir, download=download, knowns=knowns),
        shifted,
        l2=5e-4,
        learning_rate=0.1,
        schedule=functools.partial(stepwise, at=(0.5, 0.75)),
        epochs=90,
        batch_size=256,
    )


def _closed(name, family, net, splits, shifted, l2, **training):
    moves = data.augment.chain(data.augment.random_crop(padding=4), data.augment.random_flip())
    return Experiment(
        name=name,
        task=Classification(augment=moves if shifted else None),
        data=splits,
        model=functools.partial(models.classifier, backbone=net, head=family.head),
        loss=family.loss,
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=l2),
        score=family.score,
        **training,
    )


def closed_splits(seed, data_set, coarse=False, data_dir=None, download=False, knowns="train"):
    """A tenth of the training images watches, a twentieth calibrates the share of knowns that is accepted.

    `knowns` is the slice of the data set that does all three, like "train[:10%]".
    """
    given = {"data_dir": data_dir, "download": download} | ({"keys": ("image", "coarse_label")} if coarse else {})
    train, test = (data.sources.tfds(data_set, part, **given) for part in (knowns, "test"))
    protocol = (
        data.Protocol(train.class_names, name=f"{data_set}_coarse") if coarse else data.protocols.closed(data_set)
    )
    return data.split(protocol, train, test, validation_fraction=0.1, calibration_fraction=0.05, seed=seed)


def imagenet(
    protocol=1,
    method="softmax",
    root: str | None = None,
    data_dir: str | None = None,
    weights: str | None = None,
):
    """The thesis's protocols P1 to P3 at 224 x 224: ResNet-50 with as many features as known classes.

    The images are in the folder `root`, or in `data_dir`, where TFDS has prepared `imagenet2012`.
    """
    number = data.protocols.imagenet(protocol).num_classes
    family = _family(method, number, number)
    form = {"pool": False} if family.maps else {"features": number}
    net = functools.partial(backbones.resnet, 50, weights=weights, **form)
    splits = functools.partial(imagenet_splits, protocol=protocol, root=root, data_dir=data_dir)
    return _thesis(f"imagenet_p{protocol}_{method}", family, net, splits, (256, 224))


TINY = {1: 6, 3: 15}
"""Known classes of a protocol among Tiny ImageNet's 200; P1 has 12 negative and 40 unknown ones there, P3 12 and 35."""


def tiny_imagenet(protocol=1, method="softmax", root: str | None = None):
    """The same protocols, cut to the classes of Tiny ImageNet, at 64 x 64 and with a small net."""
    if protocol not in TINY:
        raise ValueError(
            f"Tiny ImageNet has the protocols 1 and 3; of 2 it has a single known class. Received: protocol={protocol}"
        )
    number = TINY[protocol]
    family = _family(method, number, number)
    form = {"pool": False} if family.maps else {"features": number}
    widths = {"filters": (32, 64, 96, 128), "strides": (2, 2, 2, 1)}
    net = functools.partial(backbones.small_cnn, (64, 64, 3), **widths, **form)
    splits = functools.partial(tiny_imagenet_splits, protocol=protocol, root=root)
    found = _thesis(f"tiny_imagenet_p{protocol}_{method}", family, net, splits, None)
    training = {"optimizer": keras.optimizers.Adam, "learning_rate": 2e-3, "epochs": 20, "batch_size": 32}
    return dataclasses.replace(found, **training)


def _thesis(name, family, net, splits, crop):
    return Experiment(
        name=name,
        task=Classification(crop=crop, augment=data.augment.random_flip()),
        data=splits,
        model=functools.partial(models.classifier, backbone=net, head=family.head),
        loss=family.loss,
        optimizer=functools.partial(keras.optimizers.SGD, momentum=0.9),
        learning_rate=1e-3,
        epochs=120,
        batch_size=64,
        score=family.score,
    )


def imagenet_sources(root=None, data_dir=None):
    """ILSVRC's images to train and to test with, of a folder or, where none is given, as TFDS has prepared them."""
    if root is None and data_dir is not None:
        return [data.sources.tfds("imagenet2012", part, data_dir=data_dir) for part in ("train", "validation")]
    return [data.sources.ilsvrc(path_to("imagenet", root), part) for part in ("train", "val")]


def imagenet_splits(seed, protocol, root=None, data_dir=None):
    """A fifth of the training images watches, a tenth calibrates; tests are ILSVRC's validation images."""
    return _cut(data.protocols.imagenet(protocol), *imagenet_sources(root, data_dir), seed)


def tiny_imagenet_splits(seed, protocol, root=None):
    """`imagenet_splits` of the classes that Tiny ImageNet, with folders train and val, has."""
    folder = path_to("tiny_imagenet", root)
    train, test = (data.sources.ilsvrc(folder, part) for part in ("train", "val"))
    whole, there = data.protocols.imagenet(protocol), {*train.class_names, *test.class_names}
    roles = whole.class_names, whole.negative, whole.unknown
    known, *others = ([name for name in names if name in there] for names in roles)
    return _cut(data.Protocol(known, *others, others="ignored", name=f"tiny_{whole.name}"), train, test, seed)


def _cut(protocol, train, test, seed):
    fractions = {"validation_fraction": 0.2, "calibration_fraction": 0.1}
    return data.split(protocol, train, test, **fractions, unknown_from_test_only=True, seed=seed)


def ilsvrc(method="cam", depth=101, root: str | None = None, data_dir: str | None = None):
    """All 1000 classes of ImageNet, HNC's Table 2; the paper crops by scale and aspect ratio, this at one scale."""
    family = _family(method, 1000, 2048)
    form = {"pool": False} if family.maps else {}
    found = _closed(
        f"ilsvrc_resnet{depth}_{method}",
        family,
        functools.partial(backbones.resnet, depth, **form),
        functools.partial(ilsvrc_splits, root=root, data_dir=data_dir),
        False,
        l2=1e-4,
        learning_rate=0.1,
        schedule=functools.partial(stepwise, at=(0.25, 0.5, 0.75)),
        epochs=120,
        batch_size=256,
    )
    return dataclasses.replace(found, task=Classification(crop=(256, 224), augment=data.augment.random_flip()))


def ilsvrc_splits(seed, root=None, data_dir=None):
    """A hundredth of the training images calibrates the share of knowns that is accepted; none watches."""
    train, test = imagenet_sources(root, data_dir)
    protocol = data.Protocol(train.class_names, name="ilsvrc")
    return data.split(protocol, train, test, validation_fraction=0.0, calibration_fraction=0.01, seed=seed)


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


def _family(method, num_classes, features, hnc=1.0):
    table = families(num_classes, features, hnc)
    check_choice("method", method, table)
    return table[method]
