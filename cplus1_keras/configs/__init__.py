"""Runs that ship: `SHIPPED` names them, `resolve` makes one an `Experiment`, with `name=value` settings."""

import functools
import importlib
import inspect
import itertools
import os
import sys
import textwrap
import types
import typing

from cplus1_keras.configs.lvis_rows import LVIS_ROWS
from cplus1_keras.configs.needs import NEEDS
from cplus1_keras.configs.rows import BOX_ROWS, NETWORKS, ROWS
from cplus1_keras.configs.settings import apply, guess, settable


class Config(typing.NamedTuple):
    """A config that ships. `row` is what its function takes first; `given` replaces defaults of the function."""

    home: str  # module here, and function
    summary: str
    needs: str = ""  # key of NEEDS
    row: tuple = ()
    given: dict = types.MappingProxyType({})

    def load(self):
        """The function that makes the experiment; its module is imported now."""
        module, _, name = self.home.partition(".")
        function = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return functools.partial(function, *self.row, **self.given) if self.row else function


SHIPPED = {
    "digits": Config(
        "digits.digits",
        "Handwritten digits of scikit-learn: 0-5 known, 6 and 7 negative, 8 and 9 unknown. Cos-OS loss.",
    ),
    "fashion": Config(
        "images.one_set",
        "Fashion-MNIST: 6 classes known, 2 negative, 2 unknown, all from one set; LeNet++.",
        "tfds",
        ("fashion", "lenet", "fashion_mnist"),
    ),
    "mnist_small": Config(
        "images.one_set",
        "MNIST, the field's first split with two unknown digits as negatives, with a small net.",
        "tfds",
        ("mnist_small", "small", "mnist"),
        {"knowns": "train[:6%]"},
    ),
    "cifar10_small": Config(
        "images.one_set",
        "CIFAR-10, the field's first split with two unknown classes as negatives, with a small net.",
        "tfds",
        ("cifar10_small", "small", "cifar10"),
        {"knowns": "train[:60%]"},
    ),
    "mnist_tail": Config(
        "tails.mnist_tail",
        "MNIST, ten digits, 100 training images of 7, 8 and 9 (--set method=): section 3.3 of the C2AM paper.",
        "tfds",
    ),
    "toy": Config(
        "images.toy", "MNIST digits known, NIST letters negative and unknown, LeNet++.", "letters", ("toy", "lenet")
    ),
    "toy_small": Config(
        "images.toy",
        "The toy protocol, digits known and letters unknown, with a small net.",
        "letters",
        ("toy_small", "small"),
        {"knowns": "train[:4%]"},
    ),
    "cifar10": Config(
        "photos.cifar", "CIFAR-10, all classes known, as HNC trains (--set net=).", "tfds", ("cifar10", "cifar10")
    ),
    "cifar100": Config(
        "photos.cifar", "CIFAR-100, all classes known, as HNC trains (--set net=).", "tfds", ("cifar100", "cifar100")
    ),
    **{
        f"{data_set}_plain": Config(
            "photos.plain",
            f"{title}, all classes known, as the anchor-based loss trains.",
            "tfds",
            (f"{data_set}_plain", data_set),
        )
        for data_set, title in (("mnist", "MNIST"), ("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"))
    },
    "imagenet": Config("photos.imagenet", "The thesis's ImageNet protocols, ResNet-50 (--set protocol=).", "imagenet"),
    "ilsvrc": Config("photos.ilsvrc", "ImageNet, all classes known, as HNC trains (--set depth=).", "imagenet"),
    "tiny_imagenet": Config(
        "photos.tiny_imagenet",
        "The thesis's protocols on Tiny ImageNet's classes, a small net (--set protocol=).",
        "tiny_imagenet",
    ),
    "cub": Config("photos.cub", "CUB-200-2011, birds, ResNet-50; Table 3 of the HNC paper (--set method=).", "cub"),
    "camvid": Config(
        "small_segmentation.camvid", "CamVid, light DeepLabV3+: 8 classes, trees background, 2 unknown.", "camvid"
    ),
    "coco_mini": Config(
        "small_segmentation.coco_mini",
        "COCO, 201 images, light DeepLabV3+: crops around 4 merged classes, all else background, furniture unknown.",
        "coco_mini",
    ),
    "coco_mini_labels": Config(
        "multilabel.coco_mini_labels",
        "COCO, 267 images: sets of 4 merged classes, another one unknown; a small net, activation maps.",
        "coco_mini",
    ),
    "coco_labels": Config(
        "multilabel.coco_labels",
        "COCO 2014: sets of 80 classes, ResNet-101 at 288 x 288; Table 4 of the HNC paper (--set method=).",
        "coco",
    ),
    "bccd": Config(
        "detection.bccd", "BCCD, FCOS: red and white blood cells and platelets; hold_out=WBC makes one unknown.", "bccd"
    ),
    "bccd_tail": Config(
        "two_stage.bccd_tail",
        "BCCD, Faster R-CNN: white cells and platelets in a few training images; long-tail methods (--set method=).",
        "bccd",
    ),
    "coco_mini_masks": Config(
        "two_stage.coco_mini_masks",
        "COCO, 267 images, Mask R-CNN: 4 merged classes, two of them in a few training images (--set method=).",
        "coco_mini",
    ),
    "coco_mini_boxes": Config(
        "detection.coco_mini_boxes",
        "COCO, 267 images, FCOS: boxes of 4 merged classes, all else background, furniture unknown.",
        "coco_mini",
    ),
    **{
        name: Config(f"tables.{network}", row.summary, row.data_set, (name, row), given)
        for name, row in ROWS.items()
        for network, given in [NETWORKS[row.network]]
    },
    **{name: Config("detection.coco", row.summary, "coco_boxes", (name, row)) for name, row in BOX_ROWS.items()},
    **{name: Config("two_stage.lvis", row.summary, "lvis", (name, row)) for name, row in LVIS_ROWS.items()},
}


