"""What a run tells: its config as text, its figures, its pictures and its last words."""

import csv
import dataclasses
import functools

import numpy as np

from cplus1_keras import metrics, plots
from cplus1_keras.labels import REJECTED_NAME, UNKNOWN, is_known, is_negative
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.provenance import provenance

FIGURES = ("accuracy", "ccr_at_fpr_0.05", "ccr_at_fpr_0.1", "ccr_at_fpr_0.3", "auroc")
GROUPS = ("negative", "unknown")


def describe(experiment):
    """A dataclass of settings and factories as plain values, for `config.json`.

    >>> describe(configs.resolve("digits"))["name"]
    'digits'
    """
    fields = dataclasses.fields(experiment)
    return {field.name: _plain(getattr(experiment, field.name)) for field in fields} | {"provenance": provenance()}


def figures(labels, predictions, scores, threshold):
    """All figures of a test set: those without a threshold, and what the threshold does.

    Args:
        labels, predictions, scores: Arrays (N,).
        threshold: Accept where score >= threshold.

    Returns:
        Plain values: `groups` as `metrics.summary` gives them (without groups that have no member), and
        `at_threshold` with the rate of right answers on knowns (`ccr`), the share of knowns accepted (`coverage`) and
        the share of each group accepted (`fpr_negative`, `fpr_unknown`).

    >>> labels, scores = np.array([0, 1, -2]), np.array([3.0, 1.0, 2.5])
    >>> found = figures(labels, predictions=np.array([0, 1, 0]), scores=scores, threshold=2.0)["at_threshold"]
    >>> found["ccr"], found["fpr_unknown"]
    (0.5, 1.0)
    """
    known, accepted = is_known(labels), scores >= threshold
    members = {"negative": is_negative(labels), "unknown": labels == UNKNOWN}
    present = [group for group in GROUPS if members[group].any()]
    at_threshold = {
        "threshold": float(threshold),
        "ccr": float(np.mean(accepted[known] & (predictions == labels)[known])),
        "coverage": float(np.mean(accepted[known])),
        **{f"fpr_{group}": float(np.mean(accepted[members[group]])) for group in present},
    }
    summary = metrics.summary(labels, predictions, scores, (0.01, 0.05, 0.1, 0.3), present, samples=1000)
    return {"groups": summary, "at_threshold": at_threshold}


def write_predictions(path, split, predictions, scores, threshold, class_names):
    """The test set as csv: a line an image with its label, the prediction, the score and the answer at the threshold.

    >>> where, names = "predictions.csv", splits.class_names  # doctest: +SKIP
    >>> write_predictions(where, splits.test, predictions, scores, 2.0, names)  # doctest: +SKIP
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["example", "true_class", "label", "prediction", "score", "answer"])
        for index, (label, prediction, score) in enumerate(zip(split.labels, predictions, scores, strict=True)):
            true = split.source.class_names[split.source.labels[index]]
            answer = class_names[prediction] if score >= threshold else REJECTED_NAME
            # repr of a float32 as float64 is read back to the same score, so that thresholds decide alike.
            writer.writerow([split.describe(index), true, label, prediction, repr(float(score)), answer])


def write_figures(directory, name, split, predictions, scores, calibration, class_names):
    """`oscr.png`, `scores.png` and `accepted_unknowns.png` of a test set.

    >>> answers = predictions, scores, calibration, splits.class_names  # doctest: +SKIP
    >>> write_figures(directory, "digits", splits.test, *answers)  # doctest: +SKIP
    """
    labels = split.labels
    present = [group for group, label in (("negative", -1), ("unknown", UNKNOWN)) if (labels == label).any()]
    if present:
        curves = {group: metrics.oscr(labels, predictions, scores, group) for group in present}
        plots.oscr(curves, title=f"{name}: OSCR on the test set").savefig(directory / "oscr.png")
    histogram = plots.histogram(labels, scores, calibration.threshold, score_name=calibration.score)
    histogram.savefig(directory / "scores.png")
    accepted = np.flatnonzero((labels == UNKNOWN) & (scores >= calibration.threshold))
    shown = accepted[np.argsort(-scores[accepted], kind="stable")][:40]
    images = dict(zip(sorted(shown), split.source.subset(np.sort(shown)).images().as_numpy_iterator(), strict=True))
    sheet = plots.accepted_unknowns(
        np.array([images[i] for i in shown]),
        [class_names[predictions[i]] for i in shown],
        [split.source.class_names[split.source.labels[i]] for i in shown],
        scores[shown],
        calibration.threshold,
        title=_sheet_title(len(accepted), len(shown), int((labels == UNKNOWN).sum())),
    )
    sheet.savefig(directory / "accepted_unknowns.png")


def epilogue(report, calibration, directory, saved_model):
    """The last words of a run: the table, the threshold with its evidence, and what to type next.

    >>> print(epilogue(report, calibration, directory, saved_model))  # doctest: +SKIP
    """
    at = report["at_threshold"]
    lines = []
    if report["groups"]:
        lines += [metrics.table(_without_intervals(report["groups"]), FIGURES), ""]
    lines += [str(calibration)]
    achieved = [f"{100 * at[f'fpr_{group}']:.1f} % of test {group}s" for group in GROUPS if f"fpr_{group}" in at]
    lines += [
        f"At this threshold: {100 * at['ccr']:.1f} % of test knowns are answered right, {100 * at['coverage']:.1f} % "
        f"are accepted" + (f"; so are {' and '.join(achieved)}." if achieved else "."),
        f"Took {report['seconds']:.0f} s, export not counted.",
        "",
        "Next:",
        f"  tensorboard --logdir {directory / 'logs'}",
        f"  python -c \"import cplus1_keras; print(cplus1_keras.load('{directory}').calibration)\"",
        f"  saved_model_cli show --dir {saved_model} --tag_set serve --signature_def serving_default",
        f"Pictures: {directory / 'oscr.png'}, {directory / 'scores.png'}, {directory / 'accepted_unknowns.png'}",
    ]
    return "\n".join(lines)


def _without_intervals(groups):
    return {group: {name: v for name, v in values.items() if name != "intervals"} for group, values in groups.items()}


def _sheet_title(accepted, shown, unknowns):
    if not accepted:
        return f"None of {unknowns:,} unknowns was accepted" if unknowns else "The test set has no unknowns"
    part = "" if shown == accepted else f", the {shown} surest of them"
    return f"{accepted:,} of {unknowns:,} unknowns accepted{part}\ntrue class → taken for, score"


def _plain(value):
    if isinstance(value, OpenSetLoss):
        return {"class": type(value).__name__, **_plain(value.get_config())}
    if isinstance(value, functools.partial):
        arguments = [_plain(argument) for argument in value.args] or None
        return {"function": _plain(value.func), "arguments": arguments, **_plain(value.keywords)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
