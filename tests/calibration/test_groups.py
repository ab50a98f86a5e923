"""Thresholds where only groups are independent: the lowest that the bound allows, the bound by hand, the guarantee."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy.stats import beta, norm

from cplus1_keras.calibration import (
    Calibration,
    calibrate,
    images_needed,
    mean_upper_bound,
    threshold_at_coverage,
    threshold_at_fpr,
)
from cplus1_keras.calibration.bounds import BETS
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics.bins import lower_edge, to_bins
from cplus1_keras.tasks.records import Record


def records(pairs):
    """Records of images from pairs of labels and scores."""
    return [Record(np.asarray(y), np.asarray(y) * 0, np.asarray(s), f"{i}") for i, (y, s) in enumerate(pairs)]


def at_fpr(pairs, fpr, confidence=0.95, score=None):
    return calibrate(iter(records(pairs)), fpr, 0.5, confidence, score)


def at_coverage(pairs, coverage, confidence=0.95):
    return calibrate(records(pairs), 0.5, coverage, confidence)


def draw(generator, images, pixels=50, within=0.7):
    """Images whose pixels share an offset: with `within` small, a thousand pixels tell hardly more than one."""
    offsets = generator.normal(size=(images, 1)) * np.sqrt(1 - within**2)
    return (offsets + within * generator.normal(size=(images, pixels))).astype("float32")


def capital(values, mean):
    """e(m), as the docstring writes it."""
    return np.mean([np.prod(1 - bet * (values - mean) / (1 - mean)) for bet in BETS])


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_bound_by_its_equation(confidence):
    values = beta.rvs(1, 15, size=90, random_state=np.random.default_rng(0))
    bound = mean_upper_bound(values, confidence)
    assert capital(values, bound) == pytest.approx(1 / (1 - confidence), rel=1e-9)
    assert mean_upper_bound(values[::-1], confidence) == pytest.approx(bound, rel=1e-12)
    assert mean_upper_bound(np.minimum(values + 0.01, 1), confidence) > bound > values.mean()
    assert mean_upper_bound(np.ones(50), confidence) == 1.0
    assert mean_upper_bound(np.zeros(1), confidence) < 1.0


@pytest.mark.parametrize("draws", [beta(1, 9), beta(20, 180), beta(0.05, 0.45)])
def test_the_bound_holds(draws):
    """Each of these distributions on [0, 1] has the mean 0.1; the last one is nearly of 0 and 1 alone."""
    generator = np.random.default_rng(1)
    values = draws.rvs(size=(1500, 60), random_state=generator)
    missed = np.mean([mean_upper_bound(v, 0.9) < 0.1 for v in values])
    assert missed <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 1500)


@pytest.mark.parametrize("within", [0.1, 0.8])
def test_the_guarantee_holds_for_pixels_that_are_alike(within):
    """Over 200 calibrations the true rate misses its target in at most 10 %; counting pixels misses far more often.

    The share of an image's pixels above t, on average over images, is P(N(0, 1) >= t).
    """
    generator, missed, naive = np.random.default_rng(2), [], []
    for _ in range(200):
        scores = draw(generator, 50, 40, within)
        found = at_fpr([(np.full(40, NEGATIVE), s) for s in scores], 0.2, confidence=0.9)
        missed.append(norm.sf(found.threshold) > 0.2)
        naive.append(norm.sf(threshold_at_fpr(scores.ravel(), 0.2, confidence=0.9).threshold) > 0.2)
    assert np.mean(missed) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 200)
    assert np.mean(naive) > 0.25


def test_the_lowest_threshold():
    """By trying all edges; only pixels of the background count, and images without any are no evidence."""
    generator = np.random.default_rng(3)
    images = []
    for _ in range(80):
        shape = tuple(generator.integers(3, 8, 2))
        labels = generator.choice([0, 1, NEGATIVE, UNKNOWN, IGNORE], shape)
        images.append((labels, np.where(labels == NEGATIVE, generator.normal(size=shape), np.nan).astype("float32")))
    images.append((np.zeros((4, 4), int), np.full((4, 4), np.inf, "float32")))
    found = at_fpr(images, 0.2, 0.95, score="log_odds")
    negatives = [s[y == NEGATIVE] for y, s in images if (y == NEGATIVE).any()]

    def bound(threshold):
        return mean_upper_bound([np.mean(s >= np.float32(threshold)) for s in negatives], 0.95)

    edges = {float(lower_edge(index)) for index in to_bins(np.concatenate(negatives))}
    edges |= {float(lower_edge(index + 1)) for index in to_bins(np.concatenate(negatives))}
    assert found.threshold == min(edge for edge in edges if bound(edge) <= 0.2)
    assert found.bound == bound(found.threshold)
    assert found.accepted == sum(int(np.sum(s >= found.threshold)) for s in negatives)
    assert found.rate == pytest.approx(np.mean([np.mean(s >= found.threshold) for s in negatives]))
    assert (found.samples, found.decisions) == (len(negatives), sum(s.size for s in negatives))
    assert (found.rule, found.target, found.confidence, found.score) == ("fpr", 0.2, 0.95, "log_odds")
    assert Calibration.from_dict(found.to_dict()) == found
    share, most = f"{100 * found.rate:.3g} % of an image's negatives accepted", f"at most {100 * found.bound:.3g} %"
    assert f"{share}, the mean of {len(negatives)} images ({found.accepted} of {found.decisions} pixels); at" in str(
        found
    )
    assert most in str(found)
    scores, groups = np.concatenate(negatives), np.repeat(np.arange(len(negatives)), [s.size for s in negatives])
    order = generator.permutation(scores.size)
    from_arrays = threshold_at_fpr(scores[order], 0.2, 0.95, "log_odds", groups[order])
    assert dataclasses.replace(from_arrays, unit="pixel") == found


def test_the_highest_threshold_at_coverage():
    generator = np.random.default_rng(4)
    scores = draw(generator, 100)
    found = at_coverage([(np.zeros(50, int), s) for s in scores], 0.8)

    def bound(threshold):
        return 1 - mean_upper_bound(np.mean(scores < np.float32(threshold), axis=1), 0.95)

    assert found.rule == "coverage"
    groups = np.repeat(np.arange(100), 50)
    assert dataclasses.replace(threshold_at_coverage(scores.ravel(), 0.8, groups=groups), unit="decision") == found
    assert found.bound == pytest.approx(bound(found.threshold))
    assert bound(lower_edge(to_bins(found.threshold) + 1)) < 0.8 <= found.bound
    assert norm.sf(found.threshold) > 0.8


def test_parts_of_a_group_count_as_one():
    """Crops of an image follow each other; groups that are torn are refused."""
    pairs = [(np.full(50, NEGATIVE), s) for s in draw(np.random.default_rng(5), 60)]
    whole, crops = records(pairs), []
    for record in whole:
        for part in (slice(7), slice(7, 8), slice(8, None)):
            crops.append(Record(*(array[part] for array in record[:3]), record.group))
    assert calibrate(crops, 0.2, 0.5) == calibrate(whole, 0.2, 0.5)
    with pytest.raises(ValueError, match="must follow each other; those of '0' do not"):
        calibrate([*whole, whole[0]], 0.2, 0.5)


def test_images_of_a_video_count_as_one():
    """Single decisions of several images in a group; the bound of the groups' means."""
    scores = draw(np.random.default_rng(6), 60, 4)
    videos = [
        Record(np.int32(NEGATIVE), np.int32(0), score, f"video {i}") for i, row in enumerate(scores) for score in row
    ]
    found = calibrate(videos, 0.2, 0.5)
    assert (found.samples, found.decisions, found.unit) == (60, 240, "image")
    assert found.bound == mean_upper_bound(np.mean(scores >= np.float32(found.threshold), axis=1), 0.95)
    assert f"of a group's negatives accepted, the mean of 60 groups ({found.accepted} of 240 images)" in str(found)
    assert calibrate(videos, 0.2, 0.5, unit="frame").unit == "frame"