def listing():
    """The configs that ship as text: a line each, under what they need and which settings they take."""
    lines, width = ["Configs (python train.py --config NAME --set SETTING=VALUE):"], max(map(len, SHIPPED))
    for needs, group in itertools.groupby(SHIPPED.items(), lambda item: item[1].needs):
        lines += ["", *textwrap.wrap(NEEDS[needs], 118, break_on_hyphens=False)]
        for settings, configs in itertools.groupby(group, lambda item: _settings(item[1].load())):
            lines += [f"  Settings: {settings}"] * bool(settings)
            lines += [f"    {name:{width}}  {config.summary}" for name, config in configs]
    common = ", ".join(settable(resolve("digits")))
    return "\n".join([*lines, "", f"All take the fields of their Experiment and its task, as digits does: {common}."])


def _settings(function):
    parameters = inspect.signature(function).parameters.values()
    return ", ".join(p.name + ("=" if p.default in (None, p.empty) else f"={p.default}") for p in parameters)


def find(name):
    """The function of that name: of a config that ships, or like `my_package.my_module.my_function`.

    A dotted name is looked for in the current folder first. ValueError where nothing has that name, or no function.

    >>> find("digits")().name
    'digits'
    """
    if name in SHIPPED:
        return SHIPPED[name].load()
    module, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"A config is a short name, or dotted like my_module.my_function. Received: {name!r}")
    if not module:
        tables = "and the rows of the papers' tables, which `python train.py --list` tells"
        known = guess(name, SHIPPED, [own for own, config in SHIPPED.items() if not config.row])
        raise ValueError(f"No config is named {name!r}. {known}, {tables}.")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        places = f"Looked in {os.getcwd()} and where Python finds packages."
        raise ValueError(f"{name!r} names no function: {error}. {places}") from error
    if not callable(found):
        raise ValueError(f"{name!r} names no function. Received: {type(found).__name__}")
    return found


def resolve(name, settings=()):
    """The `Experiment` of a config.

    Args:
        name: As for `find`.
        settings: Strings `name=value`, each an argument of the function, or a field of the `Experiment` that it returns
            or of its task. Values are numbers, True, False, None, tuples or text; `score` is a name of `scores`.

    Raises:
        ValueError: An unknown config or setting, a value of another type, or a function that returns something else.

    >>> resolve("digits", ["epochs=3", "negative_fraction=0.3"]).task.negative_fraction
    0.3
    """
    return apply(find(name), name, settings)
