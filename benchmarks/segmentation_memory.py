"""Peak memory of judging segmentation on 100 and on 1,000 images: `python benchmarks/segmentation_memory.py`.

Files of synthetic images and masks go through a small net, with tiles: all figures, and the calibration of a threshold,
which keeps a histogram of each image, each in a process of its own for each number of images. With 20 different sizes
the peak of judging may grow by at most 5 % from the smallest number of images to the largest. Where all sizes differ it
grows by about 5 MiB for 100 sizes, for oneDNN keeps what it compiled for a shape; the last rows, with
TF_ENABLE_ONEDNN_OPTS=0, are without it.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance, write_json


def write(folder, count, sizes):
    """Images and masks of this many sizes, as png files."""
    generator = np.random.default_rng(0)
    of = generator.integers(160, 260, (sizes, 2))
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(count):
        height, width = of[number % sizes]
        mask = generator.integers(0, 7, (height // 20 + 1, width // 20 + 1)).repeat(20, 0).repeat(20, 1)
        mask = mask[:height, :width]
        image = 120 + 20 * mask[..., None] + generator.normal(scale=30, size=(height, width, 3))
        Image.fromarray(np.clip(image, 0, 255).astype("uint8")).save(folder / "images" / f"{number:05d}.png")
        Image.fromarray(mask.astype("uint8")).save(folder / "masks" / f"{number:05d}.png")


def worker(what, folder, count):
    """Judge or calibrate, and print the peak of this process in MiB."""
    import types

    import keras

    from cplus1_keras import data, heads, scores
    from cplus1_keras.models import segmentation_model
    from cplus1_keras.tasks import Segmentation

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(16, 5, 4, "same", activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    model = segmentation_model(inputs, x, heads.LinearHead(5, use_bias=True, background=True))
    names = {value: str(value) for value in range(7)}
    protocol = data.Protocol(known="01234", negative=("6",), unknown=("5",))
    source = data.sources.folder(folder / "images", folder / "masks", names=names).subset(range(count))
    splits = data.split(protocol, source.subset([0]), test=source, calibration=source)
    task = Segmentation(crop_size=64, largest=224, edge_width=2)
    rates = {"fpr": 0.1, "coverage": 0.9, "confidence": 0.95, "score": scores.log_odds, "batch_size": 1}
    settings = types.SimpleNamespace(**rates)
    every = task.predictor(model, scores.log_odds, splits)
    if what == "judge":
        task.judge(every, splits.test, settings)
    else:
        task.calibrate(every, splits.test, settings)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # Linux counts in KiB


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/segmentation_memory.json"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        what, folder, count = arguments.worker
        return worker(what, pathlib.Path(folder), int(count))
    rows = []
    for sizes, onednn in ((20, True), (max(arguments.counts), True), (max(arguments.counts), False)):
        with tempfile.TemporaryDirectory() as folder:
            write(pathlib.Path(folder), max(arguments.counts), sizes)
            for count in arguments.counts:
                peaks = {what: peak(what, folder, count, onednn) for what in ("judge", "calibrate")}
                rows.append({"images": count, "sizes": min(sizes, count), "onednn": onednn, **peaks})
    growth = rows[len(arguments.counts) - 1]["judge"] / rows[0]["judge"]
    where = provenance()
    text = (
        f"{table(rows)}\n\nJudging, second row to first: {growth - 1:+.1%}; target at most +5 %. {as_sentence(where)}\n"
    )
    print(text)
    write_json(arguments.output, {"rows": rows, "growth": growth, "seed": 0, "provenance": where})
    arguments.output.with_suffix(".md").write_text(text, encoding="utf-8")
    return growth > 1.05


def peak(what, folder, count, onednn):
    """Peak resident memory in MiB of a process of its own."""
    command = [sys.executable, __file__, "--worker", what, folder, str(count)]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(onednn))}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])


def table(rows):
    """Markdown, a line for each number of images."""
    lines = [["images", "sizes", "oneDNN", "peak, judging (MiB)", "peak, calibrating (MiB)"]]
    for row in rows:
        figures = [f"{row[what]:.0f}" for what in ("judge", "calibrate")]
        lines.append([f"{row['images']:,}", f"{row['sizes']:,}", "yes" if row["onednn"] else "no", *figures])
    return align(lines)


if __name__ == "__main__":
    sys.exit(main())
