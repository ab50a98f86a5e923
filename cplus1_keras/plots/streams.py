"""Figures of answers in the order of time."""

import itertools

import numpy as np
from matplotlib.ticker import PercentFormatter

from cplus1_keras.plots.style import INK, PALE, ROLES, as_text, grid

BLOCKS = 100


def drift(tests, title=None):
    """Scores and unknown answers over time beside their reference, and the evidence that they drift.

    Above the scores, the median and the band from the 10 % to the 90 % quantile of at most 100 blocks of answers, and
    the median of the reference as a line; then the share of unknown answers in the same way; below the evidence of both
    on a logarithmic axis, with the line that it must reach. A vertical line stands where a drift began.

    Args:
        tests: Dict by "scores" and "unknown rate" of triples: reference, values, `calibration.Drift`.
        title: Text above.

    >>> from cplus1_keras.calibration import find_drift
    >>> scores = np.repeat([2.0, -2.0], 60)
    >>> figure = drift({"scores": (scores[:60], scores, find_drift(scores[:60], scores))})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['scores', 'evidence']
    """
    colours = {"scores": ROLES["known"], "unknown rate": ROLES["unknown"]}
    figure, rows = grid(7.2, 1.0 + 1.9 * (len(tests) + 1), len(tests) + 1)
    *upper, lowest = rows[:, 0]
    above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "frameon": False, "ncols": 3}
    for axes, (name, (reference, values, found)) in zip(upper, tests.items(), strict=True):
        _over_time(axes, values, colours[name], band=name == "scores")
        middle = np.median(reference) if name == "scores" else np.mean(reference)
        axes.axhline(middle, color=INK, linestyle="--", linewidth=1.0, label="reference")
        axes.set_ylabel(name)
        axes.legend(**above)
        lowest.plot(np.arange(1, len(values) + 1), found.log_evidence / np.log(10), color=colours[name], label=name)
        for place in (axes, lowest):
            if found.start is not None:
                place.axvline(found.start + 1, color=colours[name], linestyle=":", linewidth=1.6)
        lowest.axhline(found.limit / np.log(10), color=INK, linestyle="--", linewidth=1.0)
        if name != "scores":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    lowest.set(ylabel="evidence", xlabel="answers")
    lowest.yaxis.set_major_formatter(lambda power, _: f"$10^{{{power:g}}}$")
    lowest.legend(**above)
    for axes in rows[:, 0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, axis="y", color=PALE)
        axes.margins(x=0)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    return as_text(figure)


def _over_time(axes, values, colour, band):
    """Median and quantiles, or the mean, of blocks of values as steps."""
    finite = np.isfinite(values)
    edges = np.unique(np.linspace(0, len(values), min(BLOCKS, max(1, len(values) // 20)) + 1).astype(int))
    blocks = [values[low:high][finite[low:high]] for low, high in itertools.pairwise(edges)]
    told = np.array([np.quantile(b, (0.1, 0.5, 0.9)) if len(b) else [np.nan] * 3 for b in blocks]).reshape(-1, 3)
    middle = told[:, 1] if band else np.array([b.mean() if len(b) else np.nan for b in blocks])
    if band and len(told):
        axes.stairs(told[:, 2], edges + 1, baseline=told[:, 0], fill=True, color=colour, alpha=0.22, label="80 %")
    if len(middle):
        axes.stairs(middle, edges + 1, color=colour, linewidth=1.6, baseline=None, label="answers")
