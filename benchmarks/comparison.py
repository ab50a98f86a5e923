"""Compare methods on a config: train each with the same seeds, judge each on the same test images, write a table.

    python benchmarks/comparison.py --config toy --methods softmax,entropic --seeds 3 --set knowns=train[:3000]

Results go to --output as JSON, run by run, so that a comparison that was stopped goes on where it was; the table beside
it is Markdown. Cells are means over the seeds with the half-width of their 95 % interval (Student's t).
"""

import argparse
import dataclasses
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy import stats

from cplus1_keras import configs
from cplus1_keras.metrics import cell
from cplus1_keras.provenance import provenance, write_json
from cplus1_keras.run import build, fit

FIGURES = ("accuracy", "ccr_at_fpr_0.01", "ccr_at_fpr_0.1", "auroc", "open_auc")
TITLES = ("accuracy", "CCR at FPR 1e-2", "CCR at FPR 1e-1", "AUROC", "OpenAUC", "unknowns accepted at FPR 10 %")


def train(experiment, splits=None):
    """The trained model of an experiment, its splits and what `fit` logged."""
    keras.utils.set_random_seed(experiment.seed)
    splits = splits or experiment.splits()
    experiment = experiment.with_loss(splits)
    model = build(experiment, splits)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(model, experiment, splits, pathlib.Path(folder)).history
    return model, splits, history


def run(experiment, splits):
    """Figures of one training, on the unknowns of the test split."""
    start = time.perf_counter()
    model, splits, history = train(experiment, splits)
    seconds, task = time.perf_counter() - start, experiment.task
    every, found = task.predictor(model, experiment.score, splits), None
    if splits.protocol.negative:
        found = task.calibrate(every, splits.calibration, experiment)
    judged, _ = task.judge(every, splits.test, experiment, found)
    figures = {"unknown": judged["open_set"]["unknown"], "loss": history["loss"][-1], "seconds": round(seconds, 1)}
    if found is not None:
        figures |= {"calibration": found.to_dict(), "fpr_unknown": judged["at_threshold"]["fpr_unknown"]}
    return figures


def compare(config, methods, seeds, settings, output):
    """Results of what `output` holds, and of what it lacks: {method: {seed: figures}}."""
    splits = {}

    def one(method, seed):
        experiment = configs.resolve(config, [*settings, f"method={method}"])
        experiment = dataclasses.replace(experiment, seed=seed)
        if seed not in splits:  # the same for each method
            splits.clear()
            splits[seed] = experiment.splits()
        return run(experiment, splits[seed])

    def tell(figures):
        return "  ".join(f"{name} {cell(figures['unknown'][name])}" for name in FIGURES)

    return resume(output, {"config": config, "settings": list(settings)}, methods, seeds, one, tell)


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


def table(results):
    """Markdown: a row a method, mean over the seeds and the half-width of its 95 % interval."""
    rows = ["| method | " + " | ".join(TITLES) + " |", "|---|" + "---|" * len(TITLES)]
    for method, by_seed in results.items():
        values = [[r["unknown"][name] for r in by_seed.values()] for name in FIGURES]
        values.append([r.get("fpr_unknown") for r in by_seed.values()])
        rows.append(f"| {method} | " + " | ".join(map(spread, values)) + " |")
    return "\n".join(rows)


def paired(results, pairs):
    """Markdown: a row a pair of methods, the first less the second, seed by seed."""
    names = ("accuracy", "ccr_at_fpr_0.1", "auroc", "open_auc")
    titles = [TITLES[FIGURES.index(name)] for name in names]
    rows = ["| first − second, same seeds | " + " | ".join(titles) + " |", "|---|" + "---|" * len(names)]
    for first, second in pairs:
        cells = []
        for name in names:
            one, two = ([r["unknown"][name] for r in results[method].values()] for method in (first, second))
            known = not any(value is None for value in one + two)
            cells.append(spread([a - b for a, b in zip(one, two, strict=True)] if known else [None], "+.3f"))
        rows.append(f"| {first} − {second} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def spread(values, form=".3f"):
    """Mean ± half-width of the 95 % interval (Student's t) of the values of several seeds; "" where one is None."""
    if any(value is None for value in values):
        return ""
    mean = np.mean(values)
    if len(values) < 2:
        return f"{mean:{form}}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{mean:{form}} ± {half:{form.lstrip('+')}}"


def report(config, methods, seeds, settings, output, pairs=()):
    """Compare, write the table, and that of paired differences, beside the results and print them."""
    results = compare(config, methods, seeds, settings, output)
    text = table({method: results[method] for method in methods})
    if pairs:
        text += "\n\n" + paired(results, pairs)
    pathlib.Path(output).with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{config}, {', '.join(settings) or 'as it ships'}, {seeds} seeds, on unknowns\n\n{text}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="toy")
    parser.add_argument("--methods", default="softmax,entropic,objectosphere", help="names of configs.families")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--output", default="docs/results/comparison.json")
    arguments = parser.parse_args()
    keras.utils.disable_interactive_logging()
    report(arguments.config, arguments.methods.split(","), arguments.seeds, arguments.settings, arguments.output)


if __name__ == "__main__":
    main()
