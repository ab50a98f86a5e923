"""All that a run checks, and one training step: what the run will take."""

import resource
import shutil
import tempfile
import time

from cplus1_keras import checks, distribution
from cplus1_keras.progress import duration
from cplus1_keras.run import build, prepare


def dry_run(experiment, steps=5):
    """Check an experiment, train a few steps, and say how long the run will take and what it will need.

    Nothing is written but to the terminal. What a run reads once, reading for the checks included, is in the time of
    this call, not in the estimate.

    Args:
        experiment: An `Experiment`.
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
    checks.check_disk(tempfile.gettempdir(), size)
    batches = experiment.task.training(model, splits.train, experiment)
    model.fit(batches, steps_per_epoch=1, epochs=1, verbose=0, shuffle=False)
    start = time.monotonic()
    model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
    seconds = (time.monotonic() - start) / steps
    epochs, each = experiment.length(splits)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    free = shutil.disk_usage(".").free / 2**30
    return (
        f"{epochs} epochs of {each} steps at {seconds:.2f} s: about {duration(epochs * each * seconds)} of training, "
        "validation and judging not counted.\n"
        f"Memory so far {memory:.1f} GiB. A checkpoint has {3 * size / 2**20:,.0f} MiB, two are kept; {free:,.0f} GiB "
        "of disk are free here."
    )
