"""Curves of several methods with bands over their seeds."""

import itertools

import numpy as np
from matplotlib.ticker import PercentFormatter

from cplus1_keras.plots.open_set import DASHES, points
from cplus1_keras.plots.style import COLOURS, INK, PALE, as_text, canvas

GRID = 200


def oscr_bands(curves, title=None):
    """OSCR curves of several methods: the mean over seeds as a line, the lowest and the highest as a band.

    A method begins at the lowest FPR that all of its seeds resolve; the axis of the FPR is logarithmic.

    Args:
        curves: `{method: [curve, ...]}`, a curve for each seed, `metrics.OSCR` or a pair (fpr, ccr) of arrays.
        title: Text above the axes.

    >>> figure = oscr_bands({"softmax": [([1.0, 0.1], [0.9, 0.5]), ([1.0, 0.1], [0.7, 0.3])]})
    >>> print(*figure.axes[0].lines[0].get_ydata()[[0, -1]].round(3))
    0.4 0.8

    Reference: thesis 2023, Figures 6.1 to 6.9.
    """
    if not curves or not all(curves.values()):
        raise ValueError(
            f"Each method needs a curve at least. Received: { {name: len(c) for name, c in curves.items()} }"
        )
    seeds = {name: [points(name, curve) for curve in own] for name, own in curves.items()}
    figure, axes = canvas(6.4, 4.4)
    smallest = 1.0
    for (name, own), colour, dash in zip(
        seeds.items(), itertools.cycle(COLOURS), itertools.cycle(DASHES), strict=False
    ):
        first = max(fpr[0] for fpr, _ in own)
        smallest = min(smallest, first)
        grid = np.geomspace(first, 1, GRID) if first < 1 else np.ones(1)
        grid[[0, -1]] = first, 1  # rounding must not fall below the first point
        heights = np.array([ccr[np.searchsorted(fpr, grid, side="right") - 1] for fpr, ccr in own])
        _draw_band(axes, grid, heights, colour, dash, name)
    axes.set(xscale="log", xlim=(10.0 ** np.floor(np.log10(smallest) - 1e-9), 1), ylim=(0, 1.02))
    axes.set(xlabel="false positive rate", ylabel="correct classification rate", title=title)
    return _finish(figure, axes)


def against(values, results, xlabel, ylabel, baseline=None, title=None):
    """A figure of merit against a setting on a logarithmic axis: means over seeds with bands from lowest to highest.

    Args:
        values: The settings (n,), above 0.
        results: `{method: rates (seeds, n)}`.
        xlabel, ylabel: What the axes show.
        baseline: Rate without the setting, a dotted line, or None.
        title: Text above the axes.

    >>> figure = against([0.1, 1.0], {"HNC": [[0.7, 0.8], [0.9, 0.8]]}, "λ", "top-1", baseline=0.75)
    >>> print(*figure.axes[0].lines[0].get_ydata())
    0.8 0.8

    Reference: Sun et al., HNC, ECCV 2020, Figure 4.
    """
    values = np.asarray(values, "float64")
    figure, axes = canvas(6.4, 4.0)
    for (name, own), colour, dash in zip(
        results.items(), itertools.cycle(COLOURS), itertools.cycle(DASHES), strict=False
    ):
        own = np.asarray(own, "float64")
        if own.ndim != 2 or own.shape[1:] != values.shape or not (values > 0).all():
            raise ValueError(f"{name!r} needs (seeds, {values.size}) for settings > 0. Received: {own.shape}, {values}")
        _draw_band(axes, values, own, colour, dash, name, marker="o")
    if baseline is not None:
        axes.axhline(baseline, color=INK, linestyle=":", linewidth=1.4, label="without")
    axes.set(xscale="log", xlabel=xlabel, ylabel=ylabel, title=title)
    return _finish(figure, axes)


def _draw_band(axes, x, heights, colour, dash, name, marker=None):
    axes.plot(x, heights.mean(axis=0), dash, color=colour, linewidth=1.8, label=name, marker=marker, markersize=4)
    axes.fill_between(x, heights.min(axis=0), heights.max(axis=0), color=colour, alpha=0.16, linewidth=0)


def _finish(figure, axes):
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(True, which="major", color=PALE)
    axes.legend(loc="best", framealpha=0.9, edgecolor=PALE)
    return as_text(figure)
