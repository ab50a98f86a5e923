"""All open-set figures of an evaluation at once, for `metrics.json` and for people."""

import numpy as np

from cplus1_keras.metrics import counting
from cplus1_keras.metrics.intervals import bootstrap


def summary(
    labels, predictions, scores, fprs=(0.01, 0.05, 0.1, 0.3), groups=("negative", "unknown"), samples=0, seed=0
):
    """Every figure of `open_set`, for each group.

    Args:
        labels, predictions, scores: As for `oscr`.
        fprs: False positive rates at which to state the CCR.
        groups: Which of `"negative"`, `"unknown"`, `"both"`.
        samples: Replications for 95 % bootstrap intervals; 0 gives none. 1,000 are usual.
        seed: Seed of the bootstrap.

    Returns:
        `{group: figures}`, plain Python throughout, ready for JSON. The figures are `knowns` and `members` (counts),
        `accuracy`, `ccr_at_fpr_0.01` and so on for each rate, `auroc`, `aupr_known`, `aupr_group`, `fpr95`, `open_auc`,
        and with `samples` also `intervals`: `{figure: [low, high]}`. What the sample cannot resolve is None.

    Raises:
        ValueError: as for `oscr`, save that an empty group gives None for its figures.

    Example:

    >>> figures = summary([0, 1, -2, -2], [0, 0, 0, 0], [0.9, 0.8, 0.9, 0.1], fprs=[0.1, 0.5])["unknown"]
    >>> figures["open_auc"], figures["ccr_at_fpr_0.1"], figures["ccr_at_fpr_0.5"]
    (0.375, None, 0.5)
    """
    labels, predictions, scores = counting.checked(labels, predictions, scores)
    fprs = counting.rate("fprs", list(fprs))
    names = ["accuracy", *(f"ccr_at_fpr_{fpr:g}" for fpr in fprs)]
    names += ["auroc", "aupr_known", "aupr_group", "fpr95", "open_auc"]
    result = {}
    for group in groups:
        inside = counting.members(labels, group)
        figures = plain(names, all_figures(labels, predictions, scores, group, fprs))
        if samples:
            kept = inside | (labels >= 0)
            given = labels[kept], predictions[kept], scores[kept]
            _, low, high = bootstrap(all_figures, *given, samples=samples, seed=seed, group=group, fprs=fprs)
            ends = zip(plain(names, low).items(), plain(names, high).values(), strict=True)
            figures["intervals"] = {name: [start, end] for (name, start), end in ends}
        result[group] = {"knowns": int((labels >= 0).sum()), "members": int(inside.sum()), **figures}
    return result


def all_figures(labels, predictions, scores, group, fprs):
    """The figures of `summary` as one array, for checked arrays; NaN where there is no known or no member."""
    inside = counting.members(labels, group)
    sample = counting.sorted_sample(labels, predictions, scores, inside)
    accuracy = sample.right.size / sample.known.size if sample.known.size else np.nan
    if not (sample.known.size and sample.group.size):
        return np.array([accuracy] + [np.nan] * (len(fprs) + 5))
    return np.array(
        [
            accuracy,
            *counting.ccr_of(counting.curve_of(sample), fprs),
            counting.auroc_of(sample),
            counting.aupr_of(sample, "known"),
            counting.aupr_of(sample, "group"),
            counting.fpr_at_tpr_of(sample, 0.95),
            counting.open_auc_of(sample),
        ]
    )


def plain(names, values):
    """`{name: float}`, None in place of NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}


def table(summaries, figures=None):
    """A summary as a Markdown table, one row a group, an empty cell where the sample cannot resolve a figure.

    Args:
        summaries: What `summary` returns.
        figures: Names of the figures to show, in this order; all of them by default.

    Returns:
        Text of aligned columns. Where there are intervals a cell reads `0.912 [0.890, 0.931]`.

    Raises:
        ValueError: for a figure that the summary does not hold.

    Example:

    >>> print(table(summary([0, 1, -2], [0, 0, 0], [0.9, 0.8, 0.7], groups=["unknown"]), ["accuracy", "auroc"]))
    | group   | accuracy | auroc |
    |---------|----------|-------|
    | unknown | 0.500    | 1.000 |
    """
    rows = [["group", *(figures or [name for name in next(iter(summaries.values())) if name != "intervals"])]]
    for group, values in summaries.items():
        missing = [name for name in rows[0][1:] if name not in values]
        if missing:
            raise ValueError(f"No figure is called {missing[0]!r}. There are: {', '.join(values)}")
        intervals = values.get("intervals", {})
        rows.append([group, *(cell(values[name], intervals.get(name)) for name in rows[0][1:])])
    return aligned(rows)


def aligned(rows):
    """Rows of texts, the first of them the head, as a Markdown table whose columns line up.

    >>> print(aligned([["a", "b"], ["1.0", ""]]))
    | a   | b |
    |-----|---|
    | 1.0 |   |
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def cell(value, interval=None):
    """A figure as text."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if interval is None:
        return f"{value:.3f}"
    low, high = ("" if end is None else f"{end:.3f}" for end in interval)
    return f"{value:.3f} [{low}, {high}]"
