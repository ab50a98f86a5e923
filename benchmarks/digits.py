"""The main job, `python train.py`, for several seeds: time, figures and threshold. `python benchmarks/digits.py`.

Each run is the command itself, in a process of its own and timed from outside.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from cplus1_keras.provenance import provenance, write_json

ROOT = pathlib.Path(__file__).parent.parent
FIGURES = {
    "accuracy": "closed-set accuracy",
    "ccr_at_fpr_0.05": "CCR at FPR 5 %",
    "ccr_at_fpr_0.1": "CCR at FPR 10 %",
    "ccr_at_fpr_0.3": "CCR at FPR 30 %",
    "auroc": "AUROC",
}
AT_THRESHOLD = {
    "threshold": "threshold (log-odds)",
    "bound": "bound on the FPR at 95 % confidence",
    "fpr_negative": "test negatives accepted",
    "fpr_unknown": "test unknowns accepted",
    "ccr": "test knowns answered right",
    "coverage": "test knowns accepted",
}


def run(seed, folder):
    """`python train.py --set seed=...`: its wall-clock seconds and its figures."""
    start = time.perf_counter()
    command = [sys.executable, "train.py", "--workdir", str(folder), "--set", f"seed={seed}"]
    subprocess.run([*command, "--set", f"name=seed{seed}"], cwd=ROOT, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    report = json.loads((folder / f"seed{seed}" / "metrics.json").read_text(encoding="utf-8"))
    at = {**report["at_threshold"], "bound": report["calibration"]["bound"]}
    return {"seconds": round(seconds, 1), "open_set": report["open_set"], "at_threshold": at}


def tables(runs):
    """Two Markdown tables: figures by group, and the threshold; mean ± standard deviation over the seeds."""
    lines = ["| mean ± standard deviation over seeds | on negatives | on unknowns |", "|---|---|---|"]
    for name, title in FIGURES.items():
        cells = [_cell([run["open_set"][group][name] for run in runs]) for group in ("negative", "unknown")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "| at the calibrated threshold | mean ± standard deviation over seeds |", "|---|---|"]
    lines += [
        f"| {title} | {_cell([run['at_threshold'][name] for run in runs])} |" for name, title in AT_THRESHOLD.items()
    ]
    lines.append(f"| seconds for `python train.py` | {_cell([run['seconds'] for run in runs], 0)} |")
    return "\n".join(lines)


def _cell(values, digits=3):
    if any(value is None for value in values):
        return ""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/results/digits.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {seed: run(seed, pathlib.Path(folder)) for seed in range(arguments.seeds)}
    text = tables(list(runs.values()))
    write_json(arguments.output, {"seeds": runs, "provenance": provenance()})
    arguments.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
