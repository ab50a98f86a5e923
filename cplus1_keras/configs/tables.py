"""Experiments of the C+1 paper's segmentation tables: a function for ResNets and one for HRNets, on a row of `ROWS`.

`root` is the folder of the data set; `weights` what the backbone starts with (the name of a keras-cv preset for
ResNets, a file of saved weights for HRNets; None starts at random, far from the paper's figures);
`calibration_fraction` the part of the training images that chooses the threshold instead, which the paper does not
have. It does not state the weights of Tables 7 to 9.
"""

import functools
import typing

from cplus1_keras import data
from cplus1_keras.configs import segmentation
from cplus1_keras.configs.needs import path_to
from cplus1_keras.experiment import Experiment
from cplus1_keras.optimizers import SGDWithL2, poly
from cplus1_keras.tasks import Segmentation


class Set(typing.NamedTuple):
    """A data set: its lists for training and test, and the settings of its training."""

    parts: tuple
    calibration_fraction: float
    learning_rate: float
    l2: float
    task: Segmentation


# Stretched, as the paper says ("all images are resized"); that training then scales by 0.5 to 2 is our guess.
_STRETCHED = Segmentation(crop_size=473, base=(473, 473), keep_ratio=False, flip_test=True)

SETS = {
    "voc": Set(("trainaug", "val"), 0.04, 0.01, 5e-4, Segmentation(crop_size=512, base=(2048, 512))),
    "context": Set(("train", "val"), 0.04, 0.004, 1e-4, Segmentation(crop_size=480, base=(520, 520))),
    "lip": Set(("train", "val"), 0.02, 0.0028, 5e-4, _STRETCHED),
}


def splits(seed, data_set, root=None, calibration_fraction=None):
    """A data set of `SETS`: its training list trains and calibrates, its other one tests."""
    found, folder = SETS[data_set], path_to(data_set, root)
    train, test = (getattr(data.sources, data_set)(folder, part) for part in found.parts)
    fraction = found.calibration_fraction if calibration_fraction is None else calibration_fraction
    protocol = getattr(data.protocols, data_set)()
    return data.split(protocol, train, test, calibration_fraction=fraction, seed=seed)


def deeplab(
    name,
    row,
    root: str | None = None,
    depth=50,
    weights: str | None = "resnet50_imagenet",
    output_stride=8,
    calibration_fraction: float | None = None,
):
    """DeepLabV3+ on a dilated ResNet, with an auxiliary classifier."""
    network = functools.partial(segmentation.deeplab, depth=depth, output_stride=output_stride, weights=weights)
    return _experiment(name, row, network, root, calibration_fraction)


def hrnet(
    name, row, root: str | None = None, width=48, weights: str | None = None, calibration_fraction: float | None = None
):
    """HRNetV2 with its own classifier, or OCRNet on it, which has an auxiliary one too."""
    ocr = row.network.startswith("OCRNet")
    network = functools.partial(segmentation.ocrnet if ocr else segmentation.hrnet, width=width, weights=weights)
    return _experiment(name, row, network, root, calibration_fraction, auxiliary=ocr)


def _experiment(name, row, network, root, calibration_fraction, auxiliary=True):
    found = SETS[row.data_set]
    centers = row.centers if row.compactness or row.background else None
    return Experiment(
        name=name,
        task=found.task,
        data=functools.partial(splits, data_set=row.data_set, root=root, calibration_fraction=calibration_fraction),
        model=functools.partial(network, centers=centers),
        loss=segmentation.pixel_loss(row.compactness, row.background, auxiliary),
        optimizer=functools.partial(SGDWithL2, momentum=0.9, l2=found.l2),
        learning_rate=found.learning_rate,
        schedule=poly,
        steps=row.steps,
        batch_size=16,
    )
