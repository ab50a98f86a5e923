"""One run for every task: train, calibrate, judge, save, draw, export."""

import json
import math
import pathlib
import shutil
import time

import keras

from cplus1_keras import backbones, checks, distribution, serving
from cplus1_keras.callbacks import StopOnNaN, TermGradients
from cplus1_keras.checkpoints import Checkpoint
from cplus1_keras.directory import CHECKPOINTS, new_directory
from cplus1_keras.progress import Progress
from cplus1_keras.provenance import write_json
from cplus1_keras.report import describe, epilogue


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
    >>> run(configs.resolve("digits", ["epochs=1"]), tempfile.mkdtemp()).name  # doctest: +ELLIPSIS
    digits
    ...
    'digits'
    """
    start = time.monotonic()
    experiment, splits = prepare(experiment)
    if resume is None:
        directory = new_directory(workdir, experiment.name)
        write_json(directory / "config.json", {"command": command, **describe(experiment)})
    else:
        directory = pathlib.Path(resume)
    print(f"Writes to {directory}\n", flush=True)
    try:
        with distribution.strategy().scope():
            model = build(experiment, splits)
        checks.check_disk(directory, checks.check_model(model))
        fit(model, experiment, splits, directory)
        finish(model, experiment, splits, directory, start)
    except BaseException as error:
        error.add_note(tell_kept(directory))
        raise
    return directory


def prepare(experiment):
    """An experiment with its splits, seeded, told and checked.

    Returns:
        Pair of the `Experiment`, with the loss for these splits, and its `data.Splits`.

    Raises:
        ValueError: If data, loss and rates do not fit together.
    """
    distribution.check_backend()
    keras.utils.set_random_seed(experiment.seed)
    splits = experiment.splits()
    print(f"{experiment.name}\n{splits.summary()}", flush=True)
    serving.check_names(splits.class_names, splits.num_classes)
    experiment = experiment.with_loss(splits)
    experiment.task.check(experiment, splits)
    return experiment, splits


def tell_stopped(workdir, name):
    """Print how to go on with runs of a name that were stopped."""
    for config in sorted(pathlib.Path(workdir).glob(f"{name}*/config.json")):
        checkpoint = Checkpoint(config.parent / CHECKPOINTS)
        if checkpoint.epoch:
            print(
                f"{config.parent} was stopped after epoch {checkpoint.epoch}: python train.py --resume {config.parent}"
            )


def tell_kept(directory):
    """What a run that failed leaves, in a sentence; a directory without a checkpoint is removed."""
    checkpoint = Checkpoint(directory / CHECKPOINTS)
    if checkpoint.epoch:
        return f"Kept: {checkpoint.epoch} epochs. Go on with: python train.py --resume {directory}"
    if (directory / serving.MODEL_FILE).is_file():
        return f"Kept: {directory}"
    shutil.rmtree(directory, ignore_errors=True)
    return f"No epoch was finished; {directory} is removed."


def resume(directory):
    """Go on with a run that `train.py` started and that was stopped, from its newest checkpoint; returns its directory.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run is finished, or does not tell how it was made.
    """
    from cplus1_keras import configs

    directory = pathlib.Path(directory)
    config = directory / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{directory} is no run: it lacks config.json. `python train.py` makes one.")
    if (directory / "metrics.json").is_file() and not (directory / CHECKPOINTS).is_dir():
        raise ValueError(
            f"The run {directory} is finished. `python -m cplus1_keras.judge {directory}` judges it again."
        )
    command = json.loads(config.read_text(encoding="utf-8")).get("command")
    if not command:
        raise ValueError(f"{config} does not tell how the run was made. In Python: experiment.run(resume=directory)")
    return run(configs.resolve(command["config"], command["set"]), resume=directory)


def build(experiment, splits):
    """The compiled model of an experiment for its splits.

    >>> experiment = configs.resolve("digits")
    >>> build(experiment, experiment.data(0)).output["logits"].shape
    (None, 6)
    """
    model = experiment.model(splits.num_classes)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        backbones.synchronize_batch_norm(model)
    rate = experiment.learning_rate
    if experiment.schedule is not None:
        rate = experiment.schedule(rate, math.prod(experiment.length(splits)))
    metrics = experiment.task.metrics(model, experiment, splits.num_classes)
    model.compile(experiment.optimizer(rate), experiment.loss, metrics=metrics)
    return model


def fit(model, experiment, splits, directory):
    """Train what `build` gave, with checkpoints and TensorBoard logs in a directory; goes on from a checkpoint there.

    The log shows each term of the loss and, as `gradient_ratio/<term>`, how much it pulls beside the first.

    Returns:
        Keras's `History`.

    Raises:
        FloatingPointError: If the loss becomes NaN; the checkpoint before stays.
        ValueError: If the batch cannot be shared equally by the replicas.
    """
    task, (epochs, steps) = experiment.task, experiment.length(splits)
    share = distribution.per_replica(experiment.batch_size, model.distribute_strategy)
    checkpoint = Checkpoint(directory / CHECKPOINTS)
    first = checkpoint.restore(model)
    if first >= epochs:
        return keras.callbacks.History()  # the training ended, what came after it did not
    batches = task.training(model, splits.train, experiment, first * steps)
    sample = keras.tree.map_structure(lambda tensor: tensor[:share], next(iter(batches)))
    watchers = [
        StopOnNaN(checkpoint.folder),
        checkpoint,
        TermGradients(*sample),
        *task.callbacks(model, experiment, splits, directory / "logs"),
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
        *([Progress(experiment.batch_size, task.headline)] if keras.config.is_interactive_logging_enabled() else []),
    ]
    return model.fit(
        batches,
        epochs=epochs,
        initial_epoch=first,
        steps_per_epoch=steps,
        validation_data=task.validation(model, splits.validation, experiment),
        callbacks=watchers,
        verbose=0,
        shuffle=False,  # the data set shuffles by itself, in an order that the seed and the step decide
    )


def finish(model, experiment, splits, directory, start):
    """Calibrate, judge, save and export a trained model into the directory of its run, and say what came out."""
    task = experiment.task
    every = task.predictor(model, experiment.score, splits)
    found = task.calibrate(every, splits.calibration, experiment)
    predictor = task.with_calibration(every, found)
    serving.save(directory, predictor)
    figures, judged = task.judge(every, splits.test, experiment, found)
    task.write(directory, predictor, splits.test, experiment, figures, judged)
    figures = {**describe(experiment), **figures, "calibration": found.to_dict()}
    figures["seconds"] = round(time.monotonic() - start, 1)
    write_json(directory / "metrics.json", figures)
    saved_model = serving.next_version(directory)
    print("\n" + epilogue(task, figures, found, directory, saved_model), flush=True)
    serving.load(directory).export(saved_model, samples=task.samples(every, splits.test, experiment))
    Checkpoint(directory / CHECKPOINTS).remove()  # what is finished needs none
