"""The trainings that a table needs, each with its folder."""

import dataclasses
import inspect
import pathlib
import re

from cplus1_keras import configs
from cplus1_keras.provenance import describe, read_json
from tables import TABLES

ROOT = pathlib.Path(__file__).parents[2]
PLACES = ("data_dir", "download", "letters", "root")
"""Settings that say where data are: each config takes those that it knows."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One training of a row."""

    table: str
    row: str
    config: str
    settings: tuple
    places: tuple
    seed: int
    folder: pathlib.Path

    @property
    def experiment(self):
        """What trains."""
        known = inspect.signature(configs.find(self.config)).parameters
        places = [text for text in self.places if text.partition("=")[0] in known]
        return configs.resolve(self.config, [*self.settings, *places, f"seed={self.seed}"])

    def figures(self):
        """What the run found, or None before it is finished; ValueError where it had other settings."""
        told = read_json(self.folder / "job.json") if (self.folder / "job.json").is_file() else self.described
        if told != self.described:
            raise ValueError(f"{self.folder} holds a run of {told}. Remove it, or name another --folder.")
        found = self.folder / "figures.json"
        return read_json(found) if found.is_file() else None

    @property
    def described(self):
        return {"config": self.config, "settings": [*self.settings], "seed": self.seed}


def list_jobs(name, rows=None, seeds=3, full=False, settings=(), folder=ROOT / "runs/tables"):
    """The `Job`s of a table, seed by seed; of `rows` alone where they are named."""
    table, places = TABLES[name], tuple(text for text in settings if text.partition("=")[0] in PLACES)
    more = tuple(text for text in settings if text not in places)
    unknown = {*(rows or ())} - {row.name for row in table.rows}
    if unknown:
        raise ValueError(f"{name} has no row {sorted(unknown)}. There are: {', '.join(r.name for r in table.rows)}")
    found = []
    for seed in range(seeds):
        for row in table.rows:
            config, *own = (row.full if full else row.small) or (None,)
            if config and (not rows or row.name in rows):
                place = (
                    folder / f"{name}{'_full' if full else ''}" / re.sub(r"[^\w.+-]+", "_", row.name) / f"seed{seed}"
                )
                found.append(Job(name, row.name, config, (*own, *more), places, seed, place))
    return found


_SPLITS = {}


def splits_for(experiment):
    """The splits of an experiment; those last read are kept, since the rows of a table share them."""
    key = repr((describe(experiment)["data"], experiment.seed))
    if key not in _SPLITS:
        _SPLITS.clear()
        _SPLITS[key] = experiment.data(experiment.seed)
    return experiment.task.splits(_SPLITS[key], experiment.seed)
