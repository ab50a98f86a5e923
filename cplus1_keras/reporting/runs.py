"""What the directory of a run tells, read once."""

import csv
import functools
import pathlib
from typing import NamedTuple

import numpy as np

from cplus1_keras.provenance import read_json

PREFIX = "epoch_"
"""Begins the names that Keras gives figures of whole epochs in its logs."""


class Run(NamedTuple):
    """A finished run, or a later judging of one."""

    name: str
    path: pathlib.Path
    figures: dict
    """`metrics.json`: settings and figures."""
    config: dict
    """`config.json`: how to make it again; empty where there is none."""
    evidence: dict | None
    """`evidence.json`: every threshold, and the examples that tell most; None for runs of before."""

    @property
    def groups(self):
        """Those of unknowns and negatives that its test split has, the former first."""
        return [group for group in ("unknown", "negative") if group in self.figures.get("open_set", {})]


def read_run(directory, name=None):
    """The `Run` of a directory.

    Raises:
        FileNotFoundError: It holds no finished run.
        ValueError: A file of it is damaged.

    >>> read_run("runs/digits").figures["at_threshold"]["ccr"]  # doctest: +SKIP
    0.875
    """
    path = pathlib.Path(directory)
    if not (path / "metrics.json").is_file():
        raise FileNotFoundError(f"{path} is no finished run: it lacks metrics.json. `python train.py` makes one.")
    config, evidence, name = path / "config.json", path / "evidence.json", name or path.resolve().name
    if not config.is_file() and (path.parent / "config.json").is_file():  # a later judging of the run around it
        config, name = path.parent / "config.json", f"{path.resolve().parent.name}/{name}"
    told, found = (read_json(file) if file.is_file() else None for file in (config, evidence))
    return Run(name, path, read_json(path / "metrics.json"), told or {}, found)


def read_runs(directories):
    """The `Run`s of several directories, by their names or, where two are the same, by their paths."""
    names = [pathlib.Path(own).resolve().name for own in directories]
    alone = len(set(names)) == len(names)
    return [read_run(own, name if alone else str(own)) for own, name in zip(directories, names, strict=True)]


def read_curves(run):
    """What TensorBoard's logs of a run tell of each epoch: dict by figure of dicts `train`, `validation` of lists.

    A list has an entry for each epoch, a float, or None where nothing finite was told.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    curves = {}
    for part in ("train", "validation"):
        folder = run.path / "logs" / part
        if folder.is_dir():
            events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
            for tag in events.Tags()["tensors"]:
                if tag.startswith(PREFIX):
                    # A run that was resumed tells some steps twice: the last counts.
                    steps = {event.step: event.tensor_proto for event in events.Tensors(tag)}
                    values = {step: float(tensor_util.make_ndarray(tensor)) for step, tensor in steps.items()}
                    all_steps = (values.get(step, np.nan) for step in range(max(values) + 1))
                    told = [round(value, 6) if np.isfinite(value) else None for value in all_steps]
                    curves.setdefault(tag.removeprefix(PREFIX), {})[part] = told
    return curves


class Predictions(NamedTuple):
    """Of each image of a test split, in the order of `examples`."""

    examples: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    scores: np.ndarray


@functools.lru_cache(64)
def read_predictions(path):
    """`Predictions` of a run's directory; None where it has none with one label for each image."""
    file = path / "predictions.csv"
    if not file.is_file():
        return None
    with open(file, newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        head = next(reader)
        if not {"example", "label", "prediction", "score"} <= {*head}:
            return None
        columns = [*zip(*reader, strict=True)] or [()] * len(head)
    kinds = {"example": str, "label": "int64", "prediction": "int64", "score": "float64"}
    return Predictions(*(np.array(columns[head.index(name)]).astype(kind) for name, kind in kinds.items()))
