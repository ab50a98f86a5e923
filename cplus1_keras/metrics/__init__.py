"""Figures of open-set classification: exact ones on arrays, binned ones in `fit`."""

from cplus1_keras.metrics.counting import OSCR
from cplus1_keras.metrics.intervals import Interval, bootstrap
from cplus1_keras.metrics.open_set import (
    aupr,
    auroc,
    ccr_at_fpr,
    closed_set_accuracy,
    fpr_at_tpr,
    open_auc,
    oscr,
)
from cplus1_keras.metrics.pixels import PixelScores, without_edges
from cplus1_keras.metrics.report import summary, table
from cplus1_keras.metrics.segmentation import ConfusionMatrix, KnownMeanIoU
from cplus1_keras.metrics.streaming import BinnedAUROC, BinnedOSCR, KnownAccuracy

__all__ = [
    "OSCR",
    "BinnedAUROC",
    "BinnedOSCR",
    "ConfusionMatrix",
    "Interval",
    "KnownAccuracy",
    "KnownMeanIoU",
    "PixelScores",
    "aupr",
    "auroc",
    "bootstrap",
    "ccr_at_fpr",
    "closed_set_accuracy",
    "fpr_at_tpr",
    "open_auc",
    "oscr",
    "summary",
    "table",
    "without_edges",
]
