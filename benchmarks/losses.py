"""Cost of every family of losses beside Dense + sparse softmax cross-entropy: `python benchmarks/losses.py`.

Forward and backward pass of head and loss in one TensorFlow graph, with the gradients of the features and of every
weight. Each round runs every variant of a case once, right after a run of the baseline, which gives one ratio; the
table holds the median of the rounds with the quartiles, and the ratio of processor time, which other programs on the
machine disturb less. Peak memory is measured in a process of its own, above what it held before weights and features
existed. The columns of XLA are the same comparison with both sides compiled, as `fit` does by default.

Writes docs/results/losses_speed.json, losses_speed.md (a line per case) and losses_speed_all.md (a line per variant).
"""

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from loss_cases import CASES

from cplus1_keras.layers.hooks import complete
from cplus1_keras.provenance import as_sentence, provenance, write_json

MEGABYTE = 1e6
WARM_UP = 2


def baseline_step(case):
    """Dense without a bias and stock cross-entropy; on maps followed by the spatial mean."""
    dense = keras.layers.Dense(case.classes, use_bias=False)
    dense.build((None, case.features))

    def step(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = dense(features)
            logits = keras.ops.mean(logits, axis=(1, 2)) if case.maps else logits
            values = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            value = keras.ops.mean(values)
        return value, tape.gradient(value, [features, dense.kernel.value])

    return step


def variant_step(case, variant):
    """What `OpenSetModel` does in training: layers, their hooks, loss."""
    layers, loss = variant.layers(case.classes), variant.loss()
    keras.Sequential(layers)(keras.KerasTensor((*case.batch, case.features)))
    weights = [weight.value for layer in layers for weight in layer.trainable_weights]
    weights = list({id(weight): weight for weight in weights}.values())

    def step(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            outputs = features
            for layer in layers:
                outputs = layer(outputs)
            tensors = complete(layers, {**outputs, "labels": labels}, training=True)
            value = loss(tensors, tensors)
        return value, tape.gradient(value, [features, *weights])

    return step


def prepared(case, name, jit=False):
    """A step as a function without arguments that runs it once, for the variant of this name or the baseline."""
    variant = case.variants.get(name)
    function = tf.function(baseline_step(case) if variant is None else variant_step(case, variant), jit_compile=jit)
    features = tf.random.stateless_normal((*case.batch, case.features), (0, 1))
    random = np.random.default_rng(0)
    background = variant is not None and "background" in variant.loss().name
    knowns = case.classes - (background or "C+1" in name)
    labels = random.integers(0, knowns, case.labels)
    if variant is not None:
        labels = np.where(random.random(case.labels) < variant.negatives, -1, labels)
    labels = tf.constant(labels, "int32")

    def run():
        value, _ = function(features, labels)
        return float(value)

    return run


def times(case, names, rounds, jit):
    """For each variant its row: median seconds, and median and quartiles of the ratios to the baseline before it."""
    baseline, of_baseline = prepared(case, "baseline", jit), []
    runs = {name: prepared(case, name, jit) for name in names}
    pairs = {name: [] for name in names}
    for i in range(rounds + WARM_UP):
        for name, run in runs.items():
            pair = [timed(baseline), timed(run)]
            if i >= WARM_UP:
                pairs[name].append(pair)
                of_baseline.append(pair[0])
    rows = {
        "baseline": dict(zip(("seconds", "processor_seconds"), np.median(of_baseline, axis=0).tolist(), strict=True))
    }
    for name, pair in pairs.items():
        before, own = np.swapaxes(pair, 0, 1)
        low, middle, high = np.quantile(own[:, 0] / before[:, 0], [0.25, 0.5, 0.75]).tolist()
        seconds, processor = np.median(own, axis=0).tolist()
        rows[name] = {"seconds": seconds, "processor_seconds": processor, "ratio": middle, "quartiles": [low, high]}
        rows[name]["processor_ratio"] = float(np.median(own[:, 1] / before[:, 1]))
    return rows


def timed(run):
    """Seconds by the clock and of all processors."""
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor


def peak_megabytes(case, name):
    """Peak resident memory of a few steps, above that before weights and features existed."""
    small = dataclasses.replace(case, batch=tuple(2 for _ in case.batch), features=4, classes=3)
    prepared(small, name)()  # what TensorFlow and the libraries take
    before = _status("VmRSS")
    run = prepared(case, name)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of initialisers, is forgotten
    for _ in range(3):
        run()
    return (_status("VmHWM") - before) / MEGABYTE


def _status(key):
    text = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", text).group(1))


def peak_in_own_process(key, name):
    command = [sys.executable, __file__, "--memory", key, name]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stderr}")
    return float(result.stdout.split()[-1])


def measure(key, rounds, with_xla, with_memory):
    case = CASES[key]
    print(f"{case.title} ...", file=sys.stderr, flush=True)
    rows = times(case, case.variants, rounds, jit=False)
    if with_xla and case.xla:
        for name, row in times(case, case.variants, rounds, jit=True).items():
            rows[name]["xla"] = row
    if with_memory and case.memory:
        for name in ("baseline", *case.memory):
            rows[name]["peak_megabytes"] = peak_in_own_process(key, name)
    return {"title": case.title, "target": case.target, "memory_target": case.memory_target, "rows": rows}


def table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def by_variant(result):
    titles = ["case", "variant", "ms", "ratio", "quartiles", "of CPU time", "XLA", "of CPU time", "target", "peak MB"]
    rows = []
    for case in result["cases"].values():
        for name, row in case["rows"].items():
            peak, xla = row.get("peak_megabytes"), row.get("xla", {})
            cells = [case["title"], name, f"{1e3 * row['seconds']:.1f}"]
            if name == "baseline":
                cells += ["1", "", "1", "", "", ""]
            else:
                low, high = row["quartiles"]
                cells += [f"{row['ratio']:.3f}", f"{low:.3f}-{high:.3f}", f"{row['processor_ratio']:.3f}"]
                cells += [f"{xla[key]:.3f}" if xla else "" for key in ("ratio", "processor_ratio")]
                cells += [f"{case['target']:.2f}"]
            rows.append([*cells, f"{peak:.0f}" if peak else ""])
    return table(titles, rows) + f"\nMedian of {result['rounds']} rounds. {as_sentence(result['provenance'])}\n"


def by_case(result):
    rows = []
    for case in result["cases"].values():
        variants = {name: row for name, row in case["rows"].items() if name != "baseline"}
        before = case["rows"]["baseline"].get("peak_megabytes", 0)
        peaks = [row["peak_megabytes"] for row in variants.values() if "peak_megabytes" in row]
        ratios = "; ".join(f"{name} {row['ratio']:.2f}" for name, row in variants.items())
        compiled = [row["xla"]["ratio"] for row in variants.values() if "xla" in row]
        compiled = f"{min(compiled):.2f}-{max(compiled):.2f}" if compiled else ""
        memory = ""
        if peaks:
            memory = f"{max(peaks) / before:.2f} x, {max(peaks) - before:+.0f} MB ({case['memory_target']})"
        rows.append([case["title"], ratios, compiled, f"{case['target']:.2f}", memory])
    titles = ["case", "time, ratio", "with XLA", "target", "largest peak memory (target)"]
    return table(titles, rows) + f"\nMedian of {result['rounds']} rounds. {as_sentence(result['provenance'])}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-xla", action="store_true", help="leave out the runs that XLA compiles")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/losses_speed.json"))
    parser.add_argument("--memory", nargs=2, metavar=("CASE", "VARIANT"), help="print one peak in MB and stop")
    arguments = parser.parse_args()
    if arguments.memory:
        print(peak_megabytes(CASES[arguments.memory[0]], arguments.memory[1]))
        return
    result = {"seed": 0, "rounds": arguments.rounds, "provenance": provenance(), "cases": {}}
    for key in arguments.case:
        result["cases"][key] = measure(key, arguments.rounds, not arguments.no_xla, not arguments.no_memory)
        keras.backend.clear_session()
    write_json(arguments.output, result)
    for suffix, text in (("", by_case(result)), ("_all", by_variant(result))):
        path = arguments.output.with_name(f"{arguments.output.stem}{suffix}.md")
        path.write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
