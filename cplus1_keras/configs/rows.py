"""The rows of the C+1 paper's tables, as data; `tables` makes experiments of those of segmentation, `detection` of the
others.

Figures are the paper's mIoU / mAcc / aAcc. One setting, α = 0.1 and β = 1e-4 with moving averages, is printed with two:
77.35 / 86.37 / 94.58 in Table 1, 77.35 / 86.70 / 94.87 in Tables 2, 3 and 4. Table 8's text says ResNet-50, but its
baseline is the figure of its framework's model zoo for ResNet-101: `--set depth=101` trains that. Table 9 prints the
mIoU without flip test as 33.42 and 33.76; the other figures say that 53.42 and 53.76 are meant.
"""

import dataclasses
import functools
import typing


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table."""

    paper: str  # table, row and figures
    compactness: float = 0.0  # α
    background: float = 0.0  # β; a weight of 0 leaves the term out
    centers: str = "moving_average"  # key of `families.CENTERS`; without both terms there are none
    data_set: str = "voc"  # key of `tables.SETS`
    network: str = "DeepLabV3+ ResNet-50"  # key of `NETWORKS`
    steps: int = 20_000  # training batches

    @property
    def summary(self):
        return f"{DATA_SETS[self.data_set]}, {self.network}. {self.paper}"


DATA_SETS = {"voc": "VOC", "context": "PASCAL Context", "lip": "LIP"}

NETWORKS = {
    "DeepLabV3+ ResNet-50": ("deeplab", {}),
    "DeepLabV3+ ResNet-101": ("deeplab", {"depth": 101, "weights": None}),
    "HRNetV2-W48": ("hrnet", {}),
    "OCRNet, HRNetV2-W48": ("hrnet", {}),
}
"""The function of `tables` that makes the experiment, and its settings. Weights in Keras's format are there for
ResNet-50 only."""

_large = functools.partial(Row, steps=40_000)
_context = functools.partial(_large, data_set="context")
_lip = functools.partial(Row, data_set="lip", network="HRNetV2-W48", steps=110_000)
_R101, _HRNET, _OCRNET = list(NETWORKS)[1:]
_BOTH, _SMALL = "+ 0.1 L_compact + 1e-4 L_background", "+ 0.01 L_compact + 1e-4 L_background"
_FOUND, _TABLE1 = "77.35 / 86.70 / 94.87", "77.35 / 86.37 / 94.58 in Table 1"

ROWS = {
    "voc_table1_softmax": Row("Table 1, L_separability: 75.93 / 85.47 / 94.59"),
    "voc_table1_compactness": Row("Table 1, + 0.1 L_compact: 76.25 / 86.1 / 94.61", 0.1),
    "voc_table1_cplus1": Row(f"Table 1, {_BOTH}: {_TABLE1}, {_FOUND} in Table 2", 0.1, 1e-4),
    "voc_table2_learnable": Row("Table 2, learnable centres: 76.68 / 86.29 / 94.71", 0.1, 1e-4, "learnable"),
    "voc_table2_moving_average": Row(f"Table 2, moving averages: {_FOUND} in Table 2, {_TABLE1}", 0.1, 1e-4),
    "voc_table2_shared": Row("Table 2, shared centres: 76.99 / 86.57 / 94.79", 0.1, 1e-4, "shared"),
    "voc_table3_compactness_1e_2": Row("Table 3, 0.01 L_compact: 76.82 / 86.43 / 94.63", 0.01, 1e-4),
    "voc_table3_compactness_1e_1": Row(f"Table 3, 0.1 L_compact: {_FOUND} in Table 3", 0.1, 1e-4),
    "voc_table3_compactness_1": Row("Table 3, 1 L_compact: 75.22 / 85.25 / 94.39", 1.0, 1e-4),
    "voc_table4_background_1e_3": Row("Table 4, 0.001 L_background: 75.93 / 86.04 / 94.51", 0.1, 1e-3),
    "voc_table4_background_1e_4": Row(f"Table 4, 1e-4 L_background: {_FOUND} in Table 4", 0.1, 1e-4),
    "voc_table4_background_1e_5": Row("Table 4, 1e-5 L_background: 76.47 / 85.91 / 94.71", 0.1, 1e-5),
    "voc_table6_softmax": _large("Table 6, baseline: 78.62 / 86.55 / 95.22", network=_R101),
    "voc_table6_cplus1": _large(f"Table 6, {_SMALL}: 80.00 / 87.99 / 95.50", 0.01, 1e-4, network=_R101),
    "voc_table7_hrnet_softmax": _large("Table 7, baseline: 76.23 / 84.95 / 94.66", network=_HRNET),
    "voc_table7_hrnet_cplus1": _large(f"Table 7, {_SMALL}: 76.96 / 85.38 / 94.81", 0.01, 1e-4, network=_HRNET),
    "voc_table7_ocrnet_softmax": _large("Table 7, baseline: 77.14 / 85.92 / 94.94", network=_OCRNET),
    "voc_table7_ocrnet_cplus1": _large(f"Table 7, {_BOTH}: 78.13 / 86.92 / 95.09", 0.1, 1e-4, network=_OCRNET),
    "context_table8_softmax": _context("Table 8, baseline: 47.34 / 57.40 / 74.18"),
    "context_table8_cplus1": _context(f"Table 8, {_BOTH}: 47.81 / 58.29 / 74.68", 0.1, 1e-4),
    "lip_table9_softmax": _lip("Table 9, baseline: 53.42 / 65.20 / 86.80, flip test 54.53 / 65.77 / 87.30"),
    "lip_table9_cplus1": _lip(f"Table 9, {_SMALL}: 53.76 / 65.63 / 86.81, flip test 54.78 / 66.19 / 87.32", 0.01, 1e-4),
}


class BoxRow(typing.NamedTuple):
    """A row of Table 10: a key of `detection.METHODS`, the backbone, and the figures."""

    method: str
    backbone: str
    paper: str

    @property
    def summary(self):
        return f"COCO, FCOS {self.backbone}. Table 10, {self.paper}"


_RESNET, RESNEXT = "ResNet-50", "ResNeXt-101 64x4d"

BOX_ROWS = {
    "coco_table10_r50": BoxRow("sigmoid", _RESNET, "baseline: AP 38.5 / 57.7 / 41.0, by size 21.9 / 42.8 / 48.6"),
    "coco_table10_r50_cplus1": BoxRow("cplus1", _RESNET, "ours: AP 39.0 / 58.5 / 41.6, by size 23.1 / 43.0 / 49.5"),
    "coco_table10_x101": BoxRow("sigmoid", RESNEXT, "baseline: AP 42.6 / 62.3 / 45.6, by size 25.7 / 46.3 / 54.6"),
    "coco_table10_x101_cplus1": BoxRow("cplus1", RESNEXT, "ours: AP 43.0 / 62.9 / 46.1, by size 27.2 / 46.8 / 54.5"),
}
"""AP / AP50 / AP75, and AP of small, medium and large objects. The paper does not state α, β and the centres of
detection: those of Table 1 here."""
