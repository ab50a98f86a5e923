"""Whether a deployed classifier still sees the world that it was calibrated on, and since when not.

    python -m cplus1_keras.watch ANSWERS --calibration RUN_OR_SAVEDMODEL_OR_ANSWERS

ANSWERS is the table of `predict`, a csv, or the folder of `score`, or any csv or parquet with the columns `class_name`
and `score`, in the order of time or with --time COLUMN. Two things are compared with the calibration: the scores, and
the share of answers that are unknown. The reference is the calibration's record, mixed so that a share of --strangers
are images of no known class (default: as in the calibration split), or answers from a time that you trust.

The test may be repeated whenever there are new answers, every minute for years: a false alarm, ever, has at most the
probability --alpha. It draws what it found, and the exit status is 3 where the world drifts, 0 where it does not.
"""

import argparse
import json
import pathlib
import sys
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv, parquet

from cplus1_keras import plots
from cplus1_keras.calibration import Drift, find_drift, mix_scores, read_calibration
from cplus1_keras.directory import unfinished
from cplus1_keras.labels import REJECTED_NAME

DRIFTS = 3
"""The exit status where the world drifts."""

RECORDS = ("calibration.json", "assets.extra/calibration.json")
"""Where a run and a SavedModel keep their calibration's record."""

WORDS = {
    "scores": {"lower": "lower", "higher": "higher", "narrower": "less spread", "wider": "more spread"},
    "unknown rate": {"higher": "more unknown", "lower": "less unknown"},
}


class Watched(NamedTuple):
    """One figure of the answers beside its reference, and what the test says of it."""

    reference: np.ndarray
    values: np.ndarray
    drift: Drift


class Answers(NamedTuple):
    """Answers in the order of time, those without a valid score left out, of which there are `invalid`."""

    scores: np.ndarray
    unknown: np.ndarray
    times: list
    invalid: int


def watch(answers, calibration, strangers=None, alpha=0.01, time=None, column="score"):
    """Compare logged answers with a calibration by tests that may be repeated at any time.

    Args:
        answers: A csv, a parquet file or a folder of such files.
        calibration: A run's directory, a SavedModel, or answers from a time that is trusted.
        strangers: Share of images of no known class that the calibration's scores are mixed to, in [0, 1]; None takes
            that of the calibration split. Not for answers.
        alpha: Probability of any false alarm, ever, in (0, 1); each of the two tests has half of it.
        time: Column to sort by; None takes the rows as they come.
        column: Column of the score.

    Returns:
        Pair of `Answers` and a dict of `Watched` by "scores" and "unknown rate".

    Raises:
        FileNotFoundError: There is nothing at a path.
        ValueError: A table or a record lacks what is needed.

    >>> watch("nowhere.csv", "runs/digits")
    Traceback (most recent call last):
    FileNotFoundError: There are no answers at nowhere.csv: neither a csv, nor a parquet file, nor a folder of them.
    """
    found = read_answers(answers, time, column)
    scores, unknown = _reference(calibration, strangers, time, column)
    tests = {
        "scores": Watched(scores, found.scores, find_drift(scores, found.scores, alpha / 2)),
        "unknown rate": Watched(
            unknown, found.unknown, find_drift(unknown, found.unknown, alpha / 2, kinds=("lower", "higher"))
        ),
    }
    return found, tests


def read_answers(path, time=None, column="score"):
    """The `Answers` of a csv, a parquet file or a folder of such files, arguments as for `watch`."""
    table = _read_table(pathlib.Path(path))
    missing = [name for name in ("class_name", column, *([time] if time else [])) if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; there are {', '.join(table.column_names)}. Answers for pixels and "
            "objects have no score of an image: name another `column`, and add a `class_name`."
        )
    if time:
        table = table.sort_by(time)
    scores = compute.cast(table[column], pa.float64()).to_numpy()
    valid = ~np.isnan(scores)
    if "valid" in table.column_names:
        told = compute.fill_null(table["valid"].cast(pa.string()), "false")
        valid &= compute.equal(compute.utf8_lower(told), "true").to_numpy(zero_copy_only=False)
    unknown = (
        compute.equal(table["class_name"].cast(pa.string()), REJECTED_NAME)
        .fill_null(True)
        .to_numpy(zero_copy_only=False)
    )
    times = [str(when) for when in table[time].filter(pa.array(valid)).to_pylist()] if time else []
    return Answers(scores[valid], unknown[valid].astype("float64"), times, int((~valid).sum()))


