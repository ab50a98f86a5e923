"""Thresholds with a guarantee: chosen on a calibration split, each with the evidence for it.

An input is accepted where `score >= threshold`, a float32 number. The guarantee covers inputs like the calibration
samples, which must have chosen neither weights, epochs nor hyper-parameters. It says nothing about unseen classes,
unless classes are what is counted: `judge_new_classes`.
"""

from cplus1_keras.calibration.bounds import clopper_pearson_upper, images_needed, mean_upper_bound
from cplus1_keras.calibration.classes import ClassCalibration, calibrate_classes, read_calibration
from cplus1_keras.calibration.detections import calibrate_detections
from cplus1_keras.calibration.drift import Drift, find_drift, uniform_ranks
from cplus1_keras.calibration.evidence import Calibration, NewClasses
from cplus1_keras.calibration.new_classes import judge_new_classes
from cplus1_keras.calibration.samples import keep_scores, mix_scores
from cplus1_keras.calibration.thresholds import calibrate, threshold_at_coverage, threshold_at_fpr

__all__ = [
    "Calibration",
    "ClassCalibration",
    "Drift",
    "NewClasses",
    "calibrate",
    "calibrate_classes",
    "calibrate_detections",
    "clopper_pearson_upper",
    "find_drift",
    "images_needed",
    "judge_new_classes",
    "keep_scores",
    "mean_upper_bound",
    "mix_scores",
    "read_calibration",
    "threshold_at_coverage",
    "threshold_at_fpr",
    "uniform_ranks",
]
