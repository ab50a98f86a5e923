"""Binned figures of pixels: equal to the exact ones of rounded scores, and as near the others as they say."""

import json

import numpy as np
import pytest

from cplus1_keras import metrics
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN
from cplus1_keras.metrics import PixelScores, pixels, without_edges
from cplus1_keras.metrics.pixels import bins_of, edge_of

FPRS = (0.001, 0.01, 0.1, 0.29, 0.5, 1.0)
EXACT = ["auroc", "fpr95", "open_auc", *(f"ccr_at_fpr_{fpr:g}" for fpr in FPRS)]


def sample(seed, n=4000, spread=1.0, decimals=None):
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, NEGATIVE, UNKNOWN, IGNORE], n)
    scores = spread * (generator.normal(size=n) + 1.5 * (labels >= 0))
    scores = scores if decimals is None else scores.round(decimals)
    return labels, generator.integers(0, 3, n), scores.astype("float32")


def rounded(scores):
    return np.array([edge_of(index) for index in bins_of(scores)], "float32")


@pytest.mark.parametrize(("spread", "decimals"), [(1.0, None), (0.001, None), (30.0, None), (1.0, 1), (0.0, None)])
def test_figures_and_their_errors(spread, decimals):
    """Of the scores rounded down the figures are exact; of the scores themselves they are within the stated errors."""
    labels, predictions, scores = sample(0, spread=spread, decimals=decimals)
    binned = PixelScores()
    for part in np.array_split(np.arange(labels.size), 7):  # seven images
        binned.update(labels[part], predictions[part], scores[part])
    groups = ("negative", "unknown", "both")
    got = binned.summary(FPRS, groups)
    json.dumps(got, allow_nan=False)
    exact = metrics.summary(labels, predictions, scores, FPRS, groups)
    low = metrics.summary(labels, predictions, rounded(scores), FPRS, groups)
    for group in groups:
        for name in EXACT:
            assert got[group][name] == (low[group][name] and pytest.approx(low[group][name], rel=1e-12)), name
        for name in ("accuracy", "knowns", "members"):
            assert got[group][name] == exact[group][name]
        for name, error in got[group]["errors"].items():
            if error is not None:
                assert abs(got[group][name] - exact[group][name]) <= error + 1e-12, name
    if spread == 1.0 and decimals is None:
        assert got["unknown"]["errors"]["auroc"] < 1e-3
        assert max(error or 0 for error in got["unknown"]["errors"].values()) < 0.02


def test_a_rate_that_is_reached_counts():
    """29 of 100 are a rate of 0.29, although 0.29 * 100 < 29 in floating point."""
    labels, scores = np.repeat([0, -2], 100), np.concatenate([np.full(100, 71.0), np.arange(100.0)])
    binned = PixelScores()
    binned.update(labels, np.zeros(200, int), scores)
    assert binned.summary([0.29])["unknown"]["ccr_at_fpr_0.29"] == 1.0


def test_an_error_is_reached():
    """Two scores that share a bin: the figure says 1/2 ± 1/2, and the truth is 1."""
    binned = PixelScores()
    binned.update([0, -2], [0, 0], np.float32([1.0012, 1.0011]))
    figures = binned.summary(fprs=[])["unknown"]
    assert (figures["auroc"], figures["errors"]["auroc"], figures["fpr95"], figures["errors"]["fpr95"]) == (
        0.5,
        0.5,
        1,
        1,
    )
    assert metrics.fpr_at_tpr([0, -2], np.float32([1.0012, 1.0011]), "unknown") == 0


def test_the_error_of_a_rate_counts_the_bin_below():
    """Within the lowest bin a threshold of 1.0012 reaches the rate 3/4 with both knowns; its edge would accept all."""
    labels, scores = [0, 0, -2, -2, -2, -2], np.float32([1.0013, 2.5, 1.001, 1.0012, 2.0, 3.0])
    binned = PixelScores()
    binned.update(labels, [0] * 6, scores)
    figures = binned.summary([0.75])["unknown"]
    assert metrics.ccr_at_fpr(labels, [0] * 6, scores, 0.75, "unknown") == 1.0
    assert (figures["ccr_at_fpr_0.75"], figures["errors"]["ccr_at_fpr_0.75"]) == (0.5, 0.5)


