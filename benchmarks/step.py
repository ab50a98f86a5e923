"""What the house costs: a training step of `OpenSetModel` beside stock Keras's, and `train.py`'s wall time.

    python benchmarks/step.py                      ratio of a step, small net, rounds taken in turn
    python benchmarks/step.py --other CHECKOUT     also `python train.py` of this checkout and of another, in turn

Targets: a step at most 1.03 times stock Keras, a run at most 1.03 times the other checkout's.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from cplus1_keras import OpenSetModel, heads, losses
from cplus1_keras.provenance import as_sentence, provenance, write_json

ROOT = pathlib.Path(__file__).parent.parent


def nets(width=64, classes=10, size=28):
    """The two models, compiled, with the same weights."""
    keras.utils.set_random_seed(0)
    images = keras.Input((size, size, 1))
    x = keras.layers.Rescaling(1 / 255)(images)
    for stride in (1, 2, 2):
        x = keras.layers.Conv2D(width, 3, stride, "same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = heads.LinearHead(classes)
    ours = OpenSetModel(images, head(x))
    ours.compile(keras.optimizers.Adam(1e-3), losses.CrossEntropyLoss())
    stock = keras.Model(images, keras.layers.Dense(classes, use_bias=False)(x))
    stock.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return {"OpenSetModel": ours, "stock Keras": stock}


def step_seconds(rounds, steps=50, batch=64):
    """Seconds of `steps` training steps, {model: [...]}, in turn; the first round compiles and is out."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (batch, 28, 28, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensors((images, generator.integers(0, 10, batch).astype("int32"))).repeat()
    models, seconds = nets(), {}
    for number in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
            if number:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
    return seconds


def run_seconds(checkouts, rounds):
    """Wall seconds of `python train.py`, {checkout: [...]}, in turn."""
    seconds = {name: [] for name in checkouts}
    for _ in range(rounds):
        for name, folder in checkouts.items():
            environment = {**os.environ, "PYTHONPATH": str(folder)}
            with tempfile.TemporaryDirectory() as runs:
                start = time.perf_counter()
                command = [sys.executable, "train.py", "--workdir", runs]
                subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def table(seconds):
    """Markdown: the least, which other work on the machine disturbed least, and the ratio of the first to each."""
    first = min(next(iter(seconds.values())))
    rows = ["| | least s | all s | ratio of the first to it |", "|---|---|---|---|"]
    for name, values in seconds.items():
        listed = ", ".join(f"{value:.2f}" for value in values)
        rows.append(f"| {name} | {min(values):.2f} | {listed} | {first / min(values):.3f} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--other", type=pathlib.Path, help="another checkout, to compare the time of train.py with")
    parser.add_argument("--runs", type=int, default=3, help="rounds of train.py")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/results/step.json")
    arguments = parser.parse_args()
    where = provenance()
    found = {"step": step_seconds(arguments.rounds)}
    text = ["50 training steps of a small convolutional net, batch 64:", "", table(found["step"])]
    if arguments.other:
        found["train.py"] = run_seconds({"this checkout": ROOT, "the other": arguments.other.resolve()}, arguments.runs)
        text += ["", "`python train.py`, the whole command:", "", table(found["train.py"])]
    text = "\n".join([*text, "", as_sentence(where)])
    write_json(arguments.output, {**found, "provenance": where})
    arguments.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
