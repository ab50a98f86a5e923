"""Figures of an evaluation in parts: exact ones as one by one, binned ones as near to them as they say."""

import json

import numpy as np
import pytest

from cplus1_keras import metrics
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import BinnedScores, ExactScores
from cplus1_keras.metrics.bins import TINY, lower_edge, to_bins

FPRS = (0.001, 0.01, 0.1, 0.29, 0.5, 1.0)
GROUPS = ("negative", "unknown", "both")
NAMES = ["auroc", "aupr_known", "aupr_group", "fpr95", "open_auc", *(f"ccr_at_fpr_{fpr:g}" for fpr in FPRS)]


def sample(seed, n=4000, spread=1.0, decimals=None):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, NEGATIVE, UNKNOWN, IGNORE], n)
    scores = spread * (generator.normal(size=n) + 1.5 * (labels >= 0))
    scores = scores if decimals is None else scores.round(decimals)
    return labels, generator.integers(0, 3, n), scores.astype("float32")


def counted(made, labels, predictions, scores, parts=1):
    """An accumulator after some samples, in so many parts."""
    for part in np.array_split(np.arange(labels.size), parts):
        made.update(labels[part], predictions[part], scores[part])
    return made


def rounded(scores):
    return lower_edge(to_bins(scores))


@pytest.mark.parametrize("parts", [1, 7])
def test_exact_figures_are_those_of_the_functions(parts):
    labels, predictions, scores = sample(1, 500, decimals=1)
    summary = counted(ExactScores(samples=0), labels, predictions, scores, parts).summary([0.1, 0.3], GROUPS)
    for group, figures in summary.items():
        ccr = metrics.ccr_at_fpr(labels, predictions, scores, [0.1, 0.3], group)
        assert figures == {
            "knowns": (labels >= 0).sum(),
            "members": {"negative": (labels == NEGATIVE).sum(), "unknown": (labels == UNKNOWN).sum()}.get(
                group, np.isin(labels, [NEGATIVE, UNKNOWN]).sum()
            ),
            "accuracy": metrics.closed_set_accuracy(labels, predictions),
            "ccr_at_fpr_0.1": ccr[0],
            "ccr_at_fpr_0.3": ccr[1],
            "auroc": metrics.auroc(labels, scores, group),
            "aupr_known": metrics.aupr(labels, scores, group),
            "aupr_group": metrics.aupr(labels, scores, group, positive="group"),
            "fpr95": metrics.fpr_at_tpr(labels, scores, group),
            "open_auc": metrics.open_auc(labels, predictions, scores, group),
        }


@pytest.mark.parametrize("seed", [0, 5])
def test_intervals_are_those_of_bootstrap(seed):
    labels, predictions, scores = sample(2, 200)
    kept = (labels != NEGATIVE) & (labels != IGNORE)
    given = labels[kept], predictions[kept], scores[kept]
    figures = counted(ExactScores(samples=100, seed=seed), labels, predictions, scores, 3).summary()["unknown"]
    at = {"group": "unknown", "samples": 100, "seed": seed}
    area = metrics.bootstrap(metrics.auroc, given[0], given[2], **at)
    assert figures["intervals"]["auroc"] == [area.low, area.high]
    ccr = metrics.bootstrap(metrics.ccr_at_fpr, *given, fpr=0.3, **at)
    assert figures["intervals"]["ccr_at_fpr_0.3"] == [ccr.low, ccr.high]
    assert [*figures["intervals"]] == [name for name in figures if name not in ("knowns", "members", "intervals")]


@pytest.mark.parametrize(("spread", "decimals"), [(1.0, None), (0.001, None), (30.0, None), (1.0, 1), (0.0, None)])
def test_binned_figures_and_their_errors(spread, decimals):
    """Of the scores rounded down the figures are exact; of the scores themselves they are within the stated errors."""
    labels, predictions, scores = sample(0, spread=spread, decimals=decimals)
    got = counted(BinnedScores(), labels, predictions, scores, 7).summary(FPRS, GROUPS)
    json.dumps(got, allow_nan=False)
    exact = counted(ExactScores(samples=0), labels, predictions, scores).summary(FPRS, GROUPS)
    low = counted(ExactScores(samples=0), labels, predictions, rounded(scores)).summary(FPRS, GROUPS)
    for group in GROUPS:
        assert {name: got[group][name] for name in got[group] if name != "errors"} == low[group]
        for name in ("accuracy", "knowns", "members"):
            assert got[group][name] == exact[group][name]
        assert sorted(got[group]["errors"]) == sorted(NAMES)
        for name, error in got[group]["errors"].items():
            if error is not None:
                assert abs(got[group][name] - exact[group][name]) <= error + 1e-12, name
    if spread == 1.0 and decimals is None:
        assert got["unknown"]["errors"]["auroc"] < 1e-3
        assert max(error or 0 for error in got["unknown"]["errors"].values()) < 0.02