def test_bins_keep_the_order_of_all_floats():
    special = [-np.inf, np.finfo("float32").min, -1.0, -1e-38, -1e-45, -0.0, 0.0, 1e-45, 1e-37, 1.0, 3e38, np.inf]
    generator = np.random.default_rng(0)
    scores = np.sort(np.float32([*special, *(generator.normal(size=500) * 10.0 ** generator.integers(-30, 30, 500))]))
    bins = bins_of(scores)
    assert (np.diff(bins) >= 0).all()
    assert bins_of(-0.0) == bins_of(0.0) == bins_of(np.float32(1e-45)) == bins_of(np.float32(-1e-45))
    flushed = np.where(np.abs(scores) < pixels.TINY, np.float32(0), scores)
    for index in np.unique(bins):
        for edge in (index, index + 1):
            if edge <= bins_of(np.inf):
                np.testing.assert_array_equal(flushed >= edge_of(edge), bins >= edge)
    normal = np.abs(scores[(np.abs(scores) > 1e-37) & np.isfinite(scores)])
    gap = np.abs(rounded(normal) - normal) / normal
    assert gap.max() < 2**-9


def test_at_threshold_is_exact():
    labels, predictions, scores = sample(3)
    threshold = float(scores[17])
    binned = PixelScores(threshold)
    binned.update(labels.reshape(40, 100), predictions.reshape(40, 100), scores.reshape(40, 100))
    got, known, accepted = binned.at_threshold(), labels >= 0, scores >= np.float32(threshold)
    assert got["ccr"] == np.mean((accepted & (predictions == labels))[known])
    assert got["coverage"] == np.mean(accepted[known])
    assert got["fpr_unknown"] == np.mean(accepted[labels == UNKNOWN])
    assert got["fpr_negative"] == np.mean(accepted[labels == NEGATIVE])
    with pytest.raises(ValueError, match="no threshold"):
        PixelScores().at_threshold()


def test_the_curve_is_that_of_the_rounded_scores():
    labels, predictions, scores = sample(0)
    binned = PixelScores()
    binned.update(labels, predictions, scores)
    for group in ("negative", "unknown", "both"):
        exact = metrics.oscr(labels, predictions, rounded(scores), group)
        for value, wanted in zip(binned.curve(group), exact, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-12)
        assert len(exact.fpr) > 100
    one = PixelScores()
    one.update([0], [0], [1.0])
    with pytest.raises(ValueError, match=r"needs known pixels and unknown ones\. Received: 1 and 0"):
        one.curve()


def test_empty_groups_and_errors():
    binned = PixelScores(0.0)
    assert binned.summary()["unknown"]["auroc"] is None
    binned.update([0, -1], [0, 0], [1.0, 0.0])
    summary = binned.summary()
    assert summary["unknown"] == {
        **{"knowns": 1, "members": 0, "accuracy": 1.0},
        **dict.fromkeys(
            [name for name in summary["negative"] if name not in ("knowns", "members", "accuracy", "errors")]
        ),
        "errors": dict.fromkeys(summary["negative"]["errors"]),
    }
    assert binned.at_threshold()["fpr_unknown"] is None
    with pytest.raises(ValueError, match="must not be NaN"):
        binned.update([0], [0], [np.nan])
    with pytest.raises(ValueError, match="group` must be one of"):
        binned.summary(groups=["knowns"])


@pytest.mark.parametrize("width", [0, 1, 3])
def test_without_edges(width):
    labels = np.random.default_rng(0).choice([0, NEGATIVE, IGNORE], (2, 9, 11), p=[0.85, 0.05, 0.1])
    expected = labels.copy()
    for n, i, j in np.ndindex(labels.shape):
        window = labels[n, max(i - width, 0) : i + width + 1, max(j - width, 0) : j + width + 1]
        if len({*window.ravel().tolist()} - {IGNORE}) > 1:
            expected[n, i, j] = IGNORE
    np.testing.assert_array_equal(without_edges(labels, width), expected)
    np.testing.assert_array_equal(without_edges(labels[0], width), expected[0])


def test_width_is_a_number_of_pixels():
    with pytest.raises(ValueError, match="an int >= 0"):
        without_edges(np.zeros((2, 2), int), 1.5)