def _read_table(path):
    if path.is_dir():
        files = sorted(own for own in path.iterdir() if own.suffix in (".csv", ".parquet") and own.name[0] not in "._")
    else:
        files = [path] if path.is_file() else []
    if not files:
        needs = "neither a csv, nor a parquet file, nor a folder of them"
        raise FileNotFoundError(f"There are no answers at {path}: {needs}.")
    try:
        names = csv.ConvertOptions(column_types={"class_name": pa.string()})  # also where all are numbers
        tables = [
            parquet.read_table(file) if file.suffix == ".parquet" else csv.read_csv(file, convert_options=names)
            for file in files
        ]
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no table of answers: {error}") from error


def _reference(path, strangers, time, column):
    """Scores, and which of them are unknown as 0 and 1, of a record or of answers."""
    records = [file for file in (pathlib.Path(path) / name for name in RECORDS) if file.is_file()]
    if not records:
        if strangers is not None:
            raise ValueError(f"`strangers` mixes a calibration's scores, and {path} holds answers: leave it away.")
        answers = read_answers(path, time, column)
        return answers.scores, answers.unknown
    try:
        record = json.loads(records[0].read_text(encoding="utf-8"))
        record = record.get("calibration", record) if isinstance(record, dict) else record
        found = read_calibration(record)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{records[0]} is damaged: {error}") from error
    if getattr(found, "sample", None) is None:
        raise ValueError(
            f"{records[0]} holds no scores to compare with: of pixels, objects and label sets there are none, nor of "
            "thresholds set by hand or by earlier versions (`python -m cplus1_keras.judge RUN --adopt` calibrates a "
            "run again). Or give answers from a time that you trust."
        )
    scores, _ = mix_scores(found.sample, strangers)
    return scores, (scores < found.threshold).astype("float64")


def report(answers, tests):
    """What `watch` found, in sentences.

    >>> still = find_drift([0.0, 1.0], [0.5, 0.1])
    >>> print(report(Answers(np.ones(2), np.zeros(2), [], 1), {"scores": Watched(np.ones(2), np.ones(2), still)}))
    2 answers; 1 without a valid score is left out. The reference has 2.
    scores: no drift (evidence 0.985, an alarm needs 100); mean 1, in the reference 1.
    """
    left = f"; {answers.invalid:,} without a valid score {'is' if answers.invalid == 1 else 'are'} left out"
    first = next(iter(tests.values()))
    lines = [
        f"{len(answers.scores):,} answers{left * bool(answers.invalid)}. The reference has {len(first.reference):,}."
    ]

    def place(number):
        return f"answer {number + 1:,}" + (f" ({answers.times[number]})" if answers.times else "")

    for name, (reference, values, drift) in tests.items():
        means = f"mean {values.mean():.3g}, in the reference {reference.mean():.3g}" if len(values) else "no answers"
        if drift.alarm is None:
            most = np.exp(max(drift.log_evidence, default=0.0))
            lines.append(f"{name}: no drift (evidence {most:.3g}, an alarm needs {np.exp(drift.limit):.3g}); {means}.")
            continue
        after = values[drift.start :].mean()
        lines.append(
            f"{name}: DRIFT since {place(drift.start)}, {WORDS[name][drift.kind]} (between {place(drift.earliest)} and "
            f"{place(drift.latest)}); certain at {place(drift.alarm)}; mean since then {after:.3g}, in the reference "
            f"{reference.mean():.3g}."
        )
    return "\n".join(lines)


def main(arguments=None):
    """Watch the answers that the command line names; also `cplus1-watch`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", metavar="ANSWERS", help="csv or parquet, or a folder of them")
    parser.add_argument("--calibration", required=True, metavar="PATH", help="run, SavedModel, or trusted answers")
    parser.add_argument("--strangers", type=float, help="share of images of no known class, in [0, 1]")
    parser.add_argument("--alpha", type=float, default=0.01, help="probability of a false alarm, ever (default: 0.01)")
    parser.add_argument("--time", metavar="COLUMN", help="sort by this column (default: the rows as they come)")
    parser.add_argument("--column", default="score", help="the score (default: score)")
    parser.add_argument("--output", default="drift.png", help="picture to write (default: drift.png)")
    given = parser.parse_args(arguments)
    settings = {name: getattr(given, name) for name in ("strangers", "alpha", "time", "column")}
    try:
        answers, tests = watch(given.answers, given.calibration, **settings)
        with unfinished(given.output) as file:
            file.write_bytes(plots.to_png(plots.drift(tests)))
            file.replace(given.output)
    except (OSError, ValueError) as error:
        sys.exit(f"Nothing is watched. {error}")
    print(report(answers, tests))
    print(f"Wrote {given.output}.")
    if any(test.drift.alarm is not None for test in tests.values()):
        sys.exit(DRIFTS)


if __name__ == "__main__":
    main()
