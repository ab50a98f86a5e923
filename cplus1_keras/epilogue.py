"""The last words of a run."""

from cplus1_keras import metrics
from cplus1_keras.tasks import strangers

FIGURES = ("accuracy", "ccr_at_fpr_0.05", "ccr_at_fpr_0.1", "ccr_at_fpr_0.3", "auroc")


def epilogue(task, figures, calibration, run, saved_model, directory=None, report=None):
    """The last words of a run: its tables, the threshold with its evidence, and what to type next."""
    tables = [*task.tables(figures)]
    if figures["open_set"]:
        tables.append(metrics.table(figures["open_set"], FIGURES, intervals=False))
    by_class = [strangers.tell(figures["by_class"], calibration)] if figures.get("by_class") else []
    by_class += [strangers.tell_kinds(figures["by_distance"])] if figures.get("by_distance") else []
    steps = [f"  python -m webbrowser {report}"] if report else []
    steps += [
        f"  tensorboard --logdir {run / 'logs'}",
        f"  python -c \"import cplus1_keras; print(cplus1_keras.load('{run}').calibration)\"",
        f"  saved_model_cli show --dir {saved_model} --tag_set serve --signature_def serving_default",
        f"Tables, predictions and pictures are in {directory or run}",
    ]
    return "\n\n".join(
        [
            *tables,
            f"{calibration}\n{at_threshold(figures['at_threshold'], task.unit)}",
            *by_class,
            *([f"Note: {figures['note']}"] if figures.get("note") else []),
            f"Took {figures['seconds']:.0f} s, export not counted.",
            "\n".join(["Next:", *steps]),
        ]
    )


def at_threshold(figures, unit):
    """What a threshold does on a test split, in a sentence.

    >>> print(at_threshold({"ccr": 0.9, "coverage": 0.95, "fpr_negative": 0.1, "fpr_unknown": None}, "image"))
    At this threshold: 90.0 % of the test's known images are answered right, 95.0 % are accepted; so are 10.0 % of the \
negative ones.
    """
    shares = {name: figures.get(f"fpr_{name}") for name in ("negative", "unknown")}
    accepted = [f"{100 * share:.1f} % of the {name} ones" for name, share in shares.items() if share is not None]
    if figures["ccr"] is None:
        return f"The test has no known {unit}s." + (f" Accepted are {' and '.join(accepted)}." if accepted else "")
    text = (
        f"At this threshold: {100 * figures['ccr']:.1f} % of the test's known {unit}s are answered right, "
        f"{100 * figures['coverage']:.1f} % are accepted"
    )
    return text + (f"; so are {' and '.join(accepted)}." if accepted else ".")
