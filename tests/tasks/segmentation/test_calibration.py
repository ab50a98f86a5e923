"""Thresholds for pixels: the lowest that the bound allows, the bound by hand, and the guarantee by simulation."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from cplus1_keras.calibration import Calibration, threshold_at_fpr
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics.pixels import bins_of, edge_of
from cplus1_keras.tasks.segmentation.calibration import (
    BETS,
    images_needed,
    mean_upper_bound,
    threshold_at_pixel_coverage,
    threshold_at_pixel_fpr,
)


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
        found = threshold_at_pixel_fpr([(np.full(40, NEGATIVE), s) for s in scores], 0.2, confidence=0.9)
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
    found = threshold_at_pixel_fpr(images, 0.2, 0.95, score="log_odds")
    negatives = [s[y == NEGATIVE] for y, s in images if (y == NEGATIVE).any()]

    def bound(threshold):
        return mean_upper_bound([np.mean(s >= np.float32(threshold)) for s in negatives], 0.95)

    edges = {float(edge_of(index)) for index in bins_of(np.concatenate(negatives))}
    edges |= {float(edge_of(index + 1)) for index in bins_of(np.concatenate(negatives))}
    assert found.threshold == min(edge for edge in edges if bound(edge) <= 0.2)
    assert found.bound == bound(found.threshold)
    assert found.accepted == sum(int(np.sum(s >= found.threshold)) for s in negatives)
    assert found.rate == pytest.approx(np.mean([np.mean(s >= found.threshold) for s in negatives]))
    assert (found.samples, found.pixels) == (len(negatives), sum(s.size for s in negatives))
    assert (found.rule, found.target, found.confidence, found.score) == ("fpr", 0.2, 0.95, "log_odds")
    assert Calibration.from_dict(found.to_dict()) == found
    assert f"the mean of {len(negatives)} images" in str(found)


def test_the_highest_threshold_at_coverage():
    generator = np.random.default_rng(4)
    scores = draw(generator, 100)
    found = threshold_at_pixel_coverage([(np.zeros(50, int), s) for s in scores], 0.8)

    def bound(threshold):
        return 1 - mean_upper_bound(np.mean(scores < np.float32(threshold), axis=1), 0.95)

    assert found.rule == "coverage"
    assert found.bound == pytest.approx(bound(found.threshold))
    assert bound(edge_of(bins_of(found.threshold) + 1)) < 0.8 <= found.bound
    assert norm.sf(found.threshold) > 0.8


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_too_few_images(rate):
    needed = images_needed(rate)
    assert mean_upper_bound(np.zeros(needed), 0.95) <= rate < mean_upper_bound(np.zeros(needed - 1), 0.95)
    images = [(np.full(9, NEGATIVE), np.arange(9.0))] * needed
    assert threshold_at_pixel_fpr(images, rate).accepted == 0
    with pytest.raises(ValueError, match=f"at least {needed} images with negative pixels; there are {needed - 1}"):
        threshold_at_pixel_fpr(images[1:], rate)
    with pytest.raises(ValueError, match=f"{needed} images with known pixels; there are 0"):
        threshold_at_pixel_coverage(images, 1 - rate)


def test_errors():
    image = (np.full(2, NEGATIVE), np.float32([1.0, np.nan]))
    with pytest.raises(ValueError, match="Image 0 has NaN scores, 1 of 2"):
        threshold_at_pixel_fpr([image], 0.1)
    with pytest.raises(ValueError, match=r"labels of shape \(2,\) and scores of shape \(3,\)"):
        threshold_at_pixel_fpr([(np.full(2, NEGATIVE), np.zeros(3))], 0.1)
    with pytest.raises(ValueError, match=r"lie in \(0, 1\). Received: 1.5"):
        threshold_at_pixel_fpr([], 1.5)
    with pytest.raises(ValueError, match="infinite: no threshold"):
        threshold_at_pixel_fpr([(np.full(2, NEGATIVE), np.full(2, np.inf))] * 60, 0.1)
    for values in ([], [1.5], [np.nan]):
        with pytest.raises(ValueError, match="draws"):
            mean_upper_bound(values, 0.9)
