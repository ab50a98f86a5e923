"""What C+1 costs: a full training step of DeepLabV3+, cross-entropy beside C+1 at the features' resolution.

    python benchmarks/segmentation_step.py                       ResNet-50, 512 x 512, output stride 8, batch 2: minutes
    python benchmarks/segmentation_step.py --size 64 --depth 18  a smoke test

Both models step in turn in one process, and the median of the steps counts, since other work on the machine moves
single steps by up to a fifth. Peak memory is that of a process of its own for each. Targets: 1.05 times the time, 5 %
more memory.
"""

import argparse
import functools
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from cplus1_keras.configs import segmentation as parts
from cplus1_keras.labels import IGNORE
from cplus1_keras.metrics import align
from cplus1_keras.optimizers import SGDWithL2
from cplus1_keras.provenance import as_sentence, provenance, write_json

CLASSES = 20
VARIANTS = {
    "cross-entropy": (None, parts.pixel_loss(auxiliary=True)),
    "C+1": ("moving_average", parts.pixel_loss(0.1, 1e-4, auxiliary=True)),
}
TARGETS = {"time": 1.05, "memory": 1.05}


def trainer(variant, arguments):
    """A function that makes one training step of a variant, on one batch of noise, and waits for it."""
    keras.utils.set_random_seed(0)
    centers, loss = VARIANTS[variant]
    model = parts.deeplab(CLASSES, centers, arguments.depth, arguments.stride)
    model.compile(SGDWithL2(0.01, momentum=0.9, l2=5e-4), loss)
    generator, shape = np.random.default_rng(0), (arguments.batch, arguments.size, arguments.size)
    images = generator.uniform(0, 255, (*shape, 3)).astype("float32")
    # Patches, a third of them background, one class in twenty ignored.
    patches = generator.integers(-CLASSES // 2, CLASSES, (arguments.batch, *(-(-n // 16) for n in shape[1:])))
    labels = np.where(patches < 0, -1, patches).repeat(16, 1).repeat(16, 2)[:, : shape[1], : shape[2]]
    labels = np.where(labels == CLASSES - 1, IGNORE, labels).astype("int32")
    return functools.partial(model.train_on_batch, images, labels)


def times(steps, rounds):
    """Seconds of each step, {variant: [...]}, the variants taking turns; the first steps, which compile, left out."""
    for step in steps.values():
        step()
    seconds = {variant: [] for variant in steps}
    for _ in range(rounds):
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[variant].append(time.perf_counter() - start)
            print(f"{variant}: {seconds[variant][-1]:.3f} s", flush=True)
    return seconds


def peak(script, variant, given):
    """Peak resident memory in bytes of a process that makes two steps of a variant; `given` are the script's flags."""
    flags = [f"--{name}={value}" for name, value in given.items()]
    command = [sys.executable, script, "--measure", variant, *flags]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def measure(step):
    """Prints the peak resident memory of this process in bytes, after two steps."""
    step()
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # Linux counts in KiB


def table(seconds, memory):
    """Markdown: medians, peaks, and the ratios to the first variant."""
    medians = {variant: statistics.median(values) for variant, values in seconds.items()}
    first = next(iter(medians))
    rows = [["loss", "median s", "all s", "ratio", "peak GiB", "ratio"]]
    for variant, median in medians.items():
        listed = ", ".join(f"{value:.2f}" for value in seconds[variant])
        share, gigabytes = memory[variant] / memory[first], f"{memory[variant] / 2**30:.2f}"
        rows.append([variant, f"{median:.2f}", listed, f"{median / medians[first]:.3f}", gigabytes, f"{share:.3f}"])
    rows.append(["target", "", "", f"{TARGETS['time']:.2f}", "", f"{TARGETS['memory']:.2f}"])
    return align(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="docs/results/segmentation_step.json", help='"" writes nothing')
    parser.add_argument("--measure", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(trainer(arguments.measure, arguments))
        return
    given = {name: getattr(arguments, name) for name in ("size", "batch", "depth", "stride")}
    memory = {variant: peak(__file__, variant, given) for variant in VARIANTS}
    seconds = times({variant: trainer(variant, arguments) for variant in VARIANTS}, arguments.rounds)
    size, where = f"{arguments.size} x {arguments.size}", provenance()
    told = f"DeepLabV3+ ResNet-{arguments.depth}, {size}, output stride {arguments.stride}, batch {arguments.batch}"
    text = f"{table(seconds, memory)}\n\n{told}. {as_sentence(where)}\n"
    print("\n" + text)
    if arguments.output:
        write_json(arguments.output, {**given, "seconds": seconds, "peak_bytes": memory, "provenance": where})
        pathlib.Path(arguments.output).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
