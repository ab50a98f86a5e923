"""One run for every task: an `Experiment` says what to train; `run` trains, calibrates, judges and exports."""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable

import keras

from cplus1_keras import backbones, distribution, scores, serving
from cplus1_keras.callbacks import Checkpoint, StopOnNaN, TermGradients
from cplus1_keras.data import Splits
from cplus1_keras.directory import CHECKPOINTS, new_directory
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.models import OpenSetModel
from cplus1_keras.provenance import write_json
from cplus1_keras.report import describe, epilogue
from cplus1_keras.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run depends on. What has weights or state is given as a factory, so that each run gets its own.

    Args:
        name: Names the run's directory.
        task: What a label is of: `tasks.Classification()`, `tasks.Segmentation()`, `tasks.MultiLabel()`, with their
            own settings.
        data: Function from a seed to `data.Splits`.
        model: Function from the number of known classes to an `OpenSetModel`, not compiled; pixels are 0..255.
        loss: A loss of `cplus1_keras.losses`. Where it has no use for negatives, training leaves them out.
        optimizer: Function from a learning rate, or a schedule, to a Keras optimizer.
        learning_rate: The first one, above 0.
        schedule: Function from the first rate and the number of all steps to a Keras schedule, like
            `optimizers.poly`; None keeps the rate.
        epochs: Passes over the training images (over the knowns, where negatives are sampled), or None.
        steps: Training batches, in place of `epochs`.
        interval: With `steps`, how many there are from one checkpoint and line of the log to the next, about: the
            divisor of `steps` next to it.
        batch_size: Images in a global batch, over all replicas.
        score: A score of `cplus1_keras.scores`; the run judges, calibrates and serves with it.
        fpr: False positive rate that the threshold is calibrated for, in (0, 1).
        coverage: Share of knowns that the threshold accepts where the protocol has no negatives, in (0, 1).
        confidence: Confidence of the calibration, in (0, 1).
        seed: Of the weights, the splits, the order of images and their augmentation.

    Raises:
        ValueError: For both or none of `epochs` and `steps`, a number that is not above 0, a rate outside (0, 1), or a
            number of steps without a divisor near `interval`.

    >>> faster = dataclasses.replace(configs.resolve("digits"), epochs=3)
    """

    name: str
    task: Task
    data: Callable[[int], Splits]
    model: Callable[[int], OpenSetModel]
    loss: OpenSetLoss
    optimizer: Callable[..., keras.optimizers.Optimizer]
    learning_rate: float = 1e-3
    schedule: Callable | None = None
    epochs: int | None = None
    steps: int | None = None
    interval: int = 1000
    batch_size: int = 64
    score: Callable = scores.log_odds
    fpr: float = 0.1
    coverage: float = 0.95
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Training is counted in `epochs` or in `steps`: give one of them. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        for field in ("epochs", "steps", "interval", "batch_size", "learning_rate"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise ValueError(f"`{field}` must be above 0. Received: {field}={value}")
        for field in ("fpr", "coverage", "confidence"):
            if not 0 < getattr(self, field) < 1:
                raise ValueError(f"`{field}` is a rate in (0, 1). Received: {field}={getattr(self, field)}")
        if self.steps is not None:
            _epochs(self.steps, self.interval)

    def run(self, workdir="runs", **options):
        """Train, calibrate, judge and export; see `run`."""
        return run(self, workdir, **options)


def run(experiment, workdir="runs", command=None, resume=None):
    """Train, calibrate, judge and export. Prints what a person wants to know; everything else is in the directory.

    Args:
        experiment: An `Experiment`.
        workdir: Folder of runs; the run gets a directory of its own there and never overwrites another.
        command: Plain values that tell how to make this experiment again, kept in `config.json`.
        resume: Directory of a run of this experiment that was stopped: goes on where its newest checkpoint is.

    Returns:
        Path of the run's directory.

    Raises:
        ValueError: If data, loss, rates and model do not fit together; told before training wherever it can be.
        FloatingPointError: If the loss becomes NaN.

    >>> import tempfile
    >>> keras.utils.disable_interactive_logging()
    >>> directory = run(dataclasses.replace(configs.resolve("digits"), epochs=1, fpr=0.5), tempfile.mkdtemp())
    digits, to ...
    """
    start = time.monotonic()
    distribution.check_backend()
    keras.utils.set_random_seed(experiment.seed)
    splits = experiment.data(experiment.seed)
    print(f"{experiment.name}\n{splits.summary()}", flush=True)
    experiment.task.check(experiment, splits)
    directory = new_directory(workdir, experiment.name) if resume is None else pathlib.Path(resume)
    print(f"Writes to {directory}\n", flush=True)
    if resume is None:
        write_json(directory / "config.json", {"command": command, **describe(experiment)})
    with distribution.strategy().scope():
        model = build(experiment, splits)
    fit(model, experiment, splits, directory)
    finish(model, experiment, splits, directory, start)
    return directory


def resume(directory):
    """Go on with a run that `train.py` started and that was stopped, from its newest checkpoint.

    Args:
        directory: Directory of the run.

    Returns:
        It.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run is finished, or does not tell how it was made.
    """
    from cplus1_keras import configs

    directory = pathlib.Path(directory)
    config = directory / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{directory} is no run: it lacks config.json. `python train.py` makes one.")
    if (directory / "metrics.json").is_file():
        raise ValueError(
            f"The run {directory} is finished. `python -m cplus1_keras.judge {directory}` judges it again."
        )
    command = json.loads(config.read_text(encoding="utf-8")).get("command")
    if not command:
        raise ValueError(f"{config} does not tell how the run was made. In Python: experiment.run(resume=directory)")
    return run(configs.resolve(command["config"], command["set"]), resume=directory)


def build(experiment, splits):
    """The compiled model of an experiment.

    Args:
        experiment: An `Experiment`.
        splits: Its `data.Splits`.

    Returns:
        `OpenSetModel` from images to named outputs.

    >>> experiment = configs.resolve("digits")
    >>> build(experiment, experiment.data(0)).output["logits"].shape
    (None, 6)
    """
    model = experiment.model(splits.num_classes)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        backbones.synchronize_batch_norm(model)
    rate = experiment.learning_rate
    if experiment.schedule is not None:
        rate = experiment.schedule(rate, math.prod(length(experiment, splits)))
    metrics = experiment.task.metrics(model, experiment, splits.num_classes)
    model.compile(experiment.optimizer(rate), experiment.loss, metrics=metrics)
    return model


def length(experiment, splits):
    """How long an experiment trains.

    Returns:
        Pair of ints: Keras's epochs, each of which ends with a checkpoint, and steps in each.

    >>> experiment = configs.resolve("digits")
    >>> length(experiment, experiment.data(0))
    (25, 22)
    """
    if experiment.steps is None:
        return experiment.epochs, experiment.task.steps_per_epoch(splits.train, experiment)
    epochs = _epochs(experiment.steps, experiment.interval)
    return epochs, experiment.steps // epochs


def fit(model, experiment, splits, directory, verbose="auto"):
    """Train a compiled model, with checkpoints and TensorBoard logs in a directory; goes on from a checkpoint there.

    The log shows each term of the loss and, as `gradient_ratio/<term>`, how much it pulls beside the first.

    Args:
        model: What `build` returns.
        experiment: An `Experiment`.
        splits: Its `data.Splits`.
        directory: Directory of the run.
        verbose: As for Keras's `fit`.

    Returns:
        Keras's `History`.

    Raises:
        FloatingPointError: If the loss becomes NaN; the checkpoint before stays.
        ValueError: If the batch cannot be shared equally by the replicas.
    """
    task, (epochs, steps) = experiment.task, length(experiment, splits)
    share = distribution.per_replica(experiment.batch_size, model.distribute_strategy)
    checkpoint = Checkpoint(directory / CHECKPOINTS)
    first = checkpoint.restore(model)
    batches = task.training(model, splits.train, experiment, first * steps)
    sample = keras.tree.map_structure(lambda tensor: tensor[:share], next(iter(batches)))
    watchers = [
        StopOnNaN(checkpoint.folder),
        checkpoint,
        TermGradients(*sample),
        *task.callbacks(model, experiment, splits, directory / "logs"),
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
    ]
    return model.fit(
        batches,
        epochs=epochs,
        initial_epoch=first,
        steps_per_epoch=steps,
        validation_data=task.validation(model, splits.validation, experiment),
        callbacks=watchers,
        verbose=verbose,
        shuffle=False,  # the data set shuffles by itself, in an order that the seed and the step decide
    )


def finish(model, experiment, splits, directory, start):
    """Calibrate, judge, save and export a trained model into the directory of its run, and say what came out.

    Args:
        model: An `OpenSetModel`, trained.
        experiment: An `Experiment`.
        splits: Its `data.Splits`.
        directory: Directory of the run.
        start: `time.monotonic()` of the run's beginning.
    """
    task = experiment.task
    every = task.predictor(model, experiment.score, splits)
    found = task.calibrate(every, splits.calibration, experiment)
    predictor = task.with_calibration(every, found)
    serving.save(directory, predictor)
    figures, judged = task.judge(every, splits.test, experiment, found)
    task.write(directory, predictor, splits.test, experiment, judged)
    figures = {**describe(experiment), **figures, "calibration": found.to_dict()}
    figures["seconds"] = round(time.monotonic() - start, 1)
    write_json(directory / "metrics.json", figures)
    saved_model = serving.next_version(directory)
    serving.load(directory).export(saved_model, samples=task.samples(every, splits.test, experiment))
    Checkpoint(directory / CHECKPOINTS).remove()  # `model.keras` takes their place
    print("\n" + epilogue(task, figures, found, directory, saved_model))


def _epochs(steps, interval):
    """The divisor of `steps` that makes epochs of about `interval` steps."""
    divisors = [epochs for epochs in range(1, steps + 1) if steps % epochs == 0]
    best = min(divisors, key=lambda epochs: abs(math.log(steps / epochs / interval)))
    if steps / best > 4 * interval or (best > 1 and steps / best < interval / 4):
        raise ValueError(
            f"`steps` must be a multiple of a number near `interval`, {interval}, so that epochs are equal. Received: "
            f"steps={steps}. Take {interval * max(1, round(steps / interval))}."
        )
    return best
