"""A threshold calibrated on trained negatives, and on a class that never trains: `python benchmarks/calibration.py`."""

import dataclasses
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from comparison import train

from cplus1_keras import configs, data
from cplus1_keras.provenance import provenance, write_json

OUTPUT = pathlib.Path(__file__).parent.parent / "docs/results/calibration.json"
CHOICES = {"other images of the trained 6s and 7s": (), "7s, which never train": ("7",)}


def run(classes, seed):
    """What the threshold of the `digits` config does to the test set, calibrated on `classes`."""
    experiment = dataclasses.replace(
        configs.resolve("digits"), data=functools.partial(splits, classes=classes), seed=seed
    )
    model, parts, _ = train(experiment)
    task = experiment.task
    every = task.predictor(model, experiment.score, parts)
    found = task.calibrate(every, parts.calibration, experiment)
    return task.judge(every, parts.test, experiment, found)[0]["at_threshold"]


def splits(seed, classes):
    """The digits, with other images or other classes to calibrate on."""
    return data.split(data.protocols.digits(), data.sources.digits(), calibration_classes=classes, seed=seed)


def main():
    keras.utils.disable_interactive_logging()
    runs = {choice: [run(classes, seed) for seed in range(3)] for choice, classes in CHOICES.items()}
    rows = ["| calibrated at FPR 10 % on | unknowns accepted, by seed | knowns answered right |", "|---|---|---|"]
    for choice, found in runs.items():
        cells = [", ".join(f"{100 * at[name]:.0f} %" for at in found) for name in ("fpr_unknown", "ccr")]
        rows.append(f"| {choice} | {' | '.join(cells)} |")
    write_json(OUTPUT, {"runs": runs, "seeds": [0, 1, 2], "provenance": provenance()})
    OUTPUT.with_suffix(".md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
