"""What only a GPU tells, with Keras on JAX and without TensorFlow: `sh benchmarks/gpu.sh`.

    KERAS_BACKEND=jax python benchmarks/gpu.py --output FOLDER           under 25 minutes on one big GPU
    KERAS_BACKEND=jax python benchmarks/gpu.py --smoke --output FOLDER   tiny sizes, to see that it works on a CPU

Three parts, each with its share of --minutes; what does not fit is left out and named. The cost of each loss and head
beside Dense + cross-entropy, forward and backward. Training steps of ResNet-50 at 224 x 224 with each family, images a
second beside plain softmax. Table 3 of the anchor-based loss at its size, on CIFAR-10 from --cifar FILE, an npz with
x_train, y_train, x_test, y_test as Keras has it; without one it is left out. Writes gpu.json and gpu.md.

So far it ran on a CPU alone, with --smoke: there was no GPU at hand, and nothing here is a figure of one.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from loss_cases import CASES

from cplus1_keras import backbones, layers, models
from cplus1_keras.configs.families import families
from cplus1_keras.metrics import align

SHARES = {"losses": 0.25, "steps": 0.45, "table": 0.3}
METHODS = ("softmax", "c_ncm", "e_ncm")
DROPOUT = (0.0, 0.1, 0.25, 0.5)


def shrink(case):
    """A case that a CPU does in no time."""
    return dataclasses.replace(case, batch=(4,) * len(case.batch), features=8)


def compile_step(case, variant=None):
    """A compiled forward and backward pass of a variant, or of the baseline, as a function without arguments."""
    if variant is None:
        parts = [keras.layers.Dense(case.classes, use_bias=False)]
    else:
        parts, loss = variant.layers(case.classes), variant.loss()
    keras.Sequential(parts)(keras.KerasTensor((*case.batch, case.features)))
    weights = list({id(w): w for part in parts for w in part.trainable_weights}.values())
    others = list({id(w): w for part in parts for w in part.non_trainable_variables}.values())
    random = np.random.default_rng(0)
    shape = case.labels
    background = variant is not None and ("background" in loss.name or "centers" in repr(parts).lower())
    labels = random.integers(0, case.classes - background, shape)
    if variant is not None:
        labels = np.where(random.random(shape) < variant.negatives, -1, labels)
    features, labels = (
        jax.numpy.asarray(random.normal(size=(*case.batch, case.features)), "float32"),
        labels.astype("int32"),
    )

    def value(features, values, labels):
        mapping = [*zip(weights, values, strict=True), *((w, w.value) for w in others)]
        with keras.StatelessScope(state_mapping=mapping):
            outputs = features
            for part in parts:
                outputs = part(outputs)
            if variant is None:
                logits = keras.ops.mean(outputs, axis=(1, 2)) if case.maps else outputs
                losses = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
                return keras.ops.mean(losses)
            tensors = layers.complete(parts, {**outputs, "labels": labels}, training=True)
            return loss(tensors, tensors)

    compiled = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))
    given = features, [w.value for w in weights], jax.numpy.asarray(labels)
    return lambda: jax.block_until_ready(compiled(*given))


def time_once(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cost_of_losses(until, rounds, smoke):
    """Median milliseconds of each variant, and its median ratio to the baseline right before it."""
    rows = []
    for case in CASES.values():
        case, baseline = shrink(case) if smoke else case, None
        for name, variant in case.variants.items():
            if time.monotonic() > until:
                return rows
            if baseline is None:
                baseline = compile_step(case)
                baseline()
            run = compile_step(case, variant)
            run()
            pairs = [(time_once(baseline), time_once(run)) for _ in range(rounds)]
            ratio = statistics.median(own / before for before, own in pairs)
            rows.append([case.title, name, 1e3 * statistics.median(own for _, own in pairs), ratio])
    return rows


def training_steps(until, steps, smoke):
    """Images a second of ResNet-50 with each family, and the ratio to plain softmax."""
    number, size, batch = (10, 32, 2) if smoke else (1000, 224, 128)
    make = backbones.cifar_resnet if smoke else functools.partial(backbones.resnet, 50)
    random, rows, first = np.random.default_rng(0), [], None
    images = random.uniform(0, 255, (batch, size, size, 3)).astype("float32")
    for name, family in families(number, max(number, 2048)).items():
        if time.monotonic() > until or (smoke and len(rows) == 3):
            break
        keras.utils.set_random_seed(0)
        features = {} if family.maps or name not in ("e_ncm", "c_ncm") else {"features": max(number, 2048)}
        net = functools.partial(make, input_shape=(size, size, 3), pool=not family.maps, **features)
        model = models.classifier(number, net, family.head)
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), family.loss)
        labels = np.where(
            random.random(batch) < 0.3 * family.loss.needs_negatives, -1, random.integers(0, number, batch)
        )
        for _ in range(2):
            model.train_on_batch(images, labels)
        step = functools.partial(model.train_on_batch, images, labels)
        took = statistics.median(time_once(lambda run=step: float(run())) for _ in range(steps))
        first = first or took
        rows.append([name, batch / took, first / took])
        keras.backend.clear_session()
    return rows


def small_table(until, file, smoke):
    """Test accuracy of Table 3's rows on CIFAR-10, seed by seed, as long as the next one should fit."""
    if smoke:
        random = np.random.default_rng(0)
        arrays = {f"x_{part}": random.integers(0, 255, (64, 32, 32, 3)) for part in ("train", "test")}
        arrays |= {f"y_{part}": random.integers(0, 10, 64) for part in ("train", "test")}
    else:
        with np.load(file) as archive:
            arrays = dict(archive)
    rows, longest = [], 0.0
    epochs, batch, width = (1, 32, 0.1) if smoke else (90, 256, 1.0)
    for seed in range(1 if smoke else 5):
        for dropout in DROPOUT[:1] if smoke else DROPOUT:
            for method in METHODS:
                start = time.monotonic()
                if start + longest > until:
                    return rows
                accuracy = train_once(arrays, method, dropout, seed, epochs, batch, width)
                longest = max(longest, time.monotonic() - start)
                rows.append([method, dropout, seed, accuracy, time.monotonic() - start])
                print(*rows[-1], flush=True)
    return rows


