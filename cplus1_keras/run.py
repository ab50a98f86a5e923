"""One run for every task: train, calibrate, judge, save, draw, export."""

import contextlib
import math
import pathlib
import re
import time

import keras

from cplus1_keras import backbones, checks, distribution, serving
from cplus1_keras.callbacks import StopOnNaN
from cplus1_keras.checkpoints import Checkpoint
from cplus1_keras.directory import CHECKPOINTS, clean, hold, is_held, move_all, new_directory, remove, unfinished
from cplus1_keras.epilogue import epilogue
from cplus1_keras.monitoring import make_monitor
from cplus1_keras.optimizers import make_optimizer
from cplus1_keras.progress import Progress
from cplus1_keras.provenance import describe, read_json, to_repeat, write_json
from cplus1_keras.report import attempt, report


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
        RuntimeError: Another process writes to the run.

    >>> import tempfile
    >>> run(configs.resolve("digits", ["epochs=1"]), tempfile.mkdtemp()).name  # doctest: +ELLIPSIS
    digits
    ...
    'digits'
    """
    start = time.monotonic()
    if resume is not None and tidy(resume):
        return pathlib.Path(resume)
    experiment, splits = prepare(experiment)
    directory = _begin(experiment, workdir, command) if resume is None else pathlib.Path(resume)
    with hold(directory):
        try:
            print(f"Writes to {directory}\n", flush=True)
            clean(directory)
            with distribution.strategy().scope():
                model = build(experiment, splits)
            checks.check_disk(directory, checks.check_model(model))
            fit(model, experiment, splits, directory)
            finish(model, experiment, splits, directory, start)
        except BaseException as error:
            error.add_note(tell_kept(directory, new=resume is None))
            raise
    return directory


def _begin(experiment, workdir, command):
    """The directory of a new run, which tells what it is from its first moment."""
    path = pathlib.Path(workdir) / experiment.name
    try:
        with unfinished(path) as folder:
            clean(path.parent, pattern="", age=60)  # what takes longer belongs to a process that was killed
            write_json(
                folder / "config.json", {"repeat": to_repeat(command), "command": command, **describe(experiment)}
            )
            return new_directory(folder, path)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"No run can begin in {path.parent}: {reason}. Choose another folder with --workdir.") from error


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
    for config in sorted(pathlib.Path(workdir).glob("*/config.json")):
        run, checkpoint = config.parent, Checkpoint(config.parent / CHECKPOINTS)
        numbered = re.fullmatch(rf"{re.escape(name)}(-\d+)?", run.name)
        if numbered and (checkpoint.epoch or not (run / "metrics.json").is_file()) and not is_held(run):
            when = f"after epoch {checkpoint.epoch}" if checkpoint.epoch else "before the end of its first epoch"
            print(f"{run} was stopped {when}: {_how_to_resume(run)}", flush=True)


def tell_kept(directory, new=False):
    """What a run that failed leaves, in a sentence; a new directory without a checkpoint is removed."""
    checkpoint = Checkpoint(directory / CHECKPOINTS)
    if (directory / "metrics.json").is_file() and not checkpoint.epoch:
        return f"The run is finished: {directory}"
    if new and not checkpoint.epoch:
        remove(directory)
        return f"No epoch was finished; {directory} is removed."
    return f"Kept: {checkpoint.epoch} epoch{'s' * (checkpoint.epoch != 1)}. Go on with: {_how_to_resume(directory)}"


def _how_to_resume(directory):
    if read_json(directory / "config.json").get("command"):
        return f"python train.py --resume {directory}"
    return f"experiment.run(resume={str(directory)!r})"


def resume(directory):
    """Go on with a run that `train.py` started and that was stopped, from its newest checkpoint; returns its directory.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: The run is finished, or does not tell how it was made.
        RuntimeError: Another process writes to the run.
    """
    import tensorflow as tf

    from cplus1_keras import configs

    directory = pathlib.Path(directory)
    if tidy(directory):
        return directory
    command = read_json(directory / "config.json").get("command")
    if not command:
        raise ValueError(
            f"{directory / 'config.json'} does not tell how the run was made. In Python: "
            f"experiment.run(resume={str(directory)!r})"
        )
    if command.get("deterministic"):
        tf.config.experimental.enable_op_determinism()
    return run(configs.resolve(command["config"], command["set"]), resume=directory)


def tidy(directory):
    """Whether a run that was stopped had nothing left to do but to remove its checkpoints, which is done here.

    Raises:
        FileNotFoundError: There is no such run.
        ValueError: It was not stopped.
    """
    directory = pathlib.Path(directory)
    config, checkpoints = directory / "config.json", directory / CHECKPOINTS
    if not config.is_file():
        raise FileNotFoundError(f"{directory} is no run: it lacks config.json. `python train.py` makes one.")
    judged = (directory / "metrics.json").is_file()
    if judged and not checkpoints.is_dir():
        raise ValueError(
            f"The run {directory} is finished. `python -m cplus1_keras.judge {directory}` judges it again."
        )
    # The SavedModel comes last.
    if not judged or not any(path.name.isdecimal() for path in (directory / serving.SAVED_MODEL_FOLDER).glob("*")):
        return False
    with hold(directory):
        clean(directory)
        remove(checkpoints)
    print(f"The run {directory} is finished: nothing was left to do but to remove its checkpoints.", flush=True)
    return True


def build(experiment, splits):
    """The compiled model of an experiment for its splits.

    >>> experiment = configs.resolve("digits")
    >>> build(experiment, experiment.data(0)).output["logits"].shape
    (None, 6)
    """
    with _policy(experiment.precision):
        model = experiment.model(splits.num_classes)
    if model.distribute_strategy.num_replicas_in_sync > 1:
        backbones.synchronize_batch_norm(model)
    metrics = experiment.task.metrics(model, experiment, splits.num_classes)
    optimizer = make_optimizer(experiment, math.prod(experiment.length(splits)))
    model.compile(optimizer, experiment.loss, metrics=metrics)
    return model


@contextlib.contextmanager
def _policy(name):
    """Keras's dtype policy of that name for what is made meanwhile; None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fit(model, experiment, splits, directory):
    """Train what `build` gave, with checkpoints and TensorBoard logs in a directory; goes on from a checkpoint there.

    TensorBoard shows what `monitoring.OpenSetMonitor` tells.

    Returns:
        Keras's `History`.

    Raises:
        FloatingPointError: If the loss becomes NaN; the checkpoint before stays.
        ValueError: If the batch cannot be shared equally by the replicas.
    """
    task, (epochs, steps) = experiment.task, experiment.length(splits)
    share = distribution.per_replica(experiment.batch_size, model.distribute_strategy)
    stopping = _stopping(experiment, splits)
    checkpoint = Checkpoint(directory / CHECKPOINTS, stopping)
    first = checkpoint.restore(model)
    if first >= epochs or (stopping and stopping.stopped_epoch):  # the training ended, what came after it did not
        if stopping:
            stopping.set_model(model)
            stopping.on_train_end()  # gives the model its best weights
        model.optimizer.finalize_variable_values(model.trainable_variables)  # the averages, where there are some
        return keras.callbacks.History()
    batches = task.training(model, splits.train, experiment, first * steps)
    sample = keras.tree.map_structure(lambda tensor: tensor[:share], next(iter(batches)))
    watch = make_monitor(model, experiment, splits, directory / "logs", sample)
    watchers = [
        watch,
        StopOnNaN(checkpoint.folder),
        keras.callbacks.TensorBoard(directory / "logs", write_graph=False),
        *([stopping] if stopping else []),
        checkpoint,
        *([Progress(experiment.batch_size, task.headline)] if keras.config.is_interactive_logging_enabled() else []),
    ]
    history = model.fit(
        watch.watch_input(batches, model),
        epochs=epochs,
        initial_epoch=first,
        steps_per_epoch=steps,
        callbacks=watchers,
        verbose=0,
        shuffle=False,  # the data set shuffles by itself, in an order that the seed and the step decide
    )
    if stopping and stopping.best_weights is not None:
        print(f"{stopping.monitor} was best in epoch {stopping.best_epoch + 1}, whose weights are kept.", flush=True)
    return history


