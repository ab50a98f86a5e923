"""Losses for label sets, on the few images of COCO mini: a table over paired seeds.

    python benchmarks/multilabel.py --set root=FOLDER             all methods, 3 seeds, one to two minutes a run
    python benchmarks/multilabel.py --set root=FOLDER --smoke     one epoch of each, to see that it works

Methods with one seed share splits, first weights, the order of images and their augmentation, so the second table gives
differences to the first method, paired by seed, with the half-width of their 95 % interval (Student's t). 267 images
tell that a loss trains; they do not tell which is best. Results go to docs/results run by run, so that a comparison
that was stopped goes on where it was, and a table beside them.
"""

import argparse
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import paired
from comparison import judge_training, look_up, resume

from cplus1_keras import configs
from cplus1_keras.provenance import as_sentence, provenance

FIGURES = {
    "mAP": ("multi_label", "map"),
    "CF1": ("multi_label", "cf1"),
    "OF1": ("multi_label", "of1"),
    "CF1, top 3": ("multi_label", "top_3", "cf1"),
    "AUROC of absent": ("open_set", "negative", "auroc"),
    "AUROC of unknown": ("open_set", "unknown", "auroc"),
}


def compare(methods, seeds, settings, output):
    """Results of what `output` holds, and of what it lacks: {method: {seed: figures}}."""

    def one(method, seed):
        return judge_training(configs.resolve("coco_mini_labels", [*settings, f"method={method}", f"seed={seed}"]))

    def tell(figures):
        return "  ".join(f"{name} {100 * figure(figures, name):.1f}" for name in FIGURES)

    return resume(output, {"settings": settings}, methods, seeds, one, tell)


def figure(result, name):
    """One of `FIGURES` in a run's results; NaN where no image tells it."""
    return look_up(result, FIGURES[name])


def table(results):
    """Markdown: figures in percent, and how they differ from the first method's, seed by seed."""
    return paired.tables(results, {name: lambda run, name=name: 100 * figure(run, name) for name in FIGURES})


def main():
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default="bce,weighted,asymmetric,hnc_mse,hnc_kd,ac,ac_hnc_mse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="name=value, of the config coco_mini_labels")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/multilabel_coco_mini.json"))
    parser.add_argument("--smoke", action="store_true", help="one epoch, one seed, nothing kept")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    if arguments.smoke:
        arguments.seeds, arguments.set = 1, [*arguments.set, "epochs=1"]
        arguments.output = pathlib.Path(tempfile.mkdtemp(), "smoke.json")
    results = compare(arguments.methods.split(","), arguments.seeds, arguments.set, arguments.output)
    text = f"{table(results)}\n\n{paired.NOTE} {as_sentence(provenance())}\n"
    arguments.output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
