"""What judging detections takes: COCO's figures of 100,000 detections, and memory for 100 and for 1,000 images.

    python benchmarks/detection_judging.py            three minutes
    python benchmarks/detection_judging.py --smoke    a few images, nothing kept, to see that it works

Targets: COCO's figures in less than 3 s; judging 1,000 images, all figures, may peak at most 5 % higher than judging
100. Each number of images is judged in a process of its own, by a small detector on files of noise, which finds 100
boxes in each.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance, write_json

CLASSES, BOXES, SIDE = 80, 7, 160
TARGETS = {"seconds": 3.0, "growth": 1.05}


def seconds_of_coco(images, rounds=3):
    """Seconds that COCO's figures take of 100 detections in each of so many images; the least of some rounds."""
    from cplus1_keras.metrics import coco_figures

    rng, columns = np.random.default_rng(0), []
    for _ in range(images):
        objects = corners(rng, BOXES)
        near = objects[rng.integers(0, BOXES, 60)] + rng.normal(scale=6, size=(60, 4))
        boxes, labels = np.concatenate([near, corners(rng, 40)]), rng.integers(0, CLASSES, BOXES)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        found = boxes, rng.choice([*labels, *range(CLASSES)], 100), rng.random(100)
        columns.append((*found, objects, labels, np.prod(objects[:, 2:] - objects[:, :2], axis=1)))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        coco_figures(columns, [str(k) for k in range(CLASSES)])
        times.append(time.perf_counter() - start)
    return min(times)


def corners(rng, count):
    """Boxes (count, 4) of all sizes."""
    low, sides = rng.uniform(0, 300, (count, 2)), np.exp(rng.uniform(2, 5.5, (count, 2)))
    return np.concatenate([low, low + sides], axis=1)


class Sampler(threading.Thread):
    """Looks at what is resident every 20 ms: the peak of a process is that of its start, where files are listed."""

    def __enter__(self):
        self.peak, self.ended = 0.0, threading.Event()
        self.start()
        return self

    def run(self):
        while not self.ended.wait(0.02):
            pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
            self.peak = max(self.peak, pages * resource.getpagesize() / 2**20)

    def __exit__(self, *error):
        self.ended.set()
        self.join()


def worker(folder, count):
    """Judge so many images, and print how many MiB this process holds meanwhile at most."""
    import types

    import keras

    from cplus1_keras import data, heads, models, scores
    from cplus1_keras.backbones import small_cnn
    from cplus1_keras.tasks import Detection

    # Images that need less than 2 GiB are held in memory, on purpose; these stand for more.
    data.evaluation.__kwdefaults__["memory"] = 0
    keras.utils.set_random_seed(0)
    model = models.fcos(
        CLASSES,
        lambda: small_cnn((None, None, 3), filters=(8,), strides=(8,), pool=False),
        lambda classes: heads.LinearHead(classes, background=True),
        levels=(3,),
        channels=8,
        tower=1,
        groups=2,
    )
    rng, files = np.random.default_rng(0), sorted(folder.glob("*.png"))[:count]
    names = [str(k) for k in range(CLASSES)]
    objects = [[(*box, names[rng.integers(CLASSES)]) for box in corners(rng, BOXES) * SIDE / 600] for _ in files]
    source = data.sources.boxes(files, objects, names, on_bad="drop")
    split = data.Split("test", source, data.Protocol(names))
    task = Detection(score_threshold=0.0)
    every = task.predictor(model, scores.log_odds, types.SimpleNamespace(class_names=names, num_classes=CLASSES))
    with Sampler() as sampler:
        figures, _ = task.judge(every, split, types.SimpleNamespace(batch_size=1))
    print(figures["detection"]["detections"], sampler.peak)


def peak(folder, count):
    """Number of detections, and peak resident memory in MiB while it judges, of a process with so many images."""
    command = [sys.executable, __file__, "--worker", folder, str(count)]
    detections, peak = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-2:]
    return int(detections), float(peak)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--output", default="docs/results/detection_judging.json", help='"" writes nothing')
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return worker(pathlib.Path(arguments.worker[0]), int(arguments.worker[1]))
    if arguments.smoke:
        arguments.counts, arguments.output = [2, 4], ""
    few, many = arguments.counts
    with tempfile.TemporaryDirectory() as folder:
        for number in range(many):
            noise = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), "uint8")
            Image.fromarray(noise).save(pathlib.Path(folder, f"{number:05d}.png"))
        (_, less), (detections, more) = (peak(folder, count) for count in arguments.counts)
    taken, where = seconds_of_coco(many), provenance()
    rows = [["", "", "target"], [f"COCO's figures of {100 * many:,} detections, s", f"{taken:.2f}", "3.00"]]
    rows.append([f"peak, judging {few:,} images, MiB", f"{less:.0f}", ""])
    rows.append([f"peak, judging {many:,} images with {detections:,} detections, MiB", f"{more:.0f}", ""])
    rows.append(["the latter to the former", f"{more / less:.3f}", f"{TARGETS['growth']:.3f}"])
    text = f"{align(rows)}\n\n{as_sentence(where)}\n"
    print(text)
    if arguments.output:
        figures = {"seconds": taken, "peak_mebibytes": {few: less, many: more}, "provenance": where}
        write_json(arguments.output, figures)
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
