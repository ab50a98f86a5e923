"""Tables of figures as aligned Markdown."""


def table(summaries, figures=None, intervals=True):
    """Open-set figures, a row for each group, an empty cell where the samples cannot resolve a figure.

    Args:
        summaries: What `ExactScores.summary` or `BinnedScores.summary` returns.
        figures: Names of the figures to show, in this order; all of them by default.
        intervals: Whether a cell with an interval reads `0.912 [0.890, 0.931]`.

    >>> scores = metrics.ExactScores()
    >>> scores.update([0, 1, -2], [0, 0, 0], [0.9, 0.8, 0.7])
    >>> print(table(scores.summary(), ["accuracy", "auroc"], intervals=False))
    | group   | accuracy | auroc |
    |---------|----------|-------|
    | unknown | 0.500    | 1.000 |
    """
    present = [name for name in next(iter(summaries.values())) if name not in ("intervals", "errors")]
    rows = [["group", *(figures or present)]]
    for group, values in summaries.items():
        missing = [name for name in rows[0][1:] if name not in values]
        if missing:
            raise ValueError(f"No figure is called {missing[0]!r}. There are: {', '.join(values)}")
        ends = values.get("intervals", {}) if intervals else {}
        rows.append([group, *(cell(values[name], ends.get(name)) for name in rows[0][1:])])
    return align(rows)


def align(rows):
    """Rows of texts, the first of them the head, as a Markdown table whose columns line up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def cell(value, interval=None):
    """A figure as text: a count, or a share with its interval; "" for None."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if interval is None:
        return f"{value:.3f}"
    low, high = ("" if end is None else f"{end:.3f}" for end in interval)
    return f"{value:.3f} [{low}, {high}]"


def check_names(class_names, number):
    """The names of that many classes as a list, their numbers where None."""
    names = [str(k) for k in range(number)] if class_names is None else [*class_names]
    if len(names) != number:
        raise ValueError(f"There must be {number} class names. Received: {names}")
    return names


def percent(value):
    """A share in percent as text; "" for None."""
    return "" if value is None else f"{100 * value:.2f}"
