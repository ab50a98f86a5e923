"""What a run tells: its settings as plain values, and its last words."""

import dataclasses
import functools
import shlex

from cplus1_keras import metrics
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.provenance import provenance
from cplus1_keras.tasks import strangers

FIGURES = ("accuracy", "ccr_at_fpr_0.05", "ccr_at_fpr_0.1", "ccr_at_fpr_0.3", "auroc")


def describe(experiment):
    """A dataclass of settings and factories as plain values, for `config.json`.

    >>> describe(configs.resolve("digits"))["name"]
    'digits'
    """
    return {**_plain(experiment), "provenance": provenance()}


def to_repeat(command):
    """How a run is made again, for `config.json`; `command` is what `train.py` was told, or None.

    >>> to_repeat({"config": "digits", "set": ["epochs=3"]})
    'python train.py --config digits --set epochs=3'
    """
    if not command:
        return "Made in Python, not by train.py: by the code at these commits, run again."
    words = [word for item in command["set"] for word in ("--set", item)]
    words += ["--deterministic"] if command.get("deterministic") else []
    return shlex.join(["python", "train.py", "--config", command["config"], *words])


def epilogue(task, figures, calibration, run, saved_model, directory=None):
    """The last words of a run: its tables, the threshold with its evidence, and what to type next."""
    tables = [*task.tables(figures)]
    if figures["open_set"]:
        tables.append(metrics.table(figures["open_set"], FIGURES, intervals=False))
    by_class = [strangers.tell(figures["by_class"], calibration)] if figures.get("by_class") else []
    return "\n\n".join(
        [
            *tables,
            f"{calibration}\n{at_threshold(figures['at_threshold'], task.unit)}",
            *by_class,
            *([f"Note: {figures['note']}"] if figures.get("note") else []),
            f"Took {figures['seconds']:.0f} s, export not counted.",
            "Next:\n"
            f"  tensorboard --logdir {run / 'logs'}\n"
            f"  python -c \"import cplus1_keras; print(cplus1_keras.load('{run}').calibration)\"\n"
            f"  saved_model_cli show --dir {saved_model} --tag_set serve --signature_def serving_default\n"
            f"Tables, predictions and pictures are in {directory or run}",
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
    text = (
        f"At this threshold: {100 * figures['ccr']:.1f} % of the test's known {unit}s are answered right, "
        f"{100 * figures['coverage']:.1f} % are accepted"
    )
    return text + (f"; so are {' and '.join(accepted)}." if accepted else ".")


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return fields if "name" in fields else {"class": type(value).__name__, **fields}
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
    if not hasattr(value, "__qualname__"):
        return repr(value)
    code, name = getattr(value, "__code__", None), f"{value.__module__}.{value.__qualname__}"
    # A function inside another has no name that could be looked up.
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})" if "<" in name and code else name
