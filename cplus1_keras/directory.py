"""Run directories: each run gets one of its own."""

import itertools
import pathlib

CHECKPOINTS = "checkpoints"
"""In a run's directory until `model.keras` is there: what a training leaves that was stopped, to go on from."""


def new_directory(parent, name):
    """Make and return `parent/name`, or `parent/name-2`, `-3` ... if it exists already: no run overwrites another.

    Args:
        parent: Folder of runs; made if it is absent.
        name: Name of the run.

    Returns:
        `pathlib.Path` of the new, empty directory.

    >>> new_directory("runs", "digits").name
    'digits'
    """
    parent = pathlib.Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        directory = parent / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
