"""Tables of methods over seeds: their figures, and how they differ from the first one's, paired by seed."""

import argparse
import dataclasses
import logging
import pathlib

import keras
import numpy as np
from comparison import interval, resume, spread

from cplus1_keras import configs
from cplus1_keras.metrics import align
from cplus1_keras.provenance import as_sentence, provenance

NOTE = (
    "± is the half-width of the 95 % interval over the seeds of training, on one test set. * marks a difference whose "
    "interval leaves out 0: of twenty without any effect, one does so by chance."
)


def command(text, config, rows, figures, judge, name, size, smoke):
    """A command line that trains each row with each seed and tells the tables; it goes on where it was stopped.

    Args:
        text: What the command does.
        config: Name of the config, whose settings the `rows`, {name: settings}, and `size` are; `smoke` with --smoke.
        figures: As for `tables`.
        judge: Function from an experiment to what its run tells, ready for JSON.
        name: Of the files in --folder.

    Returns:
        {row: {seed: what a run told}} and the path of the Markdown.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few steps, 1 seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(rows), help="comma-separated; the first is the reference")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--folder", default="docs/results", type=pathlib.Path)
    given = parser.parse_args()
    keras.utils.disable_interactive_logging()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each run traces its own functions, on purpose
    # Where the data lie is no setting of the comparison.
    places = [setting for setting in given.settings if setting.startswith(("root=", "data_dir=", "download="))]
    settings = [*(smoke if given.smoke else size), *(own for own in given.settings if own not in places)]

    def one(row, seed):
        experiment = configs.resolve(config, [*settings, *places, *rows[row]])
        return judge(dataclasses.replace(experiment, seed=seed))

    def tell(run):
        return "  ".join(f"{title} {read(run):.2f}" for title, read in figures.items())

    chosen, output = given.rows.split(","), given.folder / f"{name}{'_smoke' * given.smoke}.json"
    found = resume(output, {"settings": settings}, chosen, 1 if given.smoke else given.seeds, one, tell)
    found = {row: found[row] for row in chosen}
    told = f"{tables(found, figures, form='.2f')}\n\n{NOTE} {as_sentence(provenance())}\n"
    output.with_suffix(".md").write_text(told, encoding="utf-8")
    print(told)
    return found, output.with_suffix(".md")


def tables(results, figures, title="", form=".1f"):
    """Two Markdown tables: of each row the mean over its seeds, and of each but the first its gain over the first.

    Args:
        results: {row: {seed: what a run told}}.
        figures: {name: function of what a run told to a float, NaN where nothing tells it}.
        title: Over the names of the rows.
        form: Of the numbers.
    """
    rows = [[title, *figures]]
    for row, runs in results.items():
        rows.append([row, *(_cell([read(run) for run in runs.values()], form) for read in figures.values())])
    (first, reference), *others = results.items()
    gains = [[f"minus {first}, paired by seed", *figures]]
    for row, runs in others:
        gains.append([row, *(difference(runs, reference, read, f"+{form}") for read in figures.values())])
    return align(rows) + "\n\n" + align(gains)


def difference(runs, others, read, form="+.1f"):
    """Mean gain of runs by seed over others, over the seeds of both; * where its 95 % interval leaves out 0."""
    gains = [read(runs[seed]) - read(others[seed]) for seed in sorted(set(runs) & set(others))]
    return _cell(gains, form) + "*" * is_certain(gains)


def is_certain(values):
    """Whether the 95 % interval of the mean (Student's t) leaves out 0."""
    if len(values) < 2:
        return False
    mean, half = interval(values)
    return abs(mean) > half


def _cell(values, form):
    """`spread`, and "" where a run does not tell the figure."""
    return "" if not values or np.isnan(values).any() else spread(values, form)
