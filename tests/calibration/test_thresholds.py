"""Thresholds: the lowest that the bound allows, by trying all; the guarantee, by simulation."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from cplus1_keras.calibration import (
    Calibration,
    calibrate,
    clopper_pearson_upper,
    images_needed,
    keep_scores,
    threshold_at_coverage,
    threshold_at_fpr,
)
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.tasks.records import Record


def by_trying(scores, allowed):
    """Of all float32 numbers that could matter, the lowest that `allowed(number accepted)` permits."""
    scores = np.asarray(scores, "float32")
    candidates = np.unique(np.concatenate([scores, np.nextafter(scores, np.float32(np.inf))]))
    return min(c for c in candidates if allowed(int((scores >= c).sum())))


@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize(("n", "fpr", "confidence"), [(60, 0.05, 0.95), (200, 0.1, 0.95), (200, 0.3, 0.99)])
def test_lowest_threshold(n, fpr, confidence, decimals):
    if n < np.log(1 - confidence) / np.log(1 - fpr):
        pytest.skip("refused")
    scores = np.random.default_rng(n).normal(size=n).round(decimals).astype("float32")

    def allowed(k):
        return k < n and binomtest(k, n, alternative="less").proportion_ci(confidence).high <= fpr

    got = threshold_at_fpr(scores, fpr, confidence)
    assert got.threshold == by_trying(scores, allowed)
    assert got.accepted == (scores >= np.float32(got.threshold)).sum()
    assert got.rate == got.accepted / n
    assert got.bound == pytest.approx(binomtest(got.accepted, n, alternative="less").proportion_ci(confidence).high)
    assert (got.rule, got.target, got.confidence, got.samples, got.score) == ("fpr", fpr, confidence, n, None)


@pytest.mark.parametrize("decimals", [0, 7])
def test_highest_threshold_at_coverage(decimals):
    scores = np.random.default_rng(0).normal(size=300).round(decimals).astype("float32")
    got = threshold_at_coverage(scores, 0.9, score="energy")

    def bound(threshold):
        accepted = int((scores >= threshold).sum())
        return binomtest(accepted, 300, alternative="greater").proportion_ci(0.95).low

    above = np.nextafter(np.float32(got.threshold), np.float32(np.inf))
    assert bound(got.threshold) >= 0.9 > bound(above)
    assert got.bound == pytest.approx(bound(got.threshold))
    assert (got.rule, got.accepted, got.score) == ("coverage", (scores >= got.threshold).sum(), "energy")


@pytest.mark.parametrize(("n", "target"), [(100, 0.05), (400, 0.1)])
def test_the_guarantee_holds(n, target):
    """Over 4,000 draws the true rate misses its target in at most 5 %, and nearly so: the rule wastes little."""
    draws = np.random.default_rng(0).normal(size=(4000, n))
    slack = 3 * np.sqrt(0.05 * 0.95 / 4000)
    missed = np.mean([norm.sf(threshold_at_fpr(s, target).threshold) > target for s in draws])
    assert 0.01 < missed <= 0.05 + slack
    missed = np.mean([norm.sf(threshold_at_coverage(s, 1 - target).threshold) < 1 - target for s in draws])
    assert 0.01 < missed <= 0.05 + slack


def test_clopper_pearson():
    k = np.arange(41)
    bound = clopper_pearson_upper(k, 40, 0.9)
    np.testing.assert_allclose(binom.cdf(k[:-1], 40, bound[:-1]), 0.1, rtol=1e-9)
    assert bound[-1] == 1.0
    assert float(clopper_pearson_upper(0, 50, 0.95)) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert clopper_pearson_upper(0, 1, 0.9) == pytest.approx(0.9)
    assert clopper_pearson_upper(1, 1, 0.9) == 1
    for wrong in ((-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.0), (1, 5, 0.0)):
        with pytest.raises(ValueError, match="Received: k="):
            clopper_pearson_upper(*wrong)


@pytest.mark.parametrize(("fpr", "needed"), [(0.001, 2995), (0.01, 299), (0.05, 59), (0.1, 29)])
def test_refuses_what_the_data_cannot_support(fpr, needed):
    assert images_needed(fpr) == needed
    message = f"FPR {fpr:g} at 95 % confidence needs at least {needed:,} negatives; there are {needed - 1:,}"
    with pytest.raises(ValueError, match=message):
        threshold_at_fpr(np.arange(needed - 1.0), fpr)
    assert threshold_at_fpr(np.arange(needed + 0.0), fpr).accepted == 0
    message = f"Coverage {1 - fpr:g} at 95 % confidence needs at least {needed:,} knowns; there are {needed - 1:,}"
    with pytest.raises(ValueError, match=message):
        threshold_at_coverage(np.arange(needed - 1.0), 1 - fpr)
    assert threshold_at_coverage(np.arange(needed + 0.0), 1 - fpr).accepted == needed


def test_ties_zeros_and_infinities():
    # All alike: nothing can be told apart, so all are refused, or all accepted.
    assert threshold_at_fpr(np.full(100, 2.0), 0.1).threshold == np.nextafter(np.float32(2), np.float32(3))
    assert threshold_at_coverage(np.full(100, 2.0), 0.9).threshold == 2.0
    # Above 0 comes the smallest normal number: accelerators read subnormal ones as 0, and would accept 0.
    assert threshold_at_fpr(np.zeros(100), 0.1).threshold == np.finfo("float32").tiny
    assert threshold_at_fpr(np.full(100, -np.inf), 0.1).threshold == np.finfo("float32").min
    assert threshold_at_fpr(np.full(100, np.finfo("float32").max), 0.1).threshold == np.inf
    with pytest.raises(ValueError, match="no threshold refuses them"):
        threshold_at_fpr(np.full(100, np.inf), 0.1)
    for score in (1e-40, -1e-40):
        assert threshold_at_fpr(np.full(100, score), 0.1).threshold == np.finfo("float32").tiny
        assert threshold_at_coverage(np.full(100, score), 0.9).threshold == 0
    # Two float64 scores that are one float32 number are refused together.
    assert threshold_at_fpr(np.concatenate([np.zeros(95), 1 + 1e-9 * np.arange(5)]), 0.1).accepted == 0


def test_errors():
    for wrong in ({"fpr": 0.0}, {"fpr": 5}, {"fpr": 0.1, "confidence": 95}):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
            threshold_at_fpr(np.arange(100.0), **wrong)
    with pytest.raises(ValueError, match="1 of 100 are"):
        threshold_at_fpr(np.where(np.arange(100) == 3, np.nan, 0.0), 0.1)
    with pytest.raises(ValueError, match=r"shape=\(10, 10\)"):
        threshold_at_coverage(np.zeros((10, 10)), 0.9)
    with pytest.raises(ValueError, match="there are 0"):
        threshold_at_fpr(np.zeros(0), 0.1)
    with pytest.raises(ValueError, match=r"Received: \(3,\) for \(100,\)"):
        threshold_at_fpr(np.zeros(100), 0.1, groups=[1, 2, 3])


def images(seed=0, n=400, kinds=(0, 1, NEGATIVE, UNKNOWN, IGNORE)):
    """Records of one decision each, of all kinds."""
    generator = np.random.default_rng(seed)
    labels, scores = generator.choice(kinds, n), generator.normal(size=n).astype("float32")
    return (
        labels,
        scores,
        [Record(y, np.int32(0), s, str(i)) for i, (y, s) in enumerate(zip(labels, scores, strict=True))],
    )


def test_calibrate_takes_the_negatives():
    labels, scores, records = images()
    wanted = threshold_at_fpr(scores[labels == NEGATIVE], 0.2, 0.9, "energy")
    kept = dataclasses.replace(wanted, sample=keep_scores(labels, scores))
    assert calibrate(iter(records), 0.2, 0.7, 0.9, "energy") == kept
    assert (wanted.rule, wanted.unit, wanted.decisions) == ("fpr", "image", wanted.samples)
    # Their unknown group names are as good as none; a name for all of them would be one sample.
    assert (
        threshold_at_fpr(scores[labels == NEGATIVE], 0.2, 0.9, "energy", np.flatnonzero(labels == NEGATIVE)) == wanted
    )
    with pytest.raises(ValueError, match=r"needs at least .* groups with negative images; there are 1"):
        calibrate([record._replace(group="drive") for record in records], 0.2, 0.7)


def test_calibrate_without_negatives_takes_the_knowns():
    labels, scores, records = images(kinds=(0, 1, UNKNOWN, IGNORE))
    wanted = threshold_at_coverage(scores[labels >= 0], 0.7, 0.9, "energy")
    wanted = dataclasses.replace(wanted, sample=keep_scores(labels, scores))
    assert calibrate(records, 0.2, 0.7, 0.9, "energy") == wanted
    assert wanted.rule == "coverage"
    with pytest.raises(ValueError, match=r"Coverage 0.7 .* knowns; there are 0"):
        calibrate([], 0.2, 0.7)


def test_one_negative_is_too_few():
    """Where there are negatives the rate is about them, however few: no silent change of what is promised."""
    _, _, records = images(kinds=(0, 1))
    late = Record(np.int32(NEGATIVE), np.int32(0), np.float32(0), "late")
    with pytest.raises(ValueError, match=r"FPR 0.2 .* negatives; there are 1"):
        calibrate([*records, late], 0.2, 0.7)


def test_json_round_trip_keeps_the_threshold_exact():
    made = threshold_at_fpr(np.random.default_rng(0).normal(size=100), 0.1, score="log_odds")
    read = Calibration.from_dict(json.loads(json.dumps(made.to_dict())))
    assert read == made
    assert np.float32(read.threshold) == read.threshold
    with pytest.raises(ValueError, match=r"Missing or unknown: \['bound', 'limit'\]"):
        Calibration.from_dict({**{k: v for k, v in made.to_dict().items() if k != "bound"}, "limit": 1})
    with pytest.raises(ValueError, match="rule='tpr'"):
        dataclasses.replace(made, rule="tpr")
    assert str(threshold_at_coverage(np.arange(100.0), 0.9)) == (
        "Accept score >= 4: 96 of 100 knowns accepted (96 %); at 95 % confidence at least 91.1 %; asked: 90 %."
    )
