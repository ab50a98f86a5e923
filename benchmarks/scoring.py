"""Whether bulk scoring keeps a model busy: files in and parquet out, beside the bare model fed from memory.

    python benchmarks/scoring.py                       a ResNet-50 at 224 x 224; encoded images of 256 x 256
    python benchmarks/scoring.py --images FOLDER       images of your own
    python benchmarks/scoring.py --smoke               a small net and few images, to see that it works

The bare model is the SavedModel's Keras model as a TensorFlow function of batches that lie in memory, decoded and
resized. Both are loaded and warm before the clock runs; rounds are taken in turn. Target: 95 % of its throughput.
"""

import argparse
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import heads, layers, metrics, serving
from cplus1_keras.bulk.jobs import open_job
from cplus1_keras.bulk.scoring import Worker
from cplus1_keras.images import decode, preprocess
from cplus1_keras.provenance import as_sentence, provenance, write_json

TARGET = 0.95


def build(size, small):
    """A predictor with random weights: speed does not depend on them."""
    keras.utils.set_random_seed(0)
    images = keras.Input((size, size, 3))
    if small:
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, strides=2)(images / 255))
    else:
        x = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_tensor=images).output
    model = keras.Model(images, heads.LinearHead(10)(x))
    return serving.Predictor(model, layers.Reject(10, threshold=0.0))


def draw_images(folder, count, side=256):
    """Smooth noise as JPEG files, about as large as photographs of that size."""
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = tf.image.resize(generator.uniform(0, 255, (side // 4, side // 4, 3)), (side, side), "bicubic")
        encoded = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8), quality=90)
        tf.io.write_file(str(folder / f"{number:06d}.jpg"), encoded)


def time_both(predictor, saved_model, images, folder, batch, rounds):
    """Seconds of each round, {name: [...]}, and the number of images."""
    worker, seconds = None, {"bare model": [], "score": []}
    run = tf.function(lambda batch: predictor.network(batch, training=False), autograph=False)
    names = sorted(str(path) for path in images.iterdir())
    shape = predictor.image_shape
    read = [preprocess(decode(tf.io.read_file(name), 3), shape[:2], 3).numpy() for name in names]
    batches = [tf.constant(np.stack(read[i : i + batch])) for i in range(0, len(read), batch)]
    for number in range(rounds + 1):  # the first compiles and is out
        start = time.perf_counter()
        for own in batches:
            run(own)["logits"].numpy()
        middle = time.perf_counter()
        job = open_job(saved_model, images, folder / str(number), part=len(names))
        worker = worker or Worker(job, batch)
        worker.job = job
        begin = time.perf_counter()
        worker.score(0)
        if number:
            seconds["bare model"].append(middle - start)
            seconds["score"].append(time.perf_counter() - begin)
    return seconds, len(names)


def table(seconds, count):
    """Markdown: images a second by the median of the rounds, and the ratio to the bare model."""
    rates = {name: count / float(np.median(values)) for name, values in seconds.items()}
    rows = [["", "images/s", "of the bare model"]]
    rows += [[name, f"{rate:.1f}", f"{rate / rates['bare model']:.3f}"] for name, rate in rates.items()]
    return metrics.align(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, help="folder, without folders in it")
    parser.add_argument("--count", type=int, default=640, help="images to draw where none are given")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="docs/results/scoring.json")
    parser.add_argument("--smoke", action="store_true", help="a small net, 64 images, 1 round, nothing kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if given.smoke:
            given.count, given.rounds, given.output = 64, 1, folder / "smoke.json"
        images = given.images or folder / "images"
        if given.images is None:
            images.mkdir()
            draw_images(images, given.count)
        predictor = build(64 if given.smoke else 224, given.smoke)
        predictor.export(folder / "model" / "1")
        seconds, count = time_both(predictor, folder / "model" / "1", images, folder / "out", given.batch, given.rounds)
        output, origin = pathlib.Path(given.output), provenance()
        text = f"{table(seconds, count)}\n\nTarget: {TARGET}. {as_sentence(origin)}\n"
        write_json(output, {"images": count, "batch": given.batch, "seconds": seconds, **origin})
        output.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
