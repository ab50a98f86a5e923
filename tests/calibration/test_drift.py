"""Tests that may be repeated at any time: by hand, by their definition, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from cplus1_keras import calibration
from cplus1_keras.calibration import find_drift, keep_scores, mix_scores, uniform_ranks


def mean_evidence(p, kinds):
    """The evidence after the last of p, a sum over starts and bets as the docstring has it."""
    q = {"lower": p, "higher": 1 - p, "narrower": abs(2 * p - 1), "wider": 1 - abs(2 * p - 1)}
    total = 1 / math.log2(len(p) + 2)
    for kind in kinds:
        for e in (0.5, 0.75, 0.9):
            for j in range(len(p)):
                weight = 1 / math.log2(j + 2) - 1 / math.log2(j + 3)
                total += weight / (3 * len(kinds)) * math.prod(e * x ** (e - 1) for x in q[kind][j:])
    return total


def test_one_value_by_hand():
    u = 1 - np.random.default_rng(5).random()
    p = u / 3  # below 1 and 2, so the rank is u of 1 in 3
    gain = (0.5 * p**-0.5 + 0.75 * p**-0.25 + 0.9 * p**-0.1) / 3
    expected = 1 / math.log2(3) + (1 - 1 / math.log2(3)) * gain
    drift = find_drift([1.0, 2.0], [0.5], kinds=("lower",), seed=5)
    assert math.exp(drift.log_evidence[0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kinds", [("lower", "higher", "narrower", "wider"), ("wider",)])
def test_the_evidence_is_the_sum_over_starts_and_bets(kinds):
    generator = np.random.default_rng(0)
    reference, values = generator.integers(0, 9, 20), generator.integers(2, 12, 15)
    p = uniform_ranks(reference, values, seed=3)
    drift = find_drift(reference, values, kinds=kinds, seed=3)
    for n in (1, 7, 15):
        assert math.exp(drift.log_evidence[n - 1]) == pytest.approx(mean_evidence(p[:n], kinds), rel=1e-9)


def test_ranks_are_those_of_one_value_after_the_other(monkeypatch):
    monkeypatch.setattr(calibration.drift, "BLOCK", 4)
    generator = np.random.default_rng(1)
    reference, values = generator.integers(0, 5, 7).tolist(), generator.integers(0, 5, 11).tolist()
    values[3], values[8] = -np.inf, np.inf
    u = 1 - np.random.default_rng(2).random(11)
    for number, rank in enumerate(uniform_ranks(reference, values, seed=2)):
        earlier = np.array(reference + values[:number])
        below, equal = np.sum(earlier < values[number]), np.sum(earlier == values[number])
        assert rank == pytest.approx((below + u[number] * (equal + 1)) / (len(earlier) + 1))


@pytest.mark.parametrize("draw", [lambda g, n: g.normal(size=n), lambda g, n: (g.random(n) < 0.1) * 1.0])
def test_false_alarms_are_as_rare_as_promised_though_one_looks_after_every_answer(draw):
    generator, alpha, runs = np.random.default_rng(7), 0.2, 300
    alarms = [find_drift(draw(generator, 40), draw(generator, 300), alpha, seed=s).alarm for s in range(runs)]
    count = sum(alarm is not None for alarm in alarms)
    assert count <= stats.binom.ppf(0.999, runs, alpha)
    assert count > 0.02 * runs  # it bets at all


@pytest.mark.parametrize(
    ("kind", "draw", "within"),
    [
        ("lower", lambda g, n: g.normal(-1, 1, n), 90),
        ("higher", lambda g, n: g.normal(1, 1, n), 90),
        ("wider", lambda g, n: g.normal(0, 2, n), 90),
        ("narrower", lambda g, n: g.normal(0, 0.3, n), 90),
    ],
)
def test_a_shift_is_found_soon_and_dated(kind, draw, within):
    generator, delays, starts = np.random.default_rng(3), [], []
    for seed in range(10):
        values = np.concatenate([generator.normal(size=1000), draw(generator, 300)])
        drift = find_drift(generator.normal(size=300), values, seed=seed)
        assert drift.kind == kind
        assert drift.earliest <= drift.start <= drift.latest
        delays.append(drift.alarm - 1000)
        starts.append(drift.start - 1000)
    assert 0 < np.median(delays) < max(delays) < within
    assert abs(np.median(starts)) < 20


def test_a_share_of_zeros_that_rises_is_found():
    generator = np.random.default_rng(3)
    values = np.concatenate([generator.random(1000) > 0.1, generator.random(300) > 0.4])
    drift = find_drift(generator.random(300) > 0.1, values, kinds=("lower", "higher"))
    assert drift.kind == "lower"
    assert 1000 < drift.alarm < 1200
    assert 900 < drift.start < 1050


def test_the_stretch_of_starts_grows_to_its_heavier_side():
    weights = np.array([0.2, 0.1, 0.5, 0.05, 0.15])
    shares = {0.4: (2, 2), 0.6: (1, 2), 0.8: (0, 2), 0.85: (0, 3), 0.99: (0, 4)}
    assert {share: calibration.drift._shortest(weights, 2, share - 1e-9) for share in shares} == shares


def test_alpha_is_the_limit():
    generator = np.random.default_rng(3)
    values = generator.normal(-3, 1, 100)
    early, late = (find_drift(np.arange(-50, 51) / 25, values, alpha) for alpha in (0.3, 1e-4))
    assert late.limit == pytest.approx(math.log(1e4))
    assert early.alarm < late.alarm
    assert late.log_evidence[late.alarm] >= late.limit > late.log_evidence[late.alarm - 1]
    assert find_drift([0.0], []).alarm is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([], [1.0]), "m >= 1"),
        (([1.0], [np.nan]), "0 and 1 NaN"),
        (([[1.0]], [1.0]), "Received"),
        (([1.0], [1.0], 0.0), "alpha"),
    ],
)
def test_what_cannot_be_tested_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        find_drift(*arguments)


def test_a_sample_is_bounded_and_tells_of_how_many_it_is():
    labels, scores = np.repeat([4, -1, -2, -100], [700, 30, 9, 9]), np.arange(748.0)
    sample = keep_scores(labels, scores, kept=50)
    assert (len(sample["known"]), sample["known_total"]) == (50, 700)
    assert sample["known"] == sorted(set(sample["known"]))
    assert max(sample["known"]) < 700
    assert min(sample["known"]) < 100 < 600 < max(sample["known"])
    assert (sample["negative"], sample["negative_total"]) == ([*np.arange(700.0, 730)], 30)


def test_a_mixture_has_the_share_that_is_asked_for():
    sample = keep_scores(np.repeat([0, -1], [400, 100]), np.repeat([1.0, -1.0], [400, 100]))
    for strangers, expected in ((None, 0.2), (0.05, 0.05), (0.7, 0.7)):
        scores, share = zip(*(mix_scores(sample, strangers, seed) for seed in range(200)), strict=True)
        assert set(share) == {expected}
        counts = np.array([np.sum(s < 0) for s in scores])
        n = len(scores[0])
        assert n >= 70
        assert {len(s) for s in scores} == {n}
        assert counts.mean() == pytest.approx(n * expected, abs=4 * math.sqrt(n * expected / 200))
        # The number is a binomial one, as that of independent images.
        assert counts.var() == pytest.approx(n * expected * (1 - expected), rel=0.5)
    assert [len(mix_scores(sample, share)[0]) for share in (0, 1)] == [400, 100]
    with pytest.raises(ValueError, match="strangers"):
        mix_scores(sample, 1.2)
    with pytest.raises(ValueError, match="no scores of negative"):
        mix_scores(keep_scores([0], [1.0]), 0.1)


def test_a_calibration_keeps_a_sample_of_single_decisions():
    from cplus1_keras.tasks.records import Record

    labels, scores = np.repeat([2, -1], [40, 60]), np.random.default_rng(0).normal(size=100).astype("float32")
    records = [Record(np.array(y), y, np.array(s), str(i)) for i, (y, s) in enumerate(zip(labels, scores, strict=True))]
    found = calibration.calibrate(records, fpr=0.2, coverage=0.9)
    assert found.sample == keep_scores(labels, scores)
    assert calibration.Calibration.from_dict(found.to_dict()) == found
    values = found.to_dict()
    del values["sample"]  # a record of an earlier version
    assert calibration.Calibration.from_dict(values).sample is None
    paired = [record._replace(group=str(i // 2)) for i, record in enumerate(records)]
    assert calibration.calibrate(paired, fpr=0.4, coverage=0.9).sample is None
