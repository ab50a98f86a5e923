"""Bootstrap intervals: they cover what they should, and are empty where the sample is."""

import numpy as np
import pytest
from scipy.special import ndtr

from cplus1_keras import metrics


def draw(generator, n):
    """n knowns and n unknowns whose true AUROC is P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)."""
    scores = np.concatenate([generator.normal(1, 1, n), generator.normal(0, 1, n)])
    return np.repeat([0, -2], n), scores


def test_coverage_of_the_true_figure():
    generator, covered = np.random.default_rng(0), 0
    for trial in range(200):
        labels, scores = draw(generator, 80)
        interval = metrics.bootstrap(metrics.auroc, labels, scores, group="unknown", samples=200, seed=trial)
        covered += interval.low <= ndtr(np.sqrt(0.5)) <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_width_is_that_of_the_binomial():
    labels = np.zeros(1000, int)
    predictions = (np.arange(1000) < 100).astype(int)  # accuracy 0.9
    interval = metrics.bootstrap(metrics.closed_set_accuracy, labels, predictions)
    assert interval.estimate == 0.9
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(0.09 / 1000), rel=0.12)


def test_kinds_are_drawn_apart_and_the_seed_decides():
    labels, counts = np.array([0, 1, -1, -1, -1, -2, -100]), set()
    metric = lambda y: counts.add(((y >= 0).sum(), (y == -1).sum(), (y == -2).sum())) or float(y.max())  # noqa: E731
    first = metrics.bootstrap(metric, labels, samples=40, seed=3)
    assert counts == {(2, 3, 1)}
    assert first == metrics.bootstrap(metric, labels, samples=40, seed=3)


def test_what_replications_cannot_resolve_is_nan():
    labels = np.array([0] * 50 + [-2] * 20)
    scores = np.concatenate([np.linspace(0, 2, 50), np.linspace(-1, 1, 20)])
    predictions = np.zeros(70, int)
    at = metrics.bootstrap(metrics.ccr_at_fpr, labels, predictions, scores, fpr=[0.01, 0.06, 0.5], group="unknown")
    assert np.isnan(at.estimate[0])
    assert np.isnan([at.low[0], at.high[0]]).all()
    # FPR 0.06 rests on the one highest unknown; where it is drawn twice, 2 / 20, the figure is gone.
    assert np.isfinite(at.estimate[1])
    assert np.isnan([at.low[1], at.high[1]]).all()
    assert at.low[2] < at.estimate[2] < at.high[2]


def test_errors():
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        metrics.bootstrap(metrics.auroc, [0, -1], [1.0, 2.0, 3.0], group="negative")
    with pytest.raises(ValueError, match="samples=10"):
        metrics.bootstrap(metrics.auroc, [0, -1], [1.0, 2.0], group="negative", samples=10)


def test_ends_are_rounded_outwards_to_replications():
    """Of 0 to 9 the quarter quantile is 2.25, which is 2 or less, and that of three quarters 6.75, so 7 or more."""
    values = iter([0.5, 3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    interval = metrics.bootstrap(lambda labels: next(values), np.zeros(3, int), confidence=0.5, samples=10)
    assert interval == (0.5, 2.0, 7.0)
