"""The figures show what they were given; their files hold a picture."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from cplus1_keras import metrics, plots
from cplus1_keras.plots.style import ROLES


def drawn(figure):
    """The figure's pixels."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_oscr_draws_the_staircase():
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, -1, -2], 400)
    predictions, scores = generator.integers(0, 2, 400), generator.normal(size=400)
    curves = {
        (method, group): metrics.oscr(labels, predictions, scores + shift * (labels >= 0), group)
        for method, shift in (("softmax", 1), ("entropic", 2), ("objectosphere", 3))
        for group in ("negative", "unknown")
    }
    figure = plots.oscr(curves, title="Digits")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines][:2] == ["softmax, negative", "softmax, unknown"]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert lines[0].get_linestyle() != lines[1].get_linestyle()
    curve = curves["softmax", "negative"]
    np.testing.assert_array_equal(lines[0].get_xdata(), curve.fpr[::-1])
    np.testing.assert_array_equal(lines[0].get_ydata(), curve.ccr[::-1])
    assert lines[0].get_drawstyle() == "steps-post"
    assert axes.get_xlim()[0] <= curve.fpr.min()
    assert np.ptp(drawn(figure)) > 0


def test_oscr_of_pairs_and_one_point():
    figure = plots.oscr({"mine": ([1.0, 0.5, 0.0], [0.9, 0.8, 0.7]), "flat": ([1.0], [0.4])})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [0.5, 1.0])  # no 0 on a logarithmic axis
    drawn(figure)


def test_accepted_unknowns_are_sorted_and_limited():
    images = np.arange(60.0)[:, None, None, None] * np.ones((1, 8, 8, 3))
    scores = np.random.default_rng(0).normal(size=60)
    predicted, true = [f"class {i}" for i in range(60)], ["Welsh springer spaniel of the valleys"] * 60
    figure = plots.accepted_unknowns(images, predicted, true, scores, threshold=0.5, limit=13)
    shown = [axes for axes in figure.axes if axes.images]
    order = np.argsort(-scores)[:13]
    assert len(shown) == 13
    assert [axes.images[0].get_array()[0, 0, 0] for axes in shown] == order.tolist()
    for axes, i in zip(shown, order, strict=True):
        assert f"→ class {i}\n{scores[i]:.2f}" in axes.get_title()
    assert "60 unknowns accepted at threshold 0.5, the 13 surest" in figure.get_suptitle()
    drawn(figure)


def test_no_accepted_unknown_says_so():
    figure = plots.accepted_unknowns(np.zeros((0, 8, 8, 1)), [], [], [], threshold=1.25)
    assert [text.get_text() for text in figure.axes[0].texts] == ["No unknown was accepted at threshold 1.25."]
    drawn(figure)


def test_histogram_counts_each_kind():
    labels = np.array([0, 1, 2, 0, -1, -1, -2, -100])
    scores = np.array([3.0, 2.0, 1.0, np.inf, 0.0, 2.0, -np.inf, 50.0])
    figure = plots.histogram(labels, scores, threshold=1.5, score_name="log-odds")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["known: 75.0 % accepted", "negative: 50.0 % accepted", "threshold 1.5"]
    assert figure.axes[0].get_xlim()[1] < 10  # the ignored 50 is not on the axis
    drawn(figure)


def test_figures_are_saved(tmp_path):
    figure = plots.histogram([0, -1], [1.0, 0.0])
    figure.savefig(tmp_path / "histogram.png")
    assert (tmp_path / "histogram.png").read_bytes().startswith(b"\x89PNG")


def test_errors():
    with pytest.raises(ValueError, match="`curves` is empty"):
        plots.oscr({})
    with pytest.raises(ValueError, match=r"'mine'.*\(2,\), \(1,\)"):
        plots.oscr({"mine": ([0.1, 1.0], [0.5])})
    with pytest.raises(ValueError, match="2 predicted, 3 true"):
        plots.accepted_unknowns(np.zeros((3, 8, 8, 1)), ["a"] * 2, ["b"] * 3, np.zeros(3))
    with pytest.raises(ValueError, match=r"images of shape \(3, 8, 8\)"):
        plots.accepted_unknowns(np.zeros((3, 8, 8)), ["a"] * 3, ["b"] * 3, np.zeros(3))
    with pytest.raises(ValueError, match="One finite score at least"):
        plots.histogram([0], [np.inf])


def test_a_role_has_one_colour_in_every_figure():
    curve = ([1.0, 0.5], [0.9, 0.8])
    alone = plots.oscr({"negative": curve, "unknown": curve}).axes[0]
    paired = plots.oscr({("entropic", "unknown"): curve, ("entropic", "negative"): curve}).axes[0]
    bars = plots.histogram([0, -1, -2], [1.0, 2.0, 3.0]).axes[0]
    roles = {text.get_label(): text.get_edgecolor() for text in bars.patches if text.get_label() in ROLES}
    by_line = [
        {line.get_label().rpartition(", ")[2]: to_rgba(line.get_color()) for line in axes.lines[::2]}
        for axes in (alone, paired)
    ]
    assert by_line[0] == by_line[1] == {name: roles[name] for name in ("negative", "unknown")}
    assert len({*roles.values()}) == 3
