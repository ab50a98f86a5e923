"""Thresholds of label sets: each as a threshold of its own, all promises together, by simulation."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from cplus1_keras.calibration import Calibration, ClassCalibration, calibrate_classes, threshold_at_fpr
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.tasks.records import Record


def sample(seed=0, n=300, classes=4, kinds=(True, NEGATIVE, NEGATIVE, UNKNOWN, IGNORE)):
    generator = np.random.default_rng(seed)
    labels = generator.choice(kinds, (n, classes))
    labels = np.where(labels == 1, np.arange(classes), labels)
    return labels, generator.normal(size=(n, classes)).astype("float32")


def records(labels, scores, groups=None):
    names = [str(i) for i in range(len(labels))] if groups is None else groups
    return [Record(y, np.arange(len(y)), s, g) for y, s, g in zip(labels, scores, names, strict=True)]


def test_each_class_has_its_own_threshold_at_a_shared_confidence():
    labels, scores = sample()
    found = calibrate_classes(iter(records(labels, scores)), 0.15, 0.9, "logit")
    for c, one in enumerate(found.classes):
        assert one == threshold_at_fpr(scores[labels[:, c] == NEGATIVE, c], 0.15, 1 - 0.1 / 4, "logit")
        assert found.thresholds[c] == one.threshold
    assert (found.thresholds.dtype, found.thresholds.shape) == ("float32", (4,))
    assert (found.target, found.confidence, found.score) == (0.15, 0.9, "logit")


def test_the_guarantee_holds_for_all_classes_at_once():
    """Over 1,000 calibrations at least one of 5 classes misses its rate in at most 10 %; without Bonferroni in more."""
    missed, naive = [], []
    for seed in range(1000):
        labels, scores = sample(seed, 90, 5, kinds=(NEGATIVE,))
        missed.append((norm.sf(calibrate_classes(records(labels, scores), 0.1, 0.9).thresholds) > 0.1).any())
        naive.append(any(norm.sf(threshold_at_fpr(s, 0.1, 0.9).threshold) > 0.1 for s in scores.T))
    assert 0.01 < np.mean(missed) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 1000)
    assert np.mean(naive) > 0.2


def test_images_of_one_group_count_as_one():
    labels, scores = sample(n=240, kinds=(NEGATIVE,))
    groups = np.array([f"video {i % 80}" for i in range(240)])
    found = calibrate_classes(records(labels, scores, groups), 0.2)
    assert {one.samples for one in found.classes} == {80}
    assert found.classes[1] == threshold_at_fpr(scores[:, 1], 0.2, 1 - 0.05 / 4, groups=groups)


def test_json_round_trip_and_table():
    labels, scores = sample()
    made = calibrate_classes(records(labels, scores), 0.2, score="logit")
    read = ClassCalibration.from_dict(json.loads(json.dumps(made.to_dict())))
    assert read == made
    assert isinstance(read.classes[0], Calibration)
    np.testing.assert_array_equal(read.thresholds, made.thresholds)
    rows = made.table(["a", "b", "c", "d"]).splitlines()
    one = made.classes[2]
    cells = ["c", f"{one.threshold:.4g}", f"{one.samples}", f"{100 * one.rate:.3g} %", f"{100 * one.bound:.3g} %"]
    assert [cell.strip() for cell in rows[4].split("|")[1:-1]] == cells
    assert "at most 20 % are said to show it, for all 4 classes at once at 95 % confidence" in str(made)
    assert str(made).endswith(made.table())
    with pytest.raises(ValueError, match=r"A ClassCalibration has .* Missing or unknown: \['classes', 'rates'\]"):
        ClassCalibration.from_dict({"target": 0.1, "confidence": 0.9, "rates": []})


def test_too_few_images_lack_a_class():
    labels, scores = sample(kinds=(NEGATIVE,))
    labels[:-20, 2] = 2
    with pytest.raises(ValueError, match=r"Class 2: FPR 0.1 at 98.75 % confidence needs at least 42 .*there are 20"):
        calibrate_classes(records(labels, scores), 0.1)
    scores[0, 3] = np.nan
    with pytest.raises(ValueError, match="Class 3: `scores` must not be NaN"):
        calibrate_classes(records(labels[:, [3, 3, 3, 3]], scores), 0.1)
