"""What C2AM costs a detector of two stages with 1,203 classes and a background, beside softmax.

    python benchmarks/box_head.py            a minute
    python benchmarks/box_head.py --smoke    few regions, small nets, nothing kept

Two parts: the box head alone, 1,024 regions of 7 x 7 x 256 cells through its layers, losses and gradients; and a
training step of Faster R-CNN, ResNet-18 with two images of 256 x 256 and 512 regions of each, with SGD. Both variants
step in turn in one process and the median of the rounds counts. Targets: 1.15 and 1.03 times the time.
"""

import argparse
import functools
import os
import pathlib
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from detection_step import noise
from segmentation_step import times

from cplus1_keras import backbones, losses, models
from cplus1_keras.configs.detection import PRIOR
from cplus1_keras.configs.families import TAILS, tail_head
from cplus1_keras.layers.hooks import complete
from cplus1_keras.metrics import align
from cplus1_keras.models.two_stage import box_head
from cplus1_keras.optimizers import SGDWithL2
from cplus1_keras.provenance import as_sentence, provenance, write_json

CLASSES, VARIANTS, TARGETS = 1203, ("softmax", "c2am"), {"box head": 1.15, "training step": 1.03}


def head_step(method, arguments):
    """A function that runs a box head on regions, with the gradients of its weights and cells."""
    keras.utils.set_random_seed(0)
    head = functools.partial(tail_head, method=method, background=True, prior=PRIOR)
    net = box_head(49 * arguments.channels, arguments.width, CLASSES, head, False, "roi1")
    loss = losses.BackgroundCrossEntropyLoss(TAILS[method].margin(None))
    rng = np.random.default_rng(0)
    cells = tf.constant(rng.normal(size=(1, arguments.regions, 49 * arguments.channels)), tf.float32)
    # A quarter of the regions are objects, as they are sampled.
    labels = np.where(np.arange(arguments.regions) % 4, -1, rng.integers(0, CLASSES, arguments.regions))
    labels = tf.constant(labels[None], tf.int32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(cells)
            outputs = complete([net], net(cells, training=True), True)
            value = loss(labels, outputs) + tf.reduce_mean(tf.abs(outputs["box_deltas"]))
        return tape.gradient(value, [cells, *net.trainable_variables])

    return step


def train_step(method, arguments):
    """A function that makes one training step of a detector, on one batch of noise with boxes."""
    keras.utils.set_random_seed(0)
    backbone = functools.partial(backbones.dilated_resnet, 18, 32)
    head = functools.partial(tail_head, method=method, background=True, prior=PRIOR)
    sizes = {"channels": arguments.channels, "width": arguments.width, "samples": arguments.regions // 2}
    model = models.rcnn(CLASSES, backbone, head, **sizes)
    loss = (losses.ObjectnessLoss() + losses.BoxDeltaLoss()).of("rpn_")
    loss = loss + (losses.BackgroundCrossEntropyLoss(TAILS[method].margin(None)) + losses.BoxDeltaLoss()).of("roi1_")
    model.compile(SGDWithL2(0.01, momentum=0.9, l2=1e-4), loss, jit_compile=False)
    return functools.partial(model.train_on_batch, *noise(CLASSES, 2, arguments.size))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", default="docs/results/box_head.json", help='"" writes nothing')
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.regions, arguments.channels, arguments.width, arguments.size = 32, 16, 32, 64
        arguments.rounds, arguments.output = 2, ""
    seconds, rows = {}, [["median of the rounds, seconds", *VARIANTS, "ratio", "target"]]
    for part, make in {"box head": head_step, "training step": train_step}.items():
        seconds[part] = times({method: make(method, arguments) for method in VARIANTS}, arguments.rounds)
        medians = [statistics.median(seconds[part][method]) for method in VARIANTS]
        cells = (*(f"{value:.3f}" for value in medians), f"{medians[1] / medians[0]:.3f}", f"{TARGETS[part]:.2f}")
        rows.append([part, *cells])
    given, where = {name: getattr(arguments, name) for name in ("regions", "channels", "width", "size")}, provenance()
    told = f"{arguments.regions:,} regions, {CLASSES + 1:,} classes, {arguments.channels} channels, two layers of "
    told += f"{arguments.width:,}; images of {arguments.size} x {arguments.size}. {arguments.rounds} rounds."
    text = f"{align(rows)}\n\n{told} {as_sentence(where)}\n"
    print("\n" + text)
    if arguments.output:
        write_json(arguments.output, {**given, "seconds": seconds, "provenance": where})
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
