"""C+1 on pixels of real images: Tables 1 and 2 in shape, and a sweep of the background weight, over paired seeds.

    python benchmarks/segmentation.py --configs camvid --set root=FOLDER    half-size images, about a minute a run
    python benchmarks/segmentation.py --full       the configs as they ship, a run of about five minutes
    python benchmarks/segmentation.py --smoke      a few steps of each, to see that it works

CamVid (trees are background, fences and bicyclists unknown) and COCO mini (crops around objects, furniture unknown).
Two methods with the same seed share the first weights, the order of images and their augmentation, so tables give
differences to their first row, paired by seed, with the half-width of their 95 % interval (Student's t). Results go to
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
import numpy as np
import paired
from comparison import judge_training, look_up, resume

from cplus1_keras import configs
from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence

ROWS = {
    "softmax": ("method=softmax",),
    "compactness": ("method=compactness",),
    "moving average": (),
    "learnable": ("centers=learnable",),
    "shared": ("centers=shared",),
    "background 0.01": ("background=0.01",),
    "background 1": ("background=1.0",),
    "background 10": ("background=10.0",),
}
"""Each row's settings; the others are the config's: all terms, moving averages, weights 0.1 and 1e-4."""

TABLES = {
    "Table 1's shape: the terms": {
        "L_separability": "softmax",
        "+ L_compact": "compactness",
        "+ L_compact + L_background": "moving average",
    },
    "Table 2's shape: the centres": {
        "softmax": "softmax",
        "learnable": "learnable",
        "moving average": "moving average",
        "shared": "shared",
    },
    "Sweep of the weight of L_background (moving averages)": {
        "0": "compactness",
        "1e-4": "moving average",
        "0.01": "background 0.01",
        "1": "background 1",
        "10": "background 10",
    },
}
"""The first row of a table is what the others are compared with, seed by seed."""

FIGURES = {
    "mIoU": ("segmentation", "miou"),
    "mAcc": ("segmentation", "macc"),
    "aAcc": ("segmentation", "aacc"),
    "AUROC of unknowns": ("open_set", "unknown", "auroc"),
    "FPR at 95 % TPR": ("open_set", "unknown", "fpr95"),
    "OpenAUC": ("open_set", "unknown", "open_auc"),
}
SIZES = {
    "small": {"camvid": ("width=128", "steps=500"), "coco_mini": ("width=96", "steps=400")},
    "full": {"camvid": (), "coco_mini": ()},
    "smoke": {"camvid": ("width=64", "steps=3"), "coco_mini": ("width=64", "steps=3")},
}
BASELINE = 0.3
"""The mIoU of softmax on COCO mini above which its methods are compared; below, one seed shows that they run."""


def compare(config, rows, seeds, settings, output, images=None):
    """Results of what `output` holds, and of what it lacks: {row: {seed: figures}}."""

    def one(row, seed):
        experiment = configs.resolve(config, [*settings, *ROWS[row]])
        return judge_training(dataclasses.replace(experiment, seed=seed), images)

    def tell(figures):
        return "  ".join(f"{name} {figure(figures, name):.4f}" for name in FIGURES)

    return resume(output, {"config": config, "settings": list(settings)}, rows, seeds, one, tell)


def figure(result, name):
    """One of `FIGURES` in a run's results; NaN where no pixel tells it."""
    return look_up(result, FIGURES[name])


def _percent(result, name):
    return 100 * figure(result, name)


def tables(results):
    """Markdown: each of `TABLES` whose rows were run, figures in percent, then how they differ from its first row."""
    text, figures = [], {name: functools.partial(_percent, name=name) for name in FIGURES}
    for title, rows in TABLES.items():
        own = {label: results[row] for label, row in rows.items() if row in results}
        if len(own) > 1:
            text += ["", paired.tables(own, figures, title, ".2f")]
    return "\n".join([*text, "", ratios(results)])


def ratios(results):
    """Markdown: the norm of each term's gradient over that of the cross-entropy, at the end of training."""
    terms = sorted({key for by_seed in results.values() for r in by_seed.values() for key in r if "gradient_" in key})
    lines = [
        ["gradient norm over that of the cross-entropy", *(term.removeprefix("gradient_ratio/") for term in terms)]
    ]
    for row, by_seed in results.items():
        values = [[r[term] for r in by_seed.values() if term in r] for term in terms]
        if any(values):
            lines.append([row, *(f"{np.mean(v):.2g}" if v else "" for v in values)])
    return align(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_const", const="full", dest="size", help="the configs as they ship")
    size.add_argument(
        "--smoke", action="store_const", const="smoke", dest="size", help="3 steps, 4 test images, 1 seed"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--configs", default="camvid,coco_mini")
    parser.add_argument("--rows", help="names of ROWS, comma-separated; all for CamVid, Table 1's for COCO mini")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--folder", default="docs/results", type=pathlib.Path)
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each run traces its own functions, on purpose
    name, smoke = arguments.size or "small", arguments.size == "smoke"
    for config in arguments.configs.split(","):
        settings = (*SIZES[name][config], *arguments.settings)
        default = list(ROWS) if config == "camvid" or name == "full" else ["softmax", "compactness", "moving average"]
        rows = arguments.rows.split(",") if arguments.rows else default
        output = arguments.folder / f"segmentation_{config}{'' if name == 'small' else '_' + name}.json"
        report(config, rows, 1 if smoke else arguments.seeds, settings, output, 4 if smoke else None)


def report(config, rows, seeds, settings, output, images=None):
    """Compare, write the tables beside the results, and print them."""
    results, note = compare(config, ["softmax"], seeds, settings, output, images), paired.NOTE
    mean = np.mean([figure(r, "mIoU") for r in results["softmax"].values()])
    if config == "coco_mini" and mean <= BASELINE:
        note = (
            f"A smoke test: softmax reaches {mean:.3f} mIoU, the mean of {len(results['softmax'])} seeds, not above "
            f"{BASELINE}, so methods are not compared; the tables show the first seed, to see that all works."
        )
        seeds = 1
    results = compare(config, ["softmax", *rows], seeds, settings, output, images)
    results = {row: {seed: r for seed, r in by_seed.items() if int(seed) < seeds} for row, by_seed in results.items()}
    made = {r["provenance"]["commit"]: as_sentence(r["provenance"]) for rs in results.values() for r in rs.values()}
    told = f"{config}, {', '.join(settings) or 'as it ships'}, {seeds} seed{'s' * (seeds > 1)}, percent. {note}"
    text = f"{told}\n{tables(results)}\n\n{' '.join(made.values())}\n"
    output.with_suffix(".md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
