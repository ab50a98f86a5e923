"""Tables of figures of many runs."""

import csv
import io
import re

from cplus1_keras.metrics import align, cell

FIGURES = ("ccr_at_fpr_0.05", "ccr_at_fpr_0.1", "auroc", "open_auc")
SMALLER = ("fpr", "threshold", "seconds", "errors")
"""Begin the names of figures of which less is better, or earlier."""

FORMATS = ("text", "csv", "markdown")


def flatten(figures, prefix=""):
    """Numbers of nested dicts by dotted names.

    >>> flatten({"open_set": {"unknown": {"auroc": 0.5, "intervals": {"auroc": [0.4, 0.6]}}}, "name": "a"})
    {'open_set.unknown.auroc': 0.5}
    """
    found = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in ("intervals", "provenance", "settings"):
            found |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = value
    return found


def split_name(name):
    """The parts of a dotted name, as a tuple.

    >>> split_name("open_set.unknown.ccr_at_fpr_0.05")
    ('open_set', 'unknown', 'ccr_at_fpr_0.05')
    """
    return tuple(re.split(r"\.(?!\d)", name))


def interval(run, name):
    """The ends of a figure's interval, or None."""
    part, group, figure = (*split_name(name), "", "")[:3]
    return run.figures.get(part, {}).get(group, {}).get("intervals", {}).get(figure) if part == "open_set" else None


def find_figure(runs, name):
    """The whole dotted name of a figure of which the end is given: of unknowns, where that leaves a choice.

    Raises:
        ValueError: No run has such a figure, or several are meant.
    """
    known = [*dict.fromkeys(key for run in runs for key in flatten(run.figures))]
    meant = [key for key in known if key == name or key.endswith("." + name)]
    group = next((group for run in runs for group in run.groups), "")
    for wanted in (name, f"open_set.{group}.{name}"):
        if wanted in meant:
            return wanted
    if len(meant) == 1:
        return meant[0]
    likely = meant or [key for key in known if key.startswith(("open_set.", "at_threshold."))]
    problem = "could be any of these" if meant else "is no figure of these runs, which have"
    raise ValueError(f"{name!r} {problem}: {', '.join(likely[:40])}")


def choose_columns(runs, more=()):
    """Dotted names of the figures to show: what thresholds do, and open-set figures of what all runs have."""
    group = next((group for run in runs for group in run.groups), None)
    names = [f"at_threshold.{name}" for name in ("ccr", "coverage", "fpr_negative", "fpr_unknown")]
    names += [f"open_set.{group}.{name}" for name in FIGURES] + [f"segmentation.{name}" for name in ("miou",)]
    names += ["detection.coco.ap50", "multi_label.map", *more]
    there = {key for run in runs for key in flatten(run.figures)}
    return [name for name in dict.fromkeys(names) if name in there]


def sort_runs(runs, figure):
    """Runs by a figure with its dotted name, the best first, those without it last."""
    sign = 1 if split_name(figure)[-1].startswith(SMALLER) else -1
    values = {run.path: flatten(run.figures).get(figure) for run in runs}
    return sorted(runs, key=lambda run: (values[run.path] is None, sign * (values[run.path] or 0)))


def make_table(runs, sort=None, form="text"):
    """Figures of runs as a table, a row for each.

    Args:
        runs: `Run`s.
        sort: Name of a figure, or the end of its dotted name in `metrics.json`, shown whether or not it would be; None
            keeps the order.
        form: `"text"`, `"csv"` (all digits, nothing rounded) or `"markdown"`.

    Raises:
        ValueError: For another form, or a figure that no run has.

    >>> print(make_table(read_runs(["runs/a", "runs/b"]), sort="auroc"))  # doctest: +SKIP
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {', '.join(map(repr, FORMATS))}. Received: form={form!r}")
    asked = None if sort is None else find_figure(runs, sort)
    names = choose_columns(runs, [asked] if asked else [])
    rows = [["run", *(name.removeprefix("open_set.").removeprefix("at_threshold.") for name in names)]]
    for run in runs if asked is None else sort_runs(runs, asked):
        values = flatten(run.figures)
        if form == "csv":
            rows.append([run.name, *("" if values.get(name) is None else repr(values[name]) for name in names)])
        else:
            rows.append([run.name, *(cell(values.get(name), interval(run, name)) for name in names)])
    if form == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue().rstrip("\n")
    if form == "markdown":
        return align([[text.replace("|", "\\|") for text in row] for row in rows])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows)
