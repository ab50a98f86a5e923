"""How fast batches of images with boxes come: images a second of each recipe and of its parts, and beside a training.

    python benchmarks/detection_input.py            some minutes
    python benchmarks/detection_input.py --smoke    a smoke test

Images are jpg files of 640 x 480, smooth with a little noise, with eight boxes each. The processor's time for an image,
over all cores, is what other work on the machine does not change. The last lines are of FCOS ResNet-50 at 512 x 512:
images a second of its input alone, of its step alone, of both, and the share of its time in which training waits for
a batch; the input starves no step: at most 5 %.
"""

import argparse
import os
import pathlib
import tempfile
import time
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from detection_step import trainer
from PIL import Image

from cplus1_keras import data
from cplus1_keras.data import augment
from cplus1_keras.provenance import as_sentence, provenance, write_json

SMALL, LARGE = (240, 320), (800, 1344)
SHORT = augment.random_short_side(640, 800, longest=1333)
RECIPES = {
    "320 x 240, images held in memory": (augment.detection(SMALL), 2 * 2**30),
    "320 x 240, images read from files": (augment.detection(SMALL), 0),
    "short side 640 to 800, in 1344 x 800, from files": (augment.detection(LARGE, SHORT), 0),
    "of which reading": (augment.pad((480, 640)), 0),
    "of which reading and scaling": (augment.chain(SHORT, augment.pad(LARGE)), 0),
    "of which reading, scaling, crop and flip": (
        augment.chain(SHORT, augment.random_crop(LARGE), augment.random_flip(), augment.pad(LARGE)),
        0,
    ),
}


def written(folder, count):
    """A split of images in files."""
    generator, files, objects = np.random.default_rng(0), [], []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), "uint8")).resize((640, 480), Image.BICUBIC)
        noisy = np.asarray(coarse, "int16") + generator.integers(-6, 7, (480, 640, 1))
        files.append(pathlib.Path(folder, f"{number}.jpg"))
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(files[-1], quality=90)
        corners = generator.uniform(0, [540, 380], (8, 2))
        sides = generator.uniform(20, 100, (8, 2))
        objects.append([(*low, *(low + side), "thing") for low, side in zip(corners, sides, strict=True)])
    return data.Split("train", data.sources.boxes(files, objects), data.Protocol(["thing"]))


def speed(split, change, memory, batch, seconds):
    """Images a second, and milliseconds of the processor for an image."""
    batches = iter(data.training(split, batch, augment=change, memory=memory))
    for _ in range(4):  # what is prefetched meanwhile is not for nothing: buffers are as full at the end
        next(batches)
    start, busy, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - start), 1000 * (time.process_time() - busy) / count


def beside_training(split, arguments):
    """Images a second of input, step and both, and the share of time in which both wait for a batch."""
    change, batch = augment.detection((arguments.size, arguments.size), SHORT), arguments.batch
    given = {"size": arguments.size, "depth": arguments.depth, "batch": batch, "xla": 0}
    step = trainer("C+1, moving average", types.SimpleNamespace(**given))
    found = {"input alone": speed(split, change, 0, batch, arguments.seconds)[0]}
    batches = iter(data.training(split, batch, augment=change, memory=0))
    train = step.func
    for name, fresh in (("step alone", False), ("both", True)):
        example = next(batches)
        train(*example)
        start, waited, count = time.perf_counter(), 0.0, 0
        while not count or time.perf_counter() - start < arguments.seconds:
            before = time.perf_counter()
            example = next(batches) if fresh else example
            waited += time.perf_counter() - before
            train(*example)
            count += batch
        seconds = time.perf_counter() - start
        found[name] = count / seconds
    found["waiting"] = waited / seconds
    for name in ("input alone", "step alone", "both"):
        print(
            f"FCOS ResNet-{arguments.depth}, {arguments.size} x {arguments.size}: {name:14} {found[name]:8.2f} images/s"
        )
    print(f"waiting for input: {found['waiting']:.1%} of the time; target at most 5.0%")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each recipe is measured")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="of the images that the step trains on")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.seconds, arguments.size, arguments.depth = 0.2, 64, 18
    print(as_sentence(provenance()), f"TensorFlow {tf.__version__}, {os.cpu_count()} cores")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        split = written(folder, arguments.images)
        for name, (change, memory) in RECIPES.items():
            rate, busy = speed(split, change, memory, arguments.batch, arguments.seconds)
            figures[name] = {"images_per_second": rate, "cpu_milliseconds": busy}
            print(f"{name:50} {rate:8.1f} images/s {busy:8.1f} ms of CPU an image", flush=True)
        figures["training"] = beside_training(split, arguments)
    if arguments.json:
        write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
