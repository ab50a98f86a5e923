"""Segmentation for a CPU: a light DeepLabV3+ on CamVid's street scenes and on a small part of COCO."""

import functools

import keras

from cplus1_keras import data
from cplus1_keras.backbones.outputs import check_choice
from cplus1_keras.configs import segmentation
from cplus1_keras.configs.families import CENTERS
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import poly
from cplus1_keras.tasks import Segmentation


def camvid_splits(seed, root=None, unknown_in_training="ignored"):
    """CamVid's own lists: 367 images train, 101 calibrate, 233 test.

    The 101 are every second frame of seven seconds of one drive, parts of which train; of the test 171 frames are
    another drive and 62 go on where training stops. So calibration images are far from independent, and what the
    threshold promises for images like them says little for the test's. The seed has no effect.
    """
    folder = path_to("camvid", root)
    train, calibration, test = (data.sources.camvid(folder, part) for part in ("train", "val", "test"))
    protocol = data.protocols.camvid_open(unknown_in_training)
    return data.split(protocol, train, test, calibration=calibration, seed=seed)


def coco_mini_splits(seed, root=None, unknown_in_training="ignored"):
    """Crops around objects that are large enough, 636 in 172 of the 201 training images, 172 in 54 of the 66 others.

    Three quarters of the images train and one calibrates, the others test. Crops of one image stay together; they
    overlap, so that figures count some pixels more than once.
    """
    folder, protocol = path_to("coco_mini", root), data.protocols.coco_mini(unknown_in_training)
    train, test = (data.sources.coco_mini(folder, part, kind="objects") for part in ("train", "val"))
    return data.split(protocol, train, test, calibration_fraction=0.25, seed=seed)


def camvid(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root: str | None = None,
    unknown_in_training="ignored",
    width=256,
):
    """CamVid; 1,000 batches of 4 take about 5 minutes on two quiet CPU cores.

    Args:
        method: "softmax", "compactness" or "cplus1", the rows of the paper's Table 1: terms that a method does not have
            are left out.
        centers: A key of `families.CENTERS`, the rows of Table 2.
        compactness, background, margin: As in `segmentation.pixel_loss`.
        root: Folder, or zip file.
        unknown_in_training: "ignored" or "negative": what pixels of unknown classes are in training.
        width: Pixels that images are scaled to, with 3/4 as height.

    >>> camvid(width=64).task.crop_size
    (48, 64)
    """
    size = (round(0.75 * width), width)
    splits = functools.partial(camvid_splits, root=root, unknown_in_training=unknown_in_training)
    task, weights = Segmentation(crop_size=size, base=size), (compactness, background)
    note = (
        "CamVid's calibration images are seven seconds of one drive and not independent. The bound of the threshold is "
        "a demonstration, no guarantee."
    )
    return _experiment("camvid", method, centers, weights, margin, task, splits, steps=1000, batch_size=4, note=note)


def coco_mini(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root: str | None = None,
    unknown_in_training="ignored",
    width=128,
):
    """COCO in 4 merged classes; arguments as `camvid`, `width` a side of the square that crops are scaled within.

    Pixels weigh by class, for two thirds are background, more mildly than `data.class_weights` does by itself.
    """
    size = (width, width)
    splits = functools.partial(coco_mini_splits, root=root, unknown_in_training=unknown_in_training)
    by_class = functools.partial(data.class_weights, offset=1.5)
    task = Segmentation(crop_size=size, base=size, scales=(0.75, 1.5), class_weights=by_class)
    weights = (compactness, background)
    return _experiment("coco_mini", method, centers, weights, margin, task, splits, steps=1200, batch_size=8)


def _experiment(name, method, centers, weights, margin, task, splits, **training):
    table = {"softmax": (0.0, 0.0), "compactness": (weights[0], 0.0), "cplus1": weights}
    check_choice("method", method, table)
    check_choice("centers", centers, CENTERS)
    return Experiment(
        name=f"{name}_{method}",
        task=task,
        data=splits,
        model=functools.partial(segmentation.small_deeplab, centers=None if method == "softmax" else centers),
        loss=segmentation.pixel_loss(*table[method], margin=margin),
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        learning_rate=1.5e-3,
        schedule=poly,
        interval=100,
        **training,
    )
