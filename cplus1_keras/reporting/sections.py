"""The parts of a report of one run, as plain values: facts, tables, curves."""

from cplus1_keras.metrics import cell
from cplus1_keras.provenance import as_sentence
from cplus1_keras.reporting.runs import read_curves

LABELS = {
    "accuracy": "closed-set accuracy",
    "auroc": "AUROC",
    "aupr_known": "AUPR of knowns",
    "aupr_group": "AUPR of the group",
    "fpr95": "FPR95",
    "open_auc": "OpenAUC",
    "miou": "mIoU",
    "macc": "mAcc",
    "aacc": "aAcc",
    "iou": "IoU",
    "map": "mAP",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
}
"""What people call figures whose names in `metrics.json` are others."""

OWN = ("open_set", "at_threshold", "by_class", "by_distance", "calibration", "settings", "provenance")
"""What has a place of its own in a report."""


def name_figure(name):
    """What people call a figure.

    >>> name_figure("ccr_at_fpr_0.05"), name_figure("auroc")
    ('CCR at FPR 5 %', 'AUROC')
    """
    if name.startswith("ccr_at_fpr_"):
        return f"CCR at FPR {100 * float(name.removeprefix('ccr_at_fpr_')):g} %"
    return LABELS.get(name, name.replace("_", " "))


def name_group(group):
    """What people call the members of a group of open-set figures.

    >>> name_group("negative"), name_group("far")
    ('negatives', 'far unknowns')
    """
    return f"{group} unknowns" if group in ("near", "far") else f"{group}s"


def facts(run):
    """What was trained on what, and how to do it again: pairs of texts."""
    told = run.figures
    settings = {name: _say(value) for name, value in told.get("settings", {}).items() if name != "note"}
    rows = {
        **settings,
        "test images": f"{told['images']:,}",
        "took": f"{told.get('seconds', 0):,.0f} s",
        "again": run.config.get("repeat", ""),
        "commit": str(told["provenance"]["commit"]),
        "environment": as_sentence(told["provenance"]),
        "directory": str(run.path),
        "note": told.get("note") or "",
    }
    return [[name.replace("_", " "), text] for name, text in rows.items() if text]


def _say(value):
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def tables(run):
    """Tables of figures: open-set ones with intervals, then the task's own."""
    found, open_set = [], run.figures["open_set"]
    if open_set:
        names = [name for name in next(iter(open_set.values())) if name not in ("intervals", "errors")]
        rows = [
            [name_figure(name), *(as_cell(own[name], own.get("intervals", {}).get(name)) for own in open_set.values())]
            for name in names
        ]
        exact = "intervals" in next(iter(open_set.values()))
        note = "In brackets the ends of 95 % bootstrap intervals: what other test images could have given."
        title = "Open-set figures, whatever the threshold"
        found.append(_table(title, ["", *map(name_group, open_set)], rows, note if exact else ""))
    if run.figures.get("by_distance"):
        kinds = run.figures["by_distance"]
        rows = [["accepted", *(as_cell(own["accepted"], own["interval"]) for own in kinds.values())]]
        rows.append(["images", *(as_cell(own["images"]) for own in kinds.values())])
        note = "In brackets the ends of 95 % intervals: what other images of these classes could have given."
        found.append(_table("Near and far unknowns, at the threshold", ["", *map(name_group, kinds)], rows, note))
    for name, values in run.figures.items():
        if name not in OWN and isinstance(values, dict) and not _is_setting(values):
            found += _own(name, values)
    return found


def _is_setting(values):
    return "function" in values or "class" in values


def _own(title, values):
    """Tables of nested figures: one of plain numbers, and one for each dict of dicts of numbers."""
    numbers = {key: value for key, value in values.items() if _is_number(value)}
    found = [_table(title, ["", ""], [[name_figure(key), as_cell(value)] for key, value in numbers.items()])]
    found = found if numbers else []
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in ("intervals", "errors"):
            if all(isinstance(own, dict) for own in value.values()):
                names = [*dict.fromkeys(name for own in value.values() for name in own if _is_number(own[name]))]
                rows = [[other, *(as_cell(own.get(name)) for name in names)] for other, own in value.items()]
                found.append(_table(f"{title}: {key}", ["", *map(name_figure, names)], rows))
            else:
                found += _own(f"{title}: {key}", value)
    return found


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table(title, head, rows, note=""):
    return {"title": title.replace("_", " "), "head": head, "rows": rows, "note": note}


def as_cell(value, interval=None):
    """A figure for a table of the page: its text, its value to sort by, and its interval as a smaller text."""
    text = cell(value)
    sub = cell(value, interval)[len(text) :] if text and any(interval or ()) else ""
    return {"text": text, "value": value, "sub": sub}


def curves(run):
    """The curves of a training, each with its name and values by part; the loss first."""
    read = read_curves(run)
    return [{"name": name.replace("_", " "), **read[name]} for name in sorted(read, key=lambda n: (n != "loss", n))]
