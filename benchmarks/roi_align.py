"""RoIAlign of 512 regions of an image, 256 channels, 7 x 7 cells, four levels: ours, crop and resize, keras-cv's.

    python benchmarks/roi_align.py            an image of 800 x 800: a minute
    python benchmarks/roi_align.py --smoke    8 channels, nothing kept

TensorFlow's crop and resize samples with the corners of its grid at the corners of a box. With the box moved by half a
cell and shrunk by half a step, maps with an edge of one cell more, and the mean of 2 x 2 samples it is RoIAlign; each
level is cut on its own, and the rows are put back in order. The ways take turns and the least of the rounds counts,
forward and with the gradient of the maps. Target: not slower than the faster one.
"""

import argparse
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from keras_cv.src.layers.object_detection.roi_align import _ROIAligner
from segmentation_step import times

from cplus1_keras.layers import RoIAlign
from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance, write_json

STRIDES, SIZE, SAMPLES = (4, 8, 16, 32), 7, 14


def scene(side, count, channels, seed=0):
    """Regions (1, R, 4) of all sizes within an image, and the maps of its levels."""
    rng = np.random.default_rng(seed)
    sides = side * np.exp(rng.uniform(np.log(0.02), 0, (1, count, 2)))
    low = rng.uniform(size=sides.shape) * (side - sides)
    maps = [rng.normal(size=(1, side // stride, side // stride, channels)) for stride in STRIDES]
    return [tf.constant(x, tf.float32) for x in (np.concatenate([low, low + sides], axis=-1), *maps)]


def ours():
    layer = RoIAlign(SIZE, STRIDES)
    return lambda regions, *maps: layer([regions, *maps])


def crop_and_resize():
    def cells(regions, *maps):
        boxes = regions[0]
        low, side = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        level = tf.floor(tf.math.log(tf.sqrt(side[:, 0] * side[:, 1]) / 224) / np.log(2.0) + 1e-6) + 2
        level = tf.cast(tf.clip_by_value(level, 0, len(maps) - 1), tf.int32)
        rows, found = [], []
        for k, (stride, x) in enumerate(zip(STRIDES, maps, strict=True)):
            own = tf.where(level == k)[:, 0]
            x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
            step = tf.gather(side, own) / stride / SAMPLES
            first = tf.gather(low, own) / stride - 0.5 + step / 2 + 1  # one for the edge
            corners = tf.concat([first, first + (SAMPLES - 1) * step], axis=-1)
            last = tf.cast(tf.shape(x)[1:3] - 1, tf.float32)
            corners = tf.gather(corners, [1, 0, 3, 2], axis=-1) / tf.tile(last, [2])
            cut = tf.image.crop_and_resize(x, corners, tf.zeros_like(own, tf.int32), (SAMPLES, SAMPLES))
            found.append(tf.nn.avg_pool2d(cut, 2, 2, "VALID"))
            rows.append(tf.cast(own, tf.int32))
        return tf.dynamic_stitch(rows, found)[None]

    return cells


def keras_cvs():
    layer = _ROIAligner("xyxy", SIZE, name="aligner")
    return lambda regions, *maps: layer({f"P{k}": x for k, x in enumerate(maps, start=2)}, regions)


def gradient(way):
    """Forward and backward: the maps' gradient."""

    def run(upstream, regions, *maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            value = tf.reduce_sum(way(regions, *maps) * upstream)
        return tape.gradient(value, maps)

    return run


def failure(way, tensors):
    """What keeps a way from running, or None."""
    try:
        tf.function(way)(*tensors)
    except (AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
        return type(error).__name__


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=800)
    parser.add_argument("--regions", type=int, default=512)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", default="docs/results/roi_align.json", help='"" writes nothing')
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.channels, arguments.rounds, arguments.output = 8, 2, ""
    tensors = scene(arguments.side, arguments.regions, arguments.channels)
    ways = {"ours": ours(), "crop and resize": crop_and_resize(), "keras-cv's": keras_cvs()}
    error = failure(ways["keras-cv's"], tensors)
    if error:
        del ways["keras-cv's"]
    cells = ways["ours"](*(tf.cast(x, tf.float64) for x in tensors))
    apart = {
        name: float(tf.reduce_max(tf.abs(cells - tf.cast(way(*tensors), tf.float64)))) for name, way in ways.items()
    }
    upstream = tf.random.stateless_normal(cells.shape, (0, 0))
    steps = {
        "forward": {name: functools.partial(tf.function(way), *tensors) for name, way in ways.items()},
        "forward and backward": {
            name: functools.partial(tf.function(gradient(way)), upstream, *tensors) for name, way in ways.items()
        },
    }
    seconds = {part: times(own, arguments.rounds) for part, own in steps.items()}
    told = f"{arguments.regions} regions, {arguments.channels} channels, {SIZE} x {SIZE}, four levels"
    rows = [[f"{told}, milliseconds", *ways, "ours / the faster one"]]
    for part, own in seconds.items():
        least = {name: 1000 * min(values) for name, values in own.items()}
        other = min(value for name, value in least.items() if name != "ours")
        rows.append([part, *(f"{value:.1f}" for value in least.values()), f"{least['ours'] / other:.2f}"])
    rows.append(["target", *("" for _ in ways), "1.00"])
    where, fails = provenance(), f" keras-cv's fails: {error}" if error else ""
    scene_told = f"Least of {arguments.rounds} rounds, an image of {arguments.side} x {arguments.side}."
    exact = " and ".join(f"{name} {value:.0e}" for name, value in apart.items())
    exact = f"The largest distance to ours in float64: {exact}.{fails}"
    text = f"{align(rows)}\n\n{scene_told} {exact} {as_sentence(where)}\n"
    print("\n" + text)
    if arguments.output:
        given = {name: getattr(arguments, name) for name in ("side", "regions", "channels")}
        found = {"seconds": seconds, "apart": apart, "keras_cv": error, "provenance": where}
        write_json(arguments.output, {**given, **found})
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
