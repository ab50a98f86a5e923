"""Figures of open-set classification: exact on arrays, binned for any number of pixels, streamed in `fit`."""

from cplus1_keras.metrics.accumulators import BinnedScores, ExactScores
from cplus1_keras.metrics.average_precision import AveragePrecision, decode_masks, encode_masks, frequency_groups
from cplus1_keras.metrics.coco import coco_figures
from cplus1_keras.metrics.counting import OSCR
from cplus1_keras.metrics.detection import DetectionScores
from cplus1_keras.metrics.intervals import Interval, bootstrap
from cplus1_keras.metrics.matching import hit
from cplus1_keras.metrics.multilabel import MultiLabelScores
from cplus1_keras.metrics.open_set import aupr, auroc, ccr_at_fpr, closed_set_accuracy, fpr_at_tpr, open_auc, oscr
from cplus1_keras.metrics.presence import PresenceAUC
from cplus1_keras.metrics.segmentation import ConfusionMatrix, KnownMeanIoU, ignore_edges
from cplus1_keras.metrics.streaming import BinnedAUROC, BinnedOSCR, KnownAccuracy
from cplus1_keras.metrics.tables import align, cell, table

__all__ = [
    "OSCR",
    "AveragePrecision",
    "BinnedAUROC",
    "BinnedOSCR",
    "BinnedScores",
    "ConfusionMatrix",
    "DetectionScores",
    "ExactScores",
    "Interval",
    "KnownAccuracy",
    "KnownMeanIoU",
    "MultiLabelScores",
    "PresenceAUC",
    "align",
    "aupr",
    "auroc",
    "bootstrap",
    "ccr_at_fpr",
    "cell",
    "closed_set_accuracy",
    "coco_figures",
    "decode_masks",
    "encode_masks",
    "fpr_at_tpr",
    "frequency_groups",
    "hit",
    "ignore_edges",
    "open_auc",
    "oscr",
    "table",
]
