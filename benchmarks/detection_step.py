"""What C+1 costs a detector: a training step of FCOS with sigmoid focal loss beside C+1 with each of three centres.

    python benchmarks/detection_step.py            ResNet-50, 512 x 512, batch 2: ten minutes
    python benchmarks/detection_step.py --smoke    ResNet-18, 64 x 64, nothing kept, to see that it works

The models step in turn in one process, and the median of the steps counts. Peak memory is that of a process of its own
for each. Targets: 1.05 times the time, 5 % more memory. Without XLA, which takes minutes to compile such a net for a
CPU and makes its steps no faster there; `--xla` is with it.
"""

import argparse
import functools
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from segmentation_step import measure, peak, table, times

from cplus1_keras import backbones, models
from cplus1_keras.configs import detection as parts
from cplus1_keras.configs.families import CENTERS
from cplus1_keras.labels import IGNORE
from cplus1_keras.optimizers import SGDWithL2
from cplus1_keras.provenance import as_sentence, provenance, write_json

CLASSES, BOXES = 80, 20
VARIANTS = {
    "sigmoid focal": {"method": "sigmoid"},
    **{f"C+1, {name.replace('_', ' ')}": {"method": "cplus1", "centers": name} for name in CENTERS},
}


def noise(classes, batch, side):
    """A batch of noise with boxes of all sizes, a tenth of them ignored, and some rows of padding."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch, side, side, 3)).astype("float32")
    # Sides from a fiftieth of the image to all of it.
    sides = side * np.exp(generator.uniform(np.log(0.02), 0, (batch, BOXES, 2)))
    low = generator.uniform(size=sides.shape) * (side - sides)
    boxes = np.concatenate([low, low + sides], axis=-1).astype("float32")
    labels = generator.integers(0, classes, boxes.shape[:2])
    labels[:, ::10] = IGNORE
    boxes[:, -3:], labels[:, -3:] = 0, IGNORE
    return images, {"boxes": boxes, "box_labels": labels}


def trainer(variant, arguments):
    """A function that makes one training step of a variant, on one batch of noise with boxes, and waits for it."""
    keras.utils.set_random_seed(0)
    head = functools.partial(parts.point_head, **VARIANTS[variant])
    model = models.fcos(CLASSES, functools.partial(backbones.dilated_resnet, arguments.depth, 32), head)
    optimizer, loss = SGDWithL2(0.01, momentum=0.9, l2=1e-4), parts.point_loss(VARIANTS[variant]["method"])
    model.compile(optimizer, loss, jit_compile=bool(arguments.xla))
    return functools.partial(model.train_on_batch, *noise(CLASSES, arguments.batch, arguments.size))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--xla", type=int, nargs="?", const=1, default=0)
    parser.add_argument("--output", default="docs/results/detection_step.json", help='"" writes nothing')
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--measure", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.depth, arguments.rounds, arguments.output = 64, 18, 2, ""
    if arguments.measure:
        measure(trainer(arguments.measure, arguments))
        return
    given = {name: getattr(arguments, name) for name in ("size", "batch", "depth", "xla")}
    memory = {variant: peak(__file__, variant, given) for variant in VARIANTS}
    seconds, where = times({v: trainer(v, arguments) for v in VARIANTS}, arguments.rounds), provenance()
    told = f"FCOS ResNet-{arguments.depth}, {arguments.size} x {arguments.size}, batch {arguments.batch}"
    told += ", with XLA" if arguments.xla else ""
    text = f"{table(seconds, memory)}\n\n{told}, {CLASSES} classes. {as_sentence(where)}\n"
    print("\n" + text)
    if arguments.output:
        write_json(arguments.output, {**given, "seconds": seconds, "peak_bytes": memory, "provenance": where})
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
