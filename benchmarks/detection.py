"""Losses of detection on BCCD, closed and open set: a table over paired seeds.

    python benchmarks/detection.py --set root=FOLDER            half-size images, one to two minutes a run
    python benchmarks/detection.py --full --set root=FOLDER     the config as it ships, about three minutes a run
    python benchmarks/detection.py --smoke --set root=FOLDER    one pass of each, to see that it works

White blood cells are unknown: training ignores them. FCOS with the sigmoid focal loss, with the C+1 softmax, its two
terms and three kinds of centres, margins on a cosine classifier of C + 1 classes, and the entropic open-set loss. Rows
with one seed share splits, first weights, the order of images and their augmentation, so the second table gives
differences to the first row, paired by seed, with the half-width of their 95 % interval (Student's t). Results go to
docs/results run by run, so that a stopped comparison goes on where it was, and a table beside them.
"""

import argparse
import dataclasses
import json
import logging
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from comparison import spread, train
from scipy import stats

from cplus1_keras import configs
from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance, write_json

ROWS = {
    "sigmoid focal": ("method=sigmoid",),
    "C+1 softmax": ("method=softmax",),
    "with focal weights": ("method=focal_softmax",),
    "+ compactness": ("method=compactness",),
    "+ background margin, moving averages": ("method=cplus1",),
    "learnable centres": ("method=cplus1", "centers=learnable"),
    "shared centres": ("method=cplus1", "centers=shared"),
    "cosine C+1": ("method=cosine",),
    "CosFace": ("method=cosface",),
    "ArcFace": ("method=arcface",),
    "SphereFace": ("method=sphereface",),
    "C2AM": ("method=c2am",),
    "SM-Softmax": ("method=sm_softmax",),
    "entropic": ("method=entropic",),
}
"""Each row's settings of the config `bccd`; the first is what the others are compared with."""

FIGURES = {
    "AP": (100, ("detection", "coco", "ap")),
    "AP50": (100, ("detection", "coco", "ap50")),
    "AP50 without unknowns": (100, ("detection", "open", "ap50_without_unknowns")),
    "WI": (100, ("detection", "open", "wilderness_impact")),
    "A-OSE": (1, ("detection", "open", "a_ose")),
    "AP50 of unknowns": (100, ("detection", "open", "unknown_ap50")),
    "AUROC of unknowns": (100, ("open_set", "unknown", "auroc")),
    "AUROC of false detections": (100, ("open_set", "negative", "auroc")),
}
"""Factor and place of each figure; all are in percent, but A-OSE, a number of objects."""

SIZES = {"small": ("width=192", "steps=600"), "full": (), "smoke": ("width=160", "steps=10", "interval=10")}
NOTE = (
    "± is the half-width of the 95 % interval over the seeds of training, on one test set. * marks a difference whose "
    "interval leaves out 0: of twenty without any effect, one does so by chance."
)


def run(experiment):
    """Figures of one training on the test split, and how much each term pulled."""
    start = time.perf_counter()
    model, splits, history = train(experiment)
    seconds, task = time.perf_counter() - start, experiment.task
    figures, _ = task.judge(task.predictor(model, experiment.score, splits), splits.test, experiment)
    ratios = {name: values[-1] for name, values in history.items() if name.startswith("gradient_ratio/")}
    return {**figures, "loss": history["loss"][-1], "seconds": round(seconds, 1), **ratios}


def compare(rows, seeds, settings, output, roots=()):
    """Run what `output` does not hold yet, and return all results, {row: {seed: figures}}.

    `roots` are settings that say where the data lie.
    """
    record = {"settings": list(settings), "results": {}}
    if output.is_file():
        record = json.loads(output.read_text(encoding="utf-8"))
        if record["settings"] != list(settings):
            raise SystemExit(
                f"{output} holds other settings, {record['settings']}. Remove it or name another --folder."
            )
    for seed in range(seeds):
        for row in rows:
            done = record["results"].setdefault(row, {})
            if str(seed) in done:
                continue
            experiment = dataclasses.replace(configs.resolve("bccd", [*settings, *roots, *ROWS[row]]), seed=seed)
            done[str(seed)] = {**run(experiment), "provenance": provenance()}
            write_json(output, record)
            found = "  ".join(f"{name} {figure(done[str(seed)], name):.2f}" for name in FIGURES)
            print(f"{row}, seed {seed}: {found}  ({done[str(seed)]['seconds']} s)", flush=True)
            keras.backend.clear_session()
    return record["results"]


def figure(result, name):
    """One of `FIGURES` in a run's results; NaN where no object tells it."""
    factor, keys = FIGURES[name]
    for key in keys:
        result = (result or {}).get(key)
    return np.nan if result is None else factor * result


def tables(results):
    """Markdown: the figures of each row, and how they differ from the first row's, seed by seed."""
    (reference, first), *others = results.items()
    rows = [["", *FIGURES]]
    for row, runs in results.items():
        rows.append([row, *(told([figure(r, name) for r in runs.values()], ".1f") for name in FIGURES)])
    pairs = [[f"minus {reference}", *FIGURES]]
    for row, runs in others:
        seeds = [seed for seed in runs if seed in first]
        gains = ([figure(runs[s], name) - figure(first[s], name) for s in seeds] for name in FIGURES)
        pairs.append([row, *(told(gain, "+.1f") + "*" * is_certain(gain) for gain in gains)])
    return align(rows) + "\n\n" + align(pairs)


def told(values, form):
    """`spread`, and "" where a run does not tell the figure."""
    return "" if np.isnan(values).any() else spread(values, form)


def is_certain(values):
    """Whether the 95 % interval of the mean (Student's t) leaves out 0."""
    if len(values) < 2:
        return False
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return bool(abs(np.mean(values)) > half)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_const", const="full", dest="size", help="the config as it ships")
    size.add_argument("--smoke", action="store_const", const="smoke", dest="size", help="one pass, 1 seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", help="names of ROWS, comma-separated; the first is what others are compared with")
    parser.add_argument("--hold-out", default="WBC", help='the unknown class, or "" for none')
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--folder", default="docs/results", type=pathlib.Path)
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each run traces its own functions, on purpose
    name, rows = arguments.size or "small", arguments.rows.split(",") if arguments.rows else [*ROWS]
    # Where the data lie is no setting of the comparison.
    roots = [text for text in arguments.settings if text.startswith("root=")]
    settings = [*SIZES[name], f"hold_out={arguments.hold_out}", *(t for t in arguments.settings if t not in roots)]
    output = arguments.folder / f"detection_bccd{'' if name == 'small' else '_' + name}.json"
    results = compare(rows, 1 if name == "smoke" else arguments.seeds, settings, output, roots)
    text = f"{tables({row: results[row] for row in rows})}\n\n{NOTE} {as_sentence(provenance())}\n"
    output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