def test_a_rate_that_is_reached_counts():
    """29 of 100 are a rate of 0.29, although 0.29 * 100 < 29 in floating point."""
    labels, scores = np.repeat([0, -2], 100), np.concatenate([np.full(100, 71.0), np.arange(100.0)])
    for made in (BinnedScores(), ExactScores(samples=0)):
        figures = counted(made, labels, np.zeros(200, int), scores).summary([0.29])["unknown"]
        assert figures["ccr_at_fpr_0.29"] == 1.0


def test_errors_are_reached():
    """Two scores that share a bin: the figure says 1/2 ± 1/2, and the truth is 1."""
    binned = BinnedScores()
    binned.update([0, -2], [0, 0], np.float32([1.0012, 1.0011]))
    figures = binned.summary(fprs=[])["unknown"]
    errors = figures["errors"]
    assert (figures["auroc"], errors["auroc"], figures["fpr95"], errors["fpr95"]) == (0.5, 0.5, 1, 1)
    assert (figures["aupr_known"], errors["aupr_known"]) == (0.5, 0.5)
    assert (figures["open_auc"], errors["open_auc"]) == (0.5, 0.5)
    assert metrics.fpr_at_tpr([0, -2], np.float32([1.0012, 1.0011]), "unknown") == 0
    assert metrics.aupr([0, -2], np.float32([1.0012, 1.0011]), "unknown") == 1


def test_the_error_of_a_rate_counts_the_bin_below():
    """Within the lowest bin a threshold of 1.0012 reaches the rate 3/4 with both knowns; its edge would accept all."""
    labels, scores = [0, 0, -2, -2, -2, -2], np.float32([1.0013, 2.5, 1.001, 1.0012, 2.0, 3.0])
    binned = BinnedScores()
    binned.update(labels, [0] * 6, scores)
    figures = binned.summary([0.75])["unknown"]
    assert metrics.ccr_at_fpr(labels, [0] * 6, scores, 0.75, "unknown") == 1.0
    assert (figures["ccr_at_fpr_0.75"], figures["errors"]["ccr_at_fpr_0.75"]) == (0.5, 0.5)
    # A rate of exactly 0.29 begins at 71: 30 knowns are there, 70 in the bin below, none above.
    labels, scores = np.repeat([0, -2], 100), np.concatenate([np.repeat([70.0, 71.0], [70, 30]), np.arange(100.0)])
    figures = counted(BinnedScores(), labels, np.zeros(200, int), scores).summary([0.29])["unknown"]
    assert (figures["ccr_at_fpr_0.29"], figures["errors"]["ccr_at_fpr_0.29"]) == (0.3, 0.7)


@pytest.mark.parametrize("repeats", [1, 30])
def test_the_errors_of_precision_hold_for_every_order_within_bins(repeats):
    """All orders of the scores of a bin, at random."""
    generator = np.random.default_rng(repeats)
    for _ in range(200):
        labels, bins = generator.choice([0, -2], 12), generator.integers(0, 3, 12)
        labels[:2] = 0, -2
        edges = lower_edge(to_bins(1.0) + bins)
        scores = edges + generator.integers(0, 4, 12).astype("float32") * np.float32(2**-12)
        labels, scores = np.tile(labels, repeats), np.tile(scores, repeats)
        figures = counted(BinnedScores(), labels, np.zeros_like(labels), scores).summary([])["unknown"]
        for positive in ("known", "group"):
            exact = metrics.aupr(labels, scores, "unknown", positive)
            name = f"aupr_{positive}"
            assert abs(figures[name] - exact) <= figures["errors"][name] + 1e-12


