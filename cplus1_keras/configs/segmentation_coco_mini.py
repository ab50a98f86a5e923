"""A small part of COCO, for a CPU: crops around objects of 4 merged classes, all else background, furniture unknown."""

import functools
import pathlib

import keras

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.data.segmentation.weights import class_weights
from cplus1_keras.tasks.segmentation.experiment import Experiment

ROOT = "../shared/data/coco_mini/coco_mini.zip"


def splits(seed, root=ROOT, in_training="ignore", calibration_fraction=0.25):
    """Crops around objects that are large enough, 636 in 172 of the 201 training images, 172 in 54 of the 66 others.

    Three quarters of the images train and one calibrates, the others test. Crops of one image overlap, so that figures
    count some pixels more than once.

    Args:
        seed: Of the calibration split.
        root: Folder, or zip file, with `annotations`, `train` and `val`.
        in_training: "ignore" or "background": what pixels of furniture are in training.
        calibration_fraction: Part of the training images.

    Returns:
        `SegmentationSplits`; crops of one image stay together.

    >>> splits(0).class_names  # doctest: +SKIP
    ('person', 'vehicle', 'animal', 'tableware')
    """
    folder, protocol = pathlib.Path(parts.unpacked(root)), protocols.coco_mini(in_training)

    def objects(part):
        annotations = next(folder.glob(f"annotations/instances_{part}*.json"))
        return sources.coco_objects(annotations, folder / part, protocol.class_values)

    return split(protocol, objects("train"), objects("val"), calibration_fraction=calibration_fraction, seed=seed)


def coco_mini(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root=ROOT,
    in_training="ignore",
    width=128,
    steps=1200,
) -> Experiment:
    """COCO, 201 images, light DeepLabV3+: crops around 4 merged classes, all else background, furniture unknown.

    `method` is softmax, compactness or cplus1; `in_training` says what pixels of unknown classes are in training,
    "ignore" or "background"; `width` the pixels of a side of the square that crops are scaled within.
    Pixels weigh by class, for two thirds are background, more mildly than `class_weights` does by itself.
    """
    centers, loss = parts.method(method, centers, compactness, background, margin=margin)
    return Experiment(
        name=f"coco_mini_{method}",
        data=functools.partial(splits, root=root, in_training=in_training),
        model=functools.partial(parts.small_deeplab, centers=centers),
        loss=loss,
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        learning_rate=1.5e-3,
        steps=steps,
        batch_size=8,
        interval=100,
        crop_size=(width, width),
        base=(width, width),
        scales=(0.75, 1.5),
        class_weights=functools.partial(class_weights, offset=1.5),
    )
