"""How soon `watch` is certain of a drift, and how often it is wrong: `python benchmarks/drift.py`, about two minutes.

Each row is a simulation of 300 scores of a calibration, answers like them, and answers of another kind.
"""

import argparse
import functools
import pathlib

import numpy as np

from cplus1_keras.calibration import find_drift
from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance

REFERENCE, AFTER, ALPHA = 300, 4000, 0.01
SIDES = ("lower", "higher")


def normal(mean, deviation):
    return functools.partial(lambda generator, n: generator.normal(mean, deviation, n))


def share(rate):
    """1 where an answer is unknown."""
    return lambda generator, n: (generator.random(n) < rate).astype("float64")


CASES = {
    "scores lower by one standard deviation": (normal(0, 1), normal(-1, 1), ()),
    "scores lower by half of one": (normal(0, 1), normal(-0.5, 1), ()),
    "scores of twice the spread": (normal(0, 1), normal(0, 2), ()),
    "unknown rate from 10 % to 40 %": (share(0.1), share(0.4), (SIDES,)),
    "unknown rate from 5 % to 15 %": (share(0.05), share(0.15), (SIDES,)),
}


def delays(before, after, kinds, good, runs):
    """Answers from the drift to the alarm, infinite where there is none, and to what is said to be its start."""
    generator, waits, errors = np.random.default_rng(0), [], []
    for seed in range(runs):
        values = np.concatenate([before(generator, good), after(generator, AFTER)])
        found = find_drift(before(generator, REFERENCE), values, ALPHA, *kinds, seed=seed)
        waits.append(np.inf if found.alarm is None else found.alarm + 1 - good)
        errors.append(np.nan if found.start is None else found.start - good)
    return np.array(waits), np.array(errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--output", default="docs/results/drift.md")
    arguments = parser.parse_args()
    rows = [["drift", "answers before it", "certain after, median", "95 % quantile", "start off by, median"]]
    for name, (before, after, kinds) in CASES.items():
        for good in (100, 1000, 10_000):
            waits, errors = delays(before, after, kinds, good, arguments.runs)
            middle, late = np.quantile(waits, [0.5, 0.95], method="higher")
            off = f"{np.nanmedian(np.abs(errors)):.0f}"
            rows.append([name, f"{good:,}", f"{middle:,.0f}", f"{late:,.0f}" if np.isfinite(late) else "never", off])
    before, generator = normal(0, 1), np.random.default_rng(1)
    alarms = [
        find_drift(before(generator, REFERENCE), before(generator, AFTER), ALPHA, seed=seed).alarm is not None
        for seed in range(10 * arguments.runs)
    ]
    false = f"False alarms in {AFTER:,} answers without a drift: {sum(alarms)} of {len(alarms):,} simulations"
    text = f"{align(rows)}\n\n{false}, at a level of {ALPHA:.0%}.\n\n{as_sentence(provenance())}\n"
    pathlib.Path(arguments.output).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
