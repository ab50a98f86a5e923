"""Times of the open-set figures on one million scores: `python benchmarks/metrics.py`.

Each must take less than a second, with the scores' many ties and without; the figures are checked against scikit-learn.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from cplus1_keras import metrics


def sample(n, decimals):
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 2, 3, -1, -2], n)
    scores = generator.normal(size=n) + 2 * (labels >= 0)
    scores = (scores if decimals is None else scores.round(decimals)).astype("float32")
    return labels, generator.integers(0, 4, n), scores


def cases(labels, predictions, scores):
    return {
        "oscr": lambda: metrics.oscr(labels, predictions, scores, "both"),
        "ccr_at_fpr": lambda: metrics.ccr_at_fpr(labels, predictions, scores, [1e-3, 1e-2, 1e-1], "both"),
        "open_auc": lambda: metrics.open_auc(labels, predictions, scores, "both"),
        "auroc": lambda: metrics.auroc(labels, scores, "both"),
        "aupr": lambda: metrics.aupr(labels, scores, "both"),
        "fpr_at_tpr": lambda: metrics.fpr_at_tpr(labels, scores, "both"),
        "summary (two groups)": lambda: summary(labels, predictions, scores),
    }


def summary(*data, samples=0):
    made = metrics.ExactScores(samples=samples)
    made.update(*data)
    return made.summary()


def seconds(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs/results/metrics_speed.json"))
    arguments = parser.parse_args()
    times = {}
    for kind, decimals in (("distinct", None), ("ties", 1)):
        data = sample(arguments.size, decimals)
        labels, _, scores = data
        known = labels >= 0
        assert abs(metrics.auroc(labels, scores, "both") - roc_auc_score(known, scores)) < 1e-9
        assert abs(metrics.aupr(labels, scores, "both") - average_precision_score(known, scores)) < 1e-9
        times[kind] = {name: seconds(case, arguments.repeats) for name, case in cases(*data).items()}
        few = tuple(array[:10_000] for array in data)
        times[kind]["summary, 10,000 scores, 1,000 replications"] = seconds(
            lambda few=few: summary(*few, samples=1000), 1
        )
    print(f"Median seconds of {arguments.repeats} runs, {arguments.size:,} scores\n")
    print("| figure | distinct | ties |\n|---|---|---|")
    for name in times["ties"]:
        print(f"| {name} | {times['distinct'][name]:.3f} | {times['ties'][name]:.3f} |")
    slow = [name for kind in times.values() for name, value in kind.items() if value > 1 and "replications" not in name]
    print(f"\nOver a second: {', '.join(slow) or 'none'}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"
    result = {"size": arguments.size, "seed": 0, "commit": commit, "machine": machine, "seconds": times}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
