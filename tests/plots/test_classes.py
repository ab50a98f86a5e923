"""Figures by class, against the papers' formulas, scikit-learn and numbers by hand."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import confusion_matrix

from cplus1_keras import metrics, plots

GENERATOR = np.random.default_rng(3)


def test_the_probability_curve_is_the_softmax_of_one_cosine_and_right_angles():
    figure = plots.angle_distributions([0, -1], [0.1, 1.0], 12.0, 5, lambda x: np.cos(x + 0.5))
    plain, moved = figure.axes[1].lines
    theta = plain.get_xdata()
    for line, cosine in ((plain, np.cos(theta)), (moved, np.cos(theta + 0.5))):
        logits = 12.0 * np.stack([cosine, *np.zeros((4, len(theta)))], axis=-1)
        np.testing.assert_allclose(line.get_ydata(), special.softmax(logits, axis=-1)[:, 0], atol=1e-12)
    assert (plain.get_linestyle(), moved.get_linestyle()) == ("-", "--")


def test_angles_are_radians_of_each_label():
    with pytest.raises(ValueError, match=r"\[0, π\] for each label"):
        plots.angle_distributions([0, 1], [10.0, 90.0])
    patches = plots.angle_distributions([0, 0, -2], [0.1, 1.6, 3.1], bins=2).axes[0].patches
    np.testing.assert_allclose([own.get_data().values for own in patches[::2]], np.array([[1, 1], [0, 2]]) / np.pi)


def test_norms_are_by_falling_frequency():
    figure = plots.weight_norms({"a": [3.0, 1.0, 2.0]}, [7, 7, 50])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [2, 3, 1])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [50, 7, 7])
    with pytest.raises(ValueError, match="a norm for each of 2 classes"):
        plots.weight_norms({"a": [3.0]}, [7, 7])


def test_the_calibration_error_by_hand():
    """Two bins: |2/3 - 0.9| of three answers, |0 - 0.3| of one."""
    figure = plots.reliability([0.8, 0.9, 1.0, 0.3], [True, True, False, False], bins=2)
    assert figure.axes[0].get_title() == f"expected calibration error {(3 * (0.9 - 2 / 3) + 0.3) / 4:.3f}"
    assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx([0, 2 / 3])
    with pytest.raises(ValueError, match=r"Confidences in \[0, 1\]"):
        plots.reliability([1.5], [True])


def test_the_confusion_matrix_is_scikit_learns_with_refusals_as_a_class():
    labels, predictions = GENERATOR.integers(0, 4, 200), GENERATOR.integers(0, 4, 200)
    scores = GENERATOR.normal(size=200)
    answers = np.where(scores >= 0.25, predictions, 4)
    wanted = confusion_matrix(labels, answers, labels=range(5), normalize="true")[:4]
    axes = plots.confusion(labels, predictions, scores, 0.25, list("abcd")).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), wanted)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c", "d", "unknown"]


def test_bars_are_shares_of_what_is_accepted():
    figure = plots.acceptance({"a": ("known", 3, 4), "b": ("unknown", 1, 5)}, target=0.1)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.75, 0.2]
    assert figure.axes[0].lines[0].get_xdata() == [0.1, 0.1]


def test_bands_hold_all_seeds_and_their_mean():
    """At each rate the heights are those of `metrics.ccr_at_fpr`."""
    curves, seeds = [], []
    for _ in range(3):
        labels = np.resize([0, 1, -2], 90)
        given = labels, GENERATOR.integers(0, 2, 90), GENERATOR.normal(size=90) + (labels >= 0)
        curves.append(metrics.oscr(*given, "unknown"))
        seeds.append(given)
    axes = plots.oscr_bands({"a": curves}).axes[0]
    (line,), (band,) = axes.lines, axes.collections
    rates = line.get_xdata()
    assert (rates[0], rates[-1]) == (1 / 30, 1)
    heights = np.array([metrics.ccr_at_fpr(*given, rates, "unknown") for given in seeds])
    np.testing.assert_allclose(line.get_ydata(), heights.mean(axis=0))
    corners = band.get_paths()[0].vertices
    np.testing.assert_allclose(
        np.unique(corners[:, 1]), np.unique(np.concatenate([heights.min(axis=0), heights.max(axis=0)]))
    )
    with pytest.raises(ValueError, match="a curve at least"):
        plots.oscr_bands({"a": []})


def test_merit_against_a_setting_is_the_mean_over_seeds():
    axes = plots.against([0.1, 1, 10], {"a": [[0.1, 0.2, 0.3], [0.3, 0.2, 0.5]]}, "λ", "top-1", baseline=0.15).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.2, 0.2, 0.4])
    assert (axes.get_xscale(), axes.lines[1].get_ydata()[0]) == ("log", 0.15)
    with pytest.raises(ValueError, match=r"needs \(seeds, 2\)"):
        plots.against([0.1, 1], {"a": [0.1, 0.2]}, "λ", "top-1")


def test_features_on_the_circle_are_of_length_one_and_rays_keep_their_proportions():
    points, rays = GENERATOR.normal(size=(30, 2)), np.array([[1.0, 0.0], [0.0, 4.0]])
    axes = plots.features(points, np.resize([0, 1, -1], 30), ["a", "b"], rays, circle=True).axes[0]
    shown = np.concatenate([own.get_offsets() for own in axes.collections])
    np.testing.assert_allclose(np.linalg.norm(shown, axis=1), 1)
    directions = np.concatenate([points[np.resize([0, 1, -1], 30) == label] for label in (0, 1, -1)])
    np.testing.assert_allclose(shown, directions / np.linalg.norm(directions, axis=1, keepdims=True))
    ends = [(line.get_xdata()[1], line.get_ydata()[1]) for line in axes.lines[::2]]
    assert ends == [(0.25, 0), (0, 1)]
    with pytest.raises(ValueError, match="a label for each"):
        plots.features(points, [0], ["a"])
