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
import functools
import logging
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import paired
from comparison import judge_training, look_up, resume

from cplus1_keras import configs
from cplus1_keras.provenance import as_sentence, provenance

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


def compare(rows, seeds, settings, output, roots=()):
    """Results of what `output` holds, and of what it lacks; `roots` are settings that say where the data lie."""

    def one(row, seed):
        experiment = configs.resolve("bccd", [*settings, *roots, *ROWS[row]])
        return judge_training(dataclasses.replace(experiment, seed=seed))

    def tell(figures):
        return "  ".join(f"{name} {figure(figures, name):.2f}" for name in FIGURES)

    return resume(output, {"settings": list(settings)}, rows, seeds, one, tell)


def figure(result, name):
    """One of `FIGURES` in a run's results; NaN where no object tells it."""
    factor, keys = FIGURES[name]
    return factor * look_up(result, keys)


def tables(results):
    """Markdown: the figures of each row, and how they differ from the first row's, seed by seed."""
    return paired.tables(results, {name: functools.partial(figure, name=name) for name in FIGURES})


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
    text = f"{tables({row: results[row] for row in rows})}\n\n{paired.NOTE} {as_sentence(provenance())}\n"
    output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
