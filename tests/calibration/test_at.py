"""What the samples of a calibration say of other thresholds, against counting them."""

import numpy as np
import pytest
from scipy.stats import binomtest

from cplus1_keras.calibration import (
    Calibration,
    calibrate_classes,
    calibrate_detections,
    mean_upper_bound,
    threshold_at_coverage,
    threshold_at_fpr,
)
from cplus1_keras.metrics.bins import lower_edge, to_bins
from cplus1_keras.tasks import Record


@pytest.mark.parametrize("threshold", [-9.0, 0.1, 0.5, 1.25, 9.0])
def test_single_decisions_get_the_clopper_pearson_bound(threshold):
    scores = np.random.default_rng(0).normal(size=80).astype("float32")
    scores[3] = threshold  # at the threshold is accepted
    accepted = int((scores >= threshold).sum())
    found = threshold_at_fpr(scores, 0.2, 0.9, "energy").at(threshold)
    assert (found.threshold, found.accepted, found.rate, found.samples) == (threshold, accepted, accepted / 80, 80)
    assert found.bound == pytest.approx(binomtest(accepted, 80, alternative="less").proportion_ci(0.9).high)
    assert (found.rule, found.target, found.confidence, found.score) == ("fpr", 0.2, 0.9, "energy")
    found = threshold_at_coverage(scores, 0.8, 0.9).at(threshold)
    assert found.bound == pytest.approx(binomtest(accepted, 80, alternative="greater").proportion_ci(0.9).low)


def test_groups_get_the_bound_of_their_mean():
    rng = np.random.default_rng(1)
    groups, scores = np.arange(50).repeat(4), rng.normal(size=200)
    edge = float(lower_edge(to_bins(0.7)))
    shares = (scores.astype("float32") >= np.float32(edge)).reshape(50, 4).mean(axis=1)
    found = threshold_at_fpr(scores, 0.2, groups=groups).at(0.7)  # which lies inside a bin
    assert found.threshold == edge < 0.7
    assert (found.accepted, found.rate) == (4 * shares.sum(), pytest.approx(shares.mean()))
    assert found.bound == pytest.approx(mean_upper_bound(shares, 0.95))
    found = threshold_at_coverage(scores, 0.1, groups=groups).at(edge)
    assert found.bound == pytest.approx(1 - mean_upper_bound(1 - shares, 0.95))


def test_the_threshold_itself_is_told_as_it_was():
    found = threshold_at_fpr(np.arange(100.0), 0.1)
    assert found.at(found.threshold) == found


def test_a_file_keeps_no_samples():
    found = threshold_at_fpr(np.arange(100.0), 0.1)
    assert "at" not in found.to_dict()
    assert Calibration.from_dict(found.to_dict()).at is None
    with pytest.raises(ValueError, match=r"unknown: \['at'\]"):
        Calibration.from_dict({**found.to_dict(), "at": None})


def test_detections_keep_what_they_count():
    labels = np.array([0, -1])
    records = [Record(labels, np.zeros(2, int), np.array([2, worst]), str(worst)) for worst in np.linspace(0, 1, 60)]
    found = calibrate_detections(records, 0.1).at(0.5)
    assert (found.accepted, found.event) == (30, "images with a false detection")


def test_classes_are_moved_together():
    labels = np.array([[0, -1], [-1, 1]] * 99)
    scores = np.linspace(-1, 1, 198)[:, None] * [1, 2] + 2 * (labels >= 0)
    images = [Record(y, np.arange(2), s, str(i)) for i, (y, s) in enumerate(zip(labels, scores, strict=True))]
    found = calibrate_classes(images, 0.1)
    moved = found.at(-0.5)
    assert moved.thresholds.tolist() == (found.thresholds - np.float32(0.5)).tolist()
    for c, own in enumerate(moved.classes):
        lacking = scores[labels[:, c] < 0, c].astype("float32")
        assert own.accepted == (lacking >= found.thresholds[c] - np.float32(0.5)).sum() > found.classes[c].accepted
