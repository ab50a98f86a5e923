"""Before a run: all that it checks, what its data hold, and by a few training steps what it will take."""

import pathlib
import resource
import shutil
import time

from cplus1_keras import checks, distribution
from cplus1_keras.progress import duration
from cplus1_keras.run import build, prepare


def check_data(experiment):
    """Do all that a run checks first, then read every image and label of every split and compare all images.

    Returns:
        Text that says how many images there are and how long it took.

    Raises:
        ValueError: As `run.run`, and for a file that is damaged or a label without a role, wherever it is.

    >>> print(check_data(configs.resolve("digits")))  # doctest: +ELLIPSIS
    digits
    ...
    All 1,797 images can be read. It took ... s.
    """
    start = time.monotonic()
    experiment, splits = prepare(experiment)
    experiment.task.check_files(splits)
    experiment.task.check_copies(splits, decode=True)
    number = sum(len(split) for split in splits)
    return f"All {number:,} images can be read. It took {duration(time.monotonic() - start)}."


def dry_run(experiment, workdir="runs", steps=5):
    """Check an experiment, train a few steps, and say how long the run will take and what it will need.

    Nothing is written but to the terminal. What a run reads once, reading for the checks included, is in the time of
    this call, not in the estimate.

    Args:
        experiment: An `Experiment`.
        workdir: Folder of runs, which need not exist; the disk that it is on will hold the run.
        steps: Number of timed steps; one more, which compiles, goes before.

    Returns:
        Text.

    Raises:
        ValueError: As `run.run`.

    >>> print(dry_run(configs.resolve("digits"), steps=1))  # doctest: +ELLIPSIS
    digits
    ...
    25 epochs of 20 steps...
    """
    experiment, splits = prepare(experiment)
    with distribution.strategy().scope():
        model = build(experiment, splits)
    size = checks.check_model(model)
    place = pathlib.Path(workdir).resolve()
    folder = next(path for path in (place, *place.parents) if path.is_dir())
    checks.check_disk(folder, size)
    batches = experiment.task.training(model, splits.train, experiment)
    model.fit(batches, steps_per_epoch=1, epochs=1, verbose=0, shuffle=False)
    start = time.monotonic()
    model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
    seconds = (time.monotonic() - start) / steps
    epochs, each = experiment.length(splits)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    free = shutil.disk_usage(folder).free / 2**30
    return (
        f"{epochs} epochs of {each} steps at {seconds:.2f} s: about {duration(epochs * each * seconds)} of training, "
        "validation and judging not counted.\n"
        f"Memory so far {memory:.1f} GiB. A checkpoint has {3 * size / 2**20:,.0f} MiB, two are kept; {free:,.0f} GiB "
        f"of disk are free in {folder}."
    )