def _stopping(experiment, splits):
    """Keras's early stopping with the patience of an experiment, or None."""
    if experiment.patience is None:
        return None
    watched = experiment.task.watched(experiment, splits)
    return keras.callbacks.EarlyStopping(watched, patience=experiment.patience, mode="max", restore_best_weights=True)


def finish(model, experiment, splits, directory, start):
    """Calibrate, judge, save and export a trained model into the directory of its run, and say what came out."""
    task = experiment.task
    every = task.predictor(model, experiment.score, splits)
    found = task.find_threshold(every, splits, experiment)
    predictor = task.with_calibration(every, found)
    serving.save(directory, predictor)
    evidence = task.evidence(every, splits.test, found)
    figures, judged = task.judge(every, splits.test, experiment, found, evidence.update)
    with unfinished(directory / "results") as folder:
        folder.mkdir()
        task.write(folder, predictor, splits.test, experiment, figures, judged)
        attempt("What a report needs", evidence.write, folder, splits.test)
        move_all(folder, directory)
    figures = {**describe(experiment), **figures, "calibration": found.to_dict(), "noisy_labels": splits.noisy}
    figures["seconds"] = round(time.monotonic() - start, 1)
    write_json(directory / "metrics.json", figures)
    saved_model = serving.next_version(directory)
    page = attempt("The report", report, [directory])
    print("\n" + epilogue(task, figures, found, directory, saved_model, report=page), flush=True)
    serving.load(directory).export(saved_model, samples=task.samples(every, splits.test, experiment))
    Checkpoint(directory / CHECKPOINTS).remove()  # what is finished needs none