def train_once(arrays, method, dropout, seed, epochs, batch, width):
    """The accuracy on the test images of one training."""
    keras.utils.set_random_seed(seed)
    family = families(10, 256)[method]
    net = functools.partial(backbones.plain_cnn, "cifar10", dropout=dropout, width=width)
    model = models.classifier(10, net, family.head)
    steps = epochs * (len(arrays["x_train"]) // batch)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([steps // 2, 3 * steps // 4], [0.1, 0.01, 0.001])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-4), family.loss)
    images, labels = arrays["x_train"].astype("float32"), arrays["y_train"].reshape(-1).astype("int32")
    model.fit(images, labels, batch_size=batch, epochs=epochs, verbose=0)
    logits = model.predict(arrays["x_test"].astype("float32"), batch_size=batch, verbose=0)["logits"]
    keras.backend.clear_session()
    return float(np.mean(np.argmax(logits, axis=-1) == arrays["y_test"].reshape(-1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=24)
    parser.add_argument("--cifar", type=pathlib.Path, help="npz of CIFAR-10")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder")
    given = parser.parse_args()
    device = str(jax.devices()[0])
    tensorflow = importlib.util.find_spec("tensorflow") is not None
    told = {"device": device, "keras": keras.__version__, "jax": jax.__version__, "tensorflow_installed": tensorflow}
    end = time.monotonic()
    parts = {
        "losses": lambda until: cost_of_losses(until, 3 if given.smoke else 15, given.smoke),
        "steps": lambda until: training_steps(until, 2 if given.smoke else 10, given.smoke),
        "table": lambda until: small_table(until, given.cifar, given.smoke) if given.cifar or given.smoke else [],
    }
    heads = {
        "losses": ["case", "variant", "ms", "ratio"],
        "steps": ["family", "images/s", "ratio to softmax"],
        "table": ["method", "dropout", "seed", "accuracy", "seconds"],
    }
    given.output.mkdir(parents=True, exist_ok=True)
    texts = [f"{device}, Keras {keras.__version__}, JAX {jax.__version__}."]
    for name, run in parts.items():
        end += 60 * given.minutes * SHARES[name]
        told[name] = run(end)
        rows = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in told[name]]
        texts.append(align([heads[name], *rows]) if rows else f"Nothing of {name} fitted, or no data were given.")
        (given.output / "gpu.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        (given.output / "gpu.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    print("\n\n".join(texts))


if __name__ == "__main__":
    main()
