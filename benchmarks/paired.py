"""Tables of methods over seeds: their figures, and how they differ from the first one's, paired by seed."""

import numpy as np
from comparison import interval, spread

from cplus1_keras.metrics import align

NOTE = (
    "± is the half-width of the 95 % interval over the seeds of training, on one test set. * marks a difference whose "
    "interval leaves out 0: of twenty without any effect, one does so by chance."
)


def tables(results, figures, title="", form=".1f"):
    """Two Markdown tables: of each row the mean over its seeds, and of each but the first its gain over the first.

    Args:
        results: {row: {seed: what a run told}}.
        figures: {name: function of what a run told to a float, NaN where nothing tells it}.
        title: Over the names of the rows.
        form: Of the numbers.
    """
    rows = [[title, *figures]]
    for row, runs in results.items():
        rows.append([row, *(_cell([read(run) for run in runs.values()], form) for read in figures.values())])
    (first, reference), *others = results.items()
    gains = [[f"minus {first}, paired by seed", *figures]]
    for row, runs in others:
        gains.append([row, *(difference(runs, reference, read, f"+{form}") for read in figures.values())])
    return align(rows) + "\n\n" + align(gains)


def difference(runs, others, read, form="+.1f"):
    """Mean gain of runs by seed over others, over the seeds of both; * where its 95 % interval leaves out 0."""
    gains = [read(runs[seed]) - read(others[seed]) for seed in sorted(set(runs) & set(others))]
    return _cell(gains, form) + "*" * is_certain(gains)


def is_certain(values):
    """Whether the 95 % interval of the mean (Student's t) leaves out 0."""
    if len(values) < 2:
        return False
    mean, half = interval(values)
    return abs(mean) > half


def _cell(values, form):
    """`spread`, and "" where a run does not tell the figure."""
    return "" if not values or np.isnan(values).any() else spread(values, form)