def test_one_pixel_in_each_image_is_one_decision():
    """Clopper-Pearson then, on exact scores; one image with two needs the other bound."""
    scores = np.random.default_rng(7).normal(size=(60, 1)).astype("float32")
    pairs = [(np.array([[NEGATIVE, 0]]), np.append(s, np.float32(9))[None]) for s in scores]
    found = at_fpr(pairs, 0.1)
    assert dataclasses.replace(found, unit="image") == threshold_at_fpr(scores[:, 0], 0.1)
    assert found.unit == "pixel"
    assert at_fpr([*pairs, (np.full((1, 2), NEGATIVE), np.zeros((1, 2)))], 0.1).decisions == 62


def test_memory_is_that_of_histograms():
    """200 images of 0.8 MB each, of few distinct scores: far less than all scores is held at any time."""

    def stream():
        generator = np.random.default_rng(8)
        for number in range(200):
            labels = np.where(generator.random((200, 500)) < 0.5, NEGATIVE, 0)
            yield Record(labels, labels, generator.integers(0, 99, labels.shape).astype("float32"), str(number))

    tracemalloc.start()
    calibrate(stream(), 0.1, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_too_few_images(rate):
    needed = images_needed(rate, single=False)
    assert mean_upper_bound(np.zeros(needed), 0.95) <= rate < mean_upper_bound(np.zeros(needed - 1), 0.95)
    images = [(np.full((3, 3), NEGATIVE), np.arange(9.0).reshape(3, 3))] * needed
    assert at_fpr(images, rate).accepted == 0
    with pytest.raises(ValueError, match=f"at least {needed} images with negative pixels; there are {needed - 1}"):
        at_fpr(images[1:], rate)
    images = [(np.zeros((3, 3), int), np.arange(9.0).reshape(3, 3))] * (needed - 1)
    with pytest.raises(ValueError, match=f"{needed} images with known pixels; there are {needed - 1}"):
        at_coverage(images, 1 - rate)


def test_errors():
    image = (np.full(2, NEGATIVE), np.float32([1.0, np.nan]))
    with pytest.raises(ValueError, match="'0' has NaN scores, 1 of 2"):
        at_fpr([image], 0.1)
    with pytest.raises(ValueError, match=r"labels of shape \(2,\) and scores of shape \(3,\)"):
        at_fpr([(np.full(2, NEGATIVE), np.zeros(3))], 0.1)
    with pytest.raises(ValueError, match=r"lie in \(0, 1\). Received: 1.5"):
        at_fpr([(np.full(2, NEGATIVE), np.zeros(2))], 1.5)
    with pytest.raises(ValueError, match="infinite: no threshold"):
        at_fpr([(np.full(2, NEGATIVE), np.full(2, np.inf))] * 60, 0.1)
    for values in ([], [1.5], [-0.5], [np.nan], [[0.5]]):
        with pytest.raises(ValueError, match="draws"):
            mean_upper_bound(values, 0.9)
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"confidence={confidence}"):
            mean_upper_bound([0.5], confidence)
