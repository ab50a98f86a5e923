"""Table 9 of the C+1 paper: human parsing on LIP, 19 parts and background. A config a row.

Figures are the paper's mIoU / mAcc / aAcc, without and with the flip test, which swaps left and right parts; a run
prints both. The table prints the mIoU without it as 33.42 and 33.76; the other figures say that 53.42 and 53.76 are
meant. The weights are those of HRNet in Table 7; the paper states none here. Images are stretched to 473 x 473, as it
says ("all images are resized"); that training then scales them by 0.5 to 2 is our guess. `root` is the folder of LIP,
`weights` a file of the backbone's weights or None, `calibration_fraction` as in `segmentation_voc`.
"""

import functools

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.tasks.segmentation.experiment import Experiment

ROOT = "data/LIP"
CALIBRATION = 0.02  # 609 of 30,462 images


def splits(seed, root=ROOT, calibration_fraction=CALIBRATION):
    """LIP: "train" trains and calibrates, "val" tests.

    >>> splits(0).num_classes  # doctest: +SKIP
    19
    """
    train, test = sources.lip(root, "train"), sources.lip(root, "val")
    return split(protocols.lip(), train, test, calibration_fraction=calibration_fraction, seed=seed)


def _row(name, row, centers=None, compactness=0.0, background=0.0):
    def config(root=ROOT, weights=None, calibration_fraction=CALIBRATION) -> Experiment:
        return Experiment(
            name=name,
            data=functools.partial(splits, root=root, calibration_fraction=calibration_fraction),
            model=functools.partial(parts.hrnet, centers=centers, weights=weights),
            loss=parts.pixel_loss(compactness, background),
            optimizer=parts.sgd(5e-4),
            learning_rate=0.0028,
            steps=110_000,
            batch_size=16,
            crop_size=473,
            base=(473, 473),
            keep_ratio=False,
            flip_test=True,
        )

    return parts.named(config, name, f"LIP, HRNetV2-W48. {row}")


lip_table9_softmax = _row(
    "lip_table9_softmax", "Table 9, baseline: 53.42 / 65.20 / 86.80, flip test 54.53 / 65.77 / 87.30"
)
lip_table9_cplus1 = _row(
    "lip_table9_cplus1",
    "Table 9, + 0.01 L_compact + 1e-4 L_background: 53.76 / 65.63 / 86.81, flip test 54.78 / 66.19 / 87.32",
    parts.moving_average,
    0.01,
    1e-4,
)