def test_bins_keep_the_order_of_all_floats():
    special = [-np.inf, np.finfo("float32").min, -1.0, -1e-38, -1e-45, -0.0, 0.0, 1e-45, 1e-37, 1.0, 3e38, np.inf]
    generator = np.random.default_rng(0)
    scores = np.sort(np.float32([*special, *(generator.normal(size=500) * 10.0 ** generator.integers(-30, 30, 500))]))
    bins = to_bins(scores)
    assert (np.diff(bins) >= 0).all()
    assert to_bins(-0.0) == to_bins(0.0) == to_bins(np.float32(1e-45)) == to_bins(np.float32(-1e-45))
    flushed = np.where(np.abs(scores) < TINY, np.float32(0), scores)
    for index in np.unique(bins):
        for edge in (index, index + 1):
            if edge <= to_bins(np.inf):
                np.testing.assert_array_equal(flushed >= lower_edge(edge), bins >= edge)
    normal = np.abs(scores[(np.abs(scores) > 1e-37) & np.isfinite(scores)])
    gap = np.abs(rounded(normal) - normal) / normal
    assert gap.max() < 2**-9


@pytest.mark.parametrize("kind", [BinnedScores, ExactScores])
def test_at_threshold_is_exact(kind):
    labels, predictions, scores = sample(3)
    threshold = float(scores[17])
    made = kind(threshold)
    made.update(labels.reshape(40, 100), predictions.reshape(40, 100), scores.reshape(40, 100))
    got, known, accepted = made.at_threshold(), labels >= 0, scores >= np.float32(threshold)
    assert got == {
        "threshold": threshold,
        "ccr": np.mean((accepted & (predictions == labels))[known]),
        "coverage": np.mean(accepted[known]),
        "fpr_negative": np.mean(accepted[labels == NEGATIVE]),
        "fpr_unknown": np.mean(accepted[labels == UNKNOWN]),
    }
    with pytest.raises(ValueError, match=rf"no threshold to judge. Make this `{kind.__name__}"):
        kind().at_threshold()


def test_a_threshold_for_each_class():
    """Label sets: the last axis is of classes, each with a threshold of its own."""
    labels, scores = np.array([[0, -1, -100], [-1, 1, -1]]), np.array([[1.0, 2.0, 9.0], [1.0, 3.0, 2.0]])
    made = ExactScores([1.0, 2.5, 2.5], samples=0)
    made.update(labels, np.broadcast_to(np.arange(3), (2, 3)), scores)
    assert made.at_threshold() == {
        "threshold": [1.0, 2.5, 2.5],
        "ccr": 1.0,
        "coverage": 1.0,
        "fpr_negative": 1 / 3,
        "fpr_unknown": None,
    }


@pytest.mark.parametrize("group", GROUPS)
def test_curves(group):
    labels, predictions, scores = sample(0)
    binned, exact = (counted(kind(), labels, predictions, scores, 2) for kind in (BinnedScores, ExactScores))
    for made, of in ((binned, rounded(scores)), (exact, scores)):
        wanted = metrics.oscr(labels, predictions, of, group)
        for value, other in zip(made.curve(group), wanted, strict=True):
            np.testing.assert_array_equal(value, other)
        assert len(wanted.fpr) > 100


@pytest.mark.parametrize("kind", [BinnedScores, ExactScores])
def test_empty_groups_and_errors(kind):
    made = kind(0.0)
    assert made.summary() == {}
    assert made.summary(groups=["unknown"])["unknown"]["auroc"] is None
    made.update([0, -1], [0, 0], [1.0, 0.0])
    assert [*made.summary()] == ["negative"]
    figures = made.summary(groups=["unknown"])["unknown"]
    trust = "errors" if kind is BinnedScores else "intervals"
    assert {name for name, value in figures.items() if value is None} == {
        name for name in figures if name not in ("knowns", "members", "accuracy", trust)
    }
    assert (figures["knowns"], figures["members"], figures["accuracy"]) == (1, 0, 1.0)
    json.dumps(figures, allow_nan=False)
    assert made.at_threshold()["fpr_unknown"] is None
    with pytest.raises(ValueError, match=r"members of the group 'unknown'. Received: 1 and 0"):
        made.curve("unknown")
    with pytest.raises(ValueError, match="must not be NaN"):
        made.update([0], [0], [np.nan])
    with pytest.raises(ValueError, match="group` must be one of"):
        made.summary(groups=["knowns"])
    with pytest.raises(ValueError, match="`fprs` must lie in"):
        made.summary(fprs=[5])
