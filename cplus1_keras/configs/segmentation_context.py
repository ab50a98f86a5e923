"""Table 8 of the C+1 paper: PASCAL Context, 59 classes and background. A config a row.

Figures are the paper's mIoU / mAcc / aAcc. Its text says ResNet-50, but its baseline, 47.34, is the figure of its
framework's model zoo for ResNet-101: `--set depth=101` trains that. The table's weights are not stated: those of
Table 1 here. Settings are those of `segmentation_voc`.
"""

import functools

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.tasks.segmentation.experiment import Experiment

ROOT = "data/VOCdevkit"
CALIBRATION = 0.04  # 200 of 4,998 images


def splits(seed, root=ROOT, calibration_fraction=CALIBRATION):
    """PASCAL Context: "train" trains and calibrates, "val" tests.

    >>> splits(0).num_classes  # doctest: +SKIP
    59
    """
    train, test = sources.context(root, "train"), sources.context(root, "val")
    return split(protocols.context(), train, test, calibration_fraction=calibration_fraction, seed=seed)


def _row(name, row, centers=None, compactness=0.0, background=0.0):
    def config(
        root=ROOT, depth=50, weights="resnet50_imagenet", output_stride=8, calibration_fraction=CALIBRATION
    ) -> Experiment:
        return Experiment(
            name=name,
            data=functools.partial(splits, root=root, calibration_fraction=calibration_fraction),
            model=functools.partial(
                parts.deeplab, centers=centers, depth=depth, output_stride=output_stride, weights=weights
            ),
            loss=parts.pixel_loss(compactness, background, auxiliary=True),
            optimizer=parts.sgd(1e-4),
            learning_rate=0.004,
            steps=40_000,
            batch_size=16,
            crop_size=480,
            base=(520, 520),
        )

    return parts.named(config, name, f"PASCAL Context, DeepLabV3+ ResNet-50. {row}")


context_table8_softmax = _row("context_table8_softmax", "Table 8, baseline: 47.34 / 57.40 / 74.18")
context_table8_cplus1 = _row(
    "context_table8_cplus1",
    "Table 8, + 0.1 L_compact + 1e-4 L_background: 47.81 / 58.29 / 74.68",
    parts.moving_average,
    0.1,
    1e-4,
)
