"""CamVid at 256 x 192, real street scenes, for a CPU: trees are background, fences and bicyclists unknown."""

import functools

import keras

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.tasks.segmentation.experiment import Experiment

ROOT = "../shared/data/camvid_seg/camvid_256x192.zip"


def splits(seed, root=ROOT, in_training="ignore"):
    """CamVid's own lists: 367 images train, 101 calibrate, 233 test.

    The 101 are every second frame of seven seconds of one drive, parts of which train; of the test 171 frames are
    another drive and 62 go on where training stops. So calibration images are far from independent, and what the
    threshold promises for images like them says little for the test's.

    Args:
        seed: Has no effect; the lists are fixed.
        root: Folder, or zip file, with `train`, `trainannot`, `val`, ...
        in_training: "ignore" or "background": what pixels of unknown classes are in training.

    Returns:
        `SegmentationSplits`.

    >>> splits(0).class_names[0]  # doctest: +SKIP
    'sky'
    """
    folder = parts.unpacked(root)
    train, calibration, test = (sources.camvid(folder, part) for part in ("train", "val", "test"))
    protocol = protocols.camvid_open(in_training)
    return split(protocol, train, test, calibration=calibration, seed=seed)


def camvid(
    method="cplus1",
    centers="moving_average",
    compactness=0.1,
    background=1e-4,
    margin=1.0,
    root=ROOT,
    in_training="ignore",
    width=256,
    steps=1000,
) -> Experiment:
    """CamVid, light DeepLabV3+: 8 classes, trees background, 2 unknown (--set method=softmax, centers=, background=).

    `method` is softmax, compactness or cplus1; `in_training` says what pixels of unknown classes are in training,
    "ignore" or "background"; `width` the pixels that images are scaled to, with 3/4 as height. About 5 minutes on two
    quiet CPU cores as it ships.
    """
    centers, loss = parts.method(method, centers, compactness, background, margin=margin)
    size = (round(0.75 * width), width)
    return Experiment(
        name=f"camvid_{method}",
        data=functools.partial(splits, root=root, in_training=in_training),
        model=functools.partial(parts.small_deeplab, centers=centers),
        loss=loss,
        optimizer=functools.partial(keras.optimizers.AdamW, weight_decay=1e-4),
        learning_rate=1.5e-3,
        steps=steps,
        batch_size=4,
        interval=100,
        crop_size=size,
        base=size,
    )
