"""What benchmarks that train share: one training, the figures of a test set, and what seeds tell about two rows."""

import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy import stats

from cplus1_keras.provenance import provenance, write_json
from cplus1_keras.run import build, fit

LEVEL, POWER = 0.05, 0.8
"""Of the tests of `seeds_needed`: the share of false alarms, and that of true effects which are seen."""
MOST = 10_000


def train(experiment, splits=None, folder=None):
    """The trained model of an experiment, its splits and what `fit` logged.

    Its checkpoints and logs are in `folder`, and it goes on from one that is there; None keeps none.
    """
    keras.utils.set_random_seed(experiment.seed)
    splits = splits or experiment.splits()
    experiment = experiment.with_loss(splits)
    model = build(experiment, splits)
    with tempfile.TemporaryDirectory() as spare:
        history = fit(model, experiment, splits, pathlib.Path(folder or spare)).history
    return model, splits, history


def resume(output, settings, rows, seeds, run, tell):
    """Results {row: {seed: figures}}: those that `output` holds, and those that it lacks, written one by one.

    Args:
        output: A json file.
        settings: Dict of what the file must have been written with; it is kept beside the results.
        rows: Names.
        seeds: Their number.
        run: Function (row, seed) that gives figures, `seconds` among them.
        tell: Function of figures that gives a line.
    """
    output, record = pathlib.Path(output), {**settings, "results": {}}
    if output.is_file():
        record = json.loads(output.read_text(encoding="utf-8"))
        old = {name: value for name, value in record.items() if name != "results"}
        if old != settings:
            raise SystemExit(f"{output} holds other settings, {old}. Remove it or name another place for the results.")
    for seed in range(seeds):
        for row in rows:
            done = record["results"].setdefault(row, {})
            if str(seed) not in done:
                done[str(seed)] = {**run(row, seed), "provenance": provenance()}
                write_json(output, record)
                print(f"{row}, seed {seed}: {tell(done[str(seed)])}  ({done[str(seed)]['seconds']} s)", flush=True)
                keras.backend.clear_session()
    return record["results"]


def judge_training(experiment, images=None):
    """Figures of one training: those of the test split (or its first images), and how much each term pulled."""
    start = time.perf_counter()
    model, splits, history = train(experiment)
    seconds, task = time.perf_counter() - start, experiment.task.for_splits(splits)
    test = splits.test if images is None else splits.test.subset(range(images))
    figures, _ = task.judge(task.predictor(model, experiment.score, splits), test, experiment)
    ratios = {name: values[-1] for name, values in history.items() if name.startswith("gradient_ratio/")}
    return {**figures, "loss": history["loss"][-1], "seconds": round(seconds, 1), **ratios}


def look_up(result, keys):
    """The figure at these keys of a run's results, one within another; NaN where nothing tells it."""
    for key in keys:
        result = (result or {}).get(key)
    return np.nan if result is None else result


def interval(values):
    """Mean, and half-width of its 95 % interval (Student's t), of the values of several seeds; NaN of a single one."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def spread(values, form=".3f"):
    """`interval` as text, mean ± half-width; "" where a value is None or there is none."""
    if not len(values) or any(value is None for value in values):
        return ""
    mean, half = interval(values)
    return f"{mean:{form}}" + (f" ± {half:{form.lstrip('+')}}" if len(values) > 1 else "")


def differences(first, second):
    """Differences of two rows {seed: value}, for the seeds that both have; those with None are left out."""
    seeds = [seed for seed in first if first[seed] is not None and second.get(seed) is not None]
    return [first[seed] - second[seed] for seed in seeds]


def seeds_needed(gains, effect):
    """How many paired seeds would show a difference, by the power of a paired t-test; `MOST` where they do not do.

    The standard deviation is that of `gains`, of which a few seeds give a poor idea.
    """
    noise = np.std(gains, ddof=1)
    if not noise or not effect:
        return 2 if effect else MOST
    low, high = 1, MOST
    while high - low > 1:
        seeds = (low + high) // 2
        edge, shift = stats.t.ppf(1 - LEVEL / 2, seeds - 1), abs(effect) / noise * np.sqrt(seeds)
        enough = stats.nct.sf(edge, seeds - 1, shift) >= POWER
        low, high = (low, seeds) if enough else (seeds, high)
    return high


def judge_claim(gains, printed=None, form=".3f"):
    """Whether seeds show that a difference is above 0, as text; `printed` is the paper's, if it has one."""
    if len(gains) < 2:
        return "not run" if not gains else "one seed"
    mean, half = interval(gains)
    if abs(mean) > half:
        return "seen" if mean > 0 else "the opposite is seen"
    effect = mean if printed is None else printed
    seeds = seeds_needed(gains, effect)
    needed = f"more than {MOST:,}" if seeds >= MOST else f"about {seeds:,}"
    return f"not seen; {needed} seeds would show {'ours' if printed is None else 'the paper’s'}, {effect:+{form}}"
