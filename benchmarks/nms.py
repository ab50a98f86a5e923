"""Decoding and suppression of 1,000 points with 80 and 1,203 classes: ours, keras-cv's and TensorFlow's own.

    python benchmarks/nms.py
    python benchmarks/nms.py --smoke    one round

All take the same boxes and confidences: crowded ones, most pairs of a point and a class above the threshold, and sparse
ones, as a trained detector gives them. Ours also decodes and chooses the 1,000 most confident pairs first, as FCOS
does. Rounds alternate; the figure is the median. Where 100 detections are kept, all keep the same ones. Target: not
slower than the faster one.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_cv
import numpy as np
import tensorflow as tf

from cplus1_keras.metrics import align
from cplus1_keras.numerics.boxes import decode
from cplus1_keras.provenance import as_sentence, provenance
from cplus1_keras.serving.boxes import clip, strongest, suppress

MOST, IOU, THRESHOLD, SIZE = 100, 0.6, 0.05, 800.0


def scene(classes, power, seed=0, points=1000):
    """Points (1, L, 3), offsets (1, L, 4) and confidences (1, L, C)."""
    rng = np.random.default_rng(seed)
    places = np.concatenate([rng.uniform(0, SIZE, (1, points, 2)), np.full((1, points, 1), 8.0)], axis=-1)
    # No two are equal, also in float32, so that all ways keep the same ones.
    confidence = ((rng.permutation(points * classes) + 1.0) / (points * classes)).reshape(1, points, classes) ** power
    return (tf.constant(x, tf.float32) for x in (places, rng.uniform(8, 100, (1, points, 4)), confidence))


def ours(points, offsets, confidence):
    """Classes and confidences of what is kept."""
    confidence = tf.where(confidence > THRESHOLD, confidence, 0.0)
    classes, size = confidence.shape[2], tf.constant([SIZE, SIZE])
    places, values = strongest(confidence, points[0, :, 2], 1000)
    own = places % classes
    point = places // classes
    rows = (tf.gather(each, point, batch_dims=1) for each in (points, offsets))
    boxes = clip(decode(*rows), size)
    rows, _ = suppress(boxes, values, own, IOU, MOST, classes, size)
    return tf.gather(own, rows, batch_dims=1), tf.gather(values, rows, batch_dims=1)


def combined(points, offsets, confidence):
    """TensorFlow's own, on decoded boxes."""
    boxes = clip(decode(points, offsets), tf.constant([SIZE, SIZE]))[:, :, None]
    found = tf.image.combined_non_max_suppression(boxes, confidence, MOST, MOST, IOU, THRESHOLD, clip_boxes=False)
    return tf.cast(found.nmsed_classes, tf.int32), found.nmsed_scores


def theirs(points, offsets, confidence):
    """keras-cv's."""
    layer = keras_cv.layers.MultiClassNonMaxSuppression("xyxy", False, IOU, THRESHOLD, MOST, MOST)
    found = layer(clip(decode(points, offsets), tf.constant([SIZE, SIZE])), confidence)
    return tf.cast(found["classes"], tf.int32), found["confidence"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="one round")
    arguments = parser.parse_args()
    rounds = 1 if arguments.smoke else arguments.rounds
    ways = {"ours": ours, "TensorFlow's": combined, "keras-cv's": theirs}
    rows = [["1,000 points, milliseconds", *ways, "ours / the faster one", "the same detections"]]
    for classes in (80, 1203):
        for kind, power in {"crowded": 1, "sparse": 30}.items():
            tensors = [*scene(classes, power)]
            graphs = {name: tf.function(way) for name, way in ways.items()}
            first = {name: [part.numpy() for part in graph(*tensors)] for name, graph in graphs.items()}
            same = all(
                np.array_equal(a, b) for found in first.values() for a, b in zip(found, first["ours"], strict=True)
            )
            seconds = {name: [] for name in ways}
            for _ in range(rounds):
                for name, graph in graphs.items():
                    start = time.perf_counter()
                    graph(*tensors)[0].numpy()
                    seconds[name].append(time.perf_counter() - start)
            middle = {name: 1000 * np.median(values) for name, values in seconds.items()}
            ratio = middle["ours"] / min(middle["TensorFlow's"], middle["keras-cv's"])
            told = (f"{value:.1f}" for value in middle.values())
            rows.append([f"{classes:,} classes, {kind}", *told, f"{ratio:.2f}", "yes" if same else "no"])
    rows.append(["target", "", "", "", "1.00", ""])
    print(align(rows))
    print(f"\nMedian of {rounds} rounds. {as_sentence(provenance())}")


if __name__ == "__main__":
    main()
