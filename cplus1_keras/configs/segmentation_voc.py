"""Tables 1-4, 6 and 7 of the C+1 paper: PASCAL VOC 2012 with SBD's annotations. A config a row.

All take `root`, the folder of VOC with `SegmentationClassAug` (`data.segmentation.sources.convert_sbd` makes it);
`weights`, what the backbone starts with (None: at random, far from the paper's figures; there are weights in Keras's
format for ResNet-50 only); and `calibration_fraction`, the part of the training images that chooses the threshold
instead of training, which the paper does not have. Figures are the paper's mIoU / mAcc / aAcc. It gives no margin m_b;
1 here.

One setting, α = 0.1 and β = 1e-4 with moving averages, is printed with two figures: 77.35 / 86.37 / 94.58 in Table 1,
77.35 / 86.70 / 94.87 in Tables 2, 3 and 4.
"""

import functools

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.data.segmentation import protocols, sources
from cplus1_keras.data.segmentation.splits import split
from cplus1_keras.tasks.segmentation.experiment import Experiment

ROOT = "data/VOCdevkit"
CALIBRATION = 0.04  # 423 of 10,582 images


def splits(seed, root=ROOT, calibration_fraction=CALIBRATION):
    """VOC: "trainaug" trains and calibrates, "val" tests.

    >>> splits(0).num_classes  # doctest: +SKIP
    20
    """
    train, test = sources.voc(root, "trainaug"), sources.voc(root, "val")
    return split(protocols.voc(), train, test, calibration_fraction=calibration_fraction, seed=seed)


def _experiment(name, model, loss, steps, root, calibration_fraction):
    return Experiment(
        name=name,
        data=functools.partial(splits, root=root, calibration_fraction=calibration_fraction),
        model=model,
        loss=loss,
        optimizer=parts.sgd(5e-4),
        learning_rate=0.01,
        steps=steps,
        batch_size=16,
        crop_size=512,
        base=(2048, 512),
    )


def _ablation(name, row, centers=None, compactness=0.0, background=0.0):
    """DeepLabV3+ on ResNet-50, 20,000 steps: Tables 1 to 4."""

    def config(root=ROOT, weights="resnet50_imagenet", output_stride=8, calibration_fraction=CALIBRATION) -> Experiment:
        model = functools.partial(parts.deeplab, centers=centers, output_stride=output_stride, weights=weights)
        loss = parts.pixel_loss(compactness, background, auxiliary=True)
        return _experiment(name, model, loss, 20_000, root, calibration_fraction)

    return parts.named(config, name, f"VOC, DeepLabV3+ ResNet-50. {row}")


def _larger(name, row, network, centers=None, compactness=0.0, background=0.0, auxiliary=True):
    """Another network, 40,000 steps: Tables 6 and 7."""

    def config(root=ROOT, weights=None, calibration_fraction=CALIBRATION) -> Experiment:
        model = functools.partial(network, centers=centers, weights=weights)
        loss = parts.pixel_loss(compactness, background, auxiliary)
        return _experiment(name, model, loss, 40_000, root, calibration_fraction)

    return parts.named(config, name, f"VOC, {row}")


_MEANS = parts.moving_average

voc_table1_softmax = _ablation("voc_table1_softmax", "Table 1, L_separability: 75.93 / 85.47 / 94.59")
voc_table1_compactness = _ablation(
    "voc_table1_compactness", "Table 1, + 0.1 L_compact: 76.25 / 86.1 / 94.61", _MEANS, 0.1
)
voc_table1_cplus1 = _ablation(
    "voc_table1_cplus1",
    "Table 1, + 0.1 L_compact + 1e-4 L_background: 77.35 / 86.37 / 94.58 in Table 1, 77.35 / 86.70 / 94.87 in Table 2",
    _MEANS,
    0.1,
    1e-4,
)

voc_table2_learnable = _ablation(
    "voc_table2_learnable", "Table 2, learnable centres: 76.68 / 86.29 / 94.71", parts.learnable, 0.1, 1e-4
)
voc_table2_moving_average = _ablation(
    "voc_table2_moving_average",
    "Table 2, moving averages: 77.35 / 86.70 / 94.87 in Table 2, 77.35 / 86.37 / 94.58 in Table 1",
    _MEANS,
    0.1,
    1e-4,
)
voc_table2_shared = _ablation(
    "voc_table2_shared", "Table 2, shared centres: 76.99 / 86.57 / 94.79", parts.shared, 0.1, 1e-4
)

voc_table3_compactness_1e_2 = _ablation(
    "voc_table3_compactness_1e_2", "Table 3, 0.01 L_compact: 76.82 / 86.43 / 94.63", _MEANS, 0.01, 1e-4
)
voc_table3_compactness_1e_1 = _ablation(
    "voc_table3_compactness_1e_1", "Table 3, 0.1 L_compact: 77.35 / 86.70 / 94.87 in Table 3", _MEANS, 0.1, 1e-4
)
voc_table3_compactness_1 = _ablation(
    "voc_table3_compactness_1", "Table 3, 1 L_compact: 75.22 / 85.25 / 94.39", _MEANS, 1.0, 1e-4
)

voc_table4_background_1e_3 = _ablation(
    "voc_table4_background_1e_3", "Table 4, 0.001 L_background: 75.93 / 86.04 / 94.51", _MEANS, 0.1, 1e-3
)
voc_table4_background_1e_4 = _ablation(
    "voc_table4_background_1e_4", "Table 4, 1e-4 L_background: 77.35 / 86.70 / 94.87 in Table 4", _MEANS, 0.1, 1e-4
)
voc_table4_background_1e_5 = _ablation(
    "voc_table4_background_1e_5", "Table 4, 1e-5 L_background: 76.47 / 85.91 / 94.71", _MEANS, 0.1, 1e-5
)

_resnet101 = functools.partial(parts.deeplab, depth=101)

voc_table6_softmax = _larger(
    "voc_table6_softmax", "DeepLabV3+ ResNet-101. Table 6, baseline: 78.62 / 86.55 / 95.22", _resnet101
)
voc_table6_cplus1 = _larger(
    "voc_table6_cplus1",
    "DeepLabV3+ ResNet-101. Table 6, + 0.01 L_compact + 1e-4 L_background: 80.00 / 87.99 / 95.50",
    _resnet101,
    _MEANS,
    0.01,
    1e-4,
)

voc_table7_hrnet_softmax = _larger(
    "voc_table7_hrnet_softmax",
    "HRNetV2-W48 + FCN. Table 7, baseline: 76.23 / 84.95 / 94.66",
    parts.hrnet,
    auxiliary=False,
)
voc_table7_hrnet_cplus1 = _larger(
    "voc_table7_hrnet_cplus1",
    "HRNetV2-W48 + FCN. Table 7, + 0.01 L_compact + 1e-4 L_background: 76.96 / 85.38 / 94.81",
    parts.hrnet,
    _MEANS,
    0.01,
    1e-4,
    auxiliary=False,
)
voc_table7_ocrnet_softmax = _larger(
    "voc_table7_ocrnet_softmax", "OCRNet, HRNetV2-W48. Table 7, baseline: 77.14 / 85.92 / 94.94", parts.ocrnet
)
voc_table7_ocrnet_cplus1 = _larger(
    "voc_table7_ocrnet_cplus1",
    "OCRNet, HRNetV2-W48. Table 7, + 0.1 L_compact + 1e-4 L_background: 78.13 / 86.92 / 95.09",
    parts.ocrnet,
    _MEANS,
    0.1,
    1e-4,
)
