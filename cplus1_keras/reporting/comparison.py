"""Many runs side by side: figures with intervals, paired differences, and the settings in which they differ."""

from cplus1_keras.reporting.differences import differences
from cplus1_keras.reporting.sections import as_cell, name_figure
from cplus1_keras.reporting.tables import choose_columns, flatten, interval, sort_runs, split_name

IGNORED = ("provenance.", "settings.", "name", "repeat", "command.", "seconds")
JUDGED_BY = "open_auc"


def compare(runs):
    """A table of several runs for the page.

    Args:
        runs: Two `Run`s or more; the first is what the others are compared with.

    Returns:
        Pair of plain values for the page, and the runs from the best on.

    >>> compare(read_runs(["runs/a", "runs/b"]))[1][0].name  # doctest: +SKIP
    'b'
    """
    names = choose_columns(runs)
    by = next((name for name in names if name.endswith("." + JUDGED_BY)), None)
    best, group = (sort_runs(runs, by), split_name(by)[1]) if by else ([*runs], None)
    paired = {run.name: differences(run, runs[0], group) if group else {} for run in runs[1:]}
    # Which pair the verdict is about: the best and the first run, or where they are one, the second best.
    other = best[0] if best[0].name != runs[0].name else best[1]
    told = {"figure": _title(by) if by else "", "group": group, "best": flatten(best[0].figures).get(by)}
    told |= {"baseline": runs[0].name, "other": other.name, "difference": paired[other.name].get(JUDGED_BY)}
    return _table(runs, names, paired) | told, best


def _table(runs, names, paired):
    """The head, the rows and the note of the table: figures with these dotted names, and differences."""
    shown = [name for name in (JUDGED_BY, "ccr_at_fpr_0.05") if any(name in own for own in paired.values())]
    settings, rows = different_settings(runs), []
    for run in runs:
        values = flatten(run.figures)
        row = [run.name, ", ".join(settings[run.name])]
        row += [as_cell(values.get(name), interval(run, name)) for name in names]
        rows.append(row + [_difference(paired.get(run.name, {}).get(name)) for name in shown])
    note = (
        f"In brackets the ends of 95 % bootstrap intervals. Differences are from {runs[0].name}, on the same images, "
        "drawn together: where an interval leaves out 0, other test images would hardly change who is better; "
        "another seed of the training still may."
    )
    head = ["run", "differs in", *map(_title, names), *(f"{name_figure(name)}, difference" for name in shown)]
    return {"head": head, "rows": rows, "note": note if shown else ""}


def _title(name):
    part, *middle, last = split_name(name)
    if part == "open_set":
        return f"{name_figure(last)}, {middle[0]}s"
    shares = {"ccr": "knowns answered rightly", "coverage": "knowns accepted"}
    shares |= {"fpr_negative": "negatives accepted", "fpr_unknown": "unknowns accepted"}
    return shares.get(last, name_figure(last))


def _difference(ends):
    """A cell of a difference with its interval."""
    if ends is None or ends[0] is None:
        return {"text": "", "value": None, "sub": ""}
    middle, low, high = ("" if end is None else f"{end:+.3f}" for end in ends)
    return {"text": middle, "value": ends[0], "sub": f" [{low}, {high}]"}


def different_settings(runs):
    """The settings in which runs differ, by the name of each: texts `name=value`.

    >>> from cplus1_keras.reporting import Run
    >>> runs = [Run(name, None, {}, {"fpr": rate, "seed": 0}, None) for name, rate in (("a", 0.1), ("b", 0.2))]
    >>> different_settings(runs)
    {'a': ['fpr=0.1'], 'b': ['fpr=0.2']}
    """
    # A later judging tells its own settings among its figures.
    plain = {run.name: {key: run.figures.get(key, value) for key, value in run.config.items()} for run in runs}
    told = {name: _leaves(own) for name, own in plain.items()}
    keys = [key for key in dict.fromkeys(key for own in told.values() for key in own) if not key.startswith(IGNORED)]
    keys = [key for key in keys if len({own.get(key) for own in told.values()}) > 1]
    return {name: [f"{key}={own[key]}" for key in keys if key in own] for name, own in told.items()}


def _leaves(value, prefix=""):
    """Settings as texts by dotted names."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return {prefix[:-1]: str(value)}
    return {key: text for name, own in pairs for key, text in _leaves(own, f"{prefix}{name}.").items()}
