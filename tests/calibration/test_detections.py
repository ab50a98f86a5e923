"""The promise of detections: by Clopper-Pearson on images, and by what it says for new ones."""

import numpy as np
import pytest
from scipy import stats

from cplus1_keras.calibration import Calibration, calibrate_detections
from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.tasks.records import Record


def records(count, seed, groups=1, mean=3.0):
    """Images with a random number of detections; false ones score less."""
    rng, made = np.random.default_rng(seed), []
    for i in range(count):
        labels = rng.choice([0, 1, NEGATIVE, IGNORE], rng.poisson(2 * mean), p=[0.3, 0.1, 0.5, 0.1])
        scores = rng.normal(size=len(labels)) + 2 * (labels >= 0) + 5 * (labels == IGNORE)
        made.append(Record(labels, np.zeros(len(labels), int), scores.astype("float32"), str(i // groups)))
    return made


def share(made, threshold, allowed):
    """Share of images with more false detections at a threshold than are allowed."""
    counts = [np.sum((r.labels == NEGATIVE) & (r.scores >= threshold)) for r in made]
    return np.mean(np.array(counts) > allowed)


@pytest.mark.parametrize("allowed", [0, 2])
def test_the_threshold_is_the_lowest_that_can_be_proved(allowed):
    made = records(90, seed=1)
    found = calibrate_detections(made, 0.2, confidence=0.9, score="log_odds", allowed=allowed)
    bad = round(90 * share(made, found.threshold, allowed))
    assert (found.samples, found.accepted, found.score, found.rule) == (90, bad, "log_odds", "fpr")
    assert found.bound == pytest.approx(stats.beta.ppf(0.9, bad + 1, 90 - bad))
    assert found.bound <= 0.2
    lower = max(s for r in made for s in r.scores[r.labels == NEGATIVE] if s < found.threshold)
    assert round(90 * share(made, lower, allowed)) == bad + 1
    assert stats.beta.ppf(0.9, bad + 2, 89 - bad) > 0.2
    event = "images with a false detection" if not allowed else "images with more than 2 false detections"
    assert f": {bad} of 90 {event} (" in str(found)
    assert Calibration.from_dict(found.to_dict()) == found


def test_the_promise_holds_for_new_images():
    world = records(4000, seed=2)
    rates = [share(world, calibrate_detections(records(60, s), 0.2, confidence=0.8).threshold, 0) for s in range(3, 53)]
    assert 0.8 <= np.mean(np.array(rates) <= 0.2) <= 1


def test_images_of_one_video_count_once():
    made = records(120, seed=4, groups=2)
    found = calibrate_detections(made, 0.3, confidence=0.9)
    assert (found.samples, found.decisions) == (60, 120)
    pairs = [share(made[i : i + 2], found.threshold, 0) for i in range(0, 120, 2)]
    assert found.rate == pytest.approx(np.mean(pairs))
    assert "a group's images with a false detection, the mean of 60 groups" in str(found)


def test_what_cannot_be_promised_is_told():
    with pytest.raises(ValueError, match="at least 29"):
        calibrate_detections(records(28, 0), 0.1)
    with pytest.raises(ValueError, match="allowed=-1"):
        calibrate_detections(records(60, 0), 0.1, allowed=-1)
    nothing = [Record(np.array([0]), np.array([0]), np.array([1.0]), str(i)) for i in range(40)]
    found = calibrate_detections(nothing, 0.1)
    assert (found.accepted, found.threshold <= -3e38) == (0, True)
