"""Who gets what in a run, with spies in place of training, judging and serving; `tests/tasks` has what it leaves."""

import json
import pathlib
import types
from unittest import mock

import keras
import numpy as np
import pytest

from cplus1_keras import distribution, run, serving
from cplus1_keras.callbacks import StopOnNaN
from cplus1_keras.checkpoints import Checkpoint
from cplus1_keras.monitoring import OpenSetMonitor
from cplus1_keras.progress import Progress
from cplus1_keras.tasks import Task

SPLITS = types.SimpleNamespace(
    train="train",
    validation="validation",
    calibration="calibration",
    test="test",
    num_classes=3,
    noisy=9,
    class_names=["a", "b", "c"],
    summary=lambda: "SUMMARY",
)


@pytest.fixture
def task():
    spy = mock.create_autospec(Task, instance=True)
    spy.judge.return_value = {"open_set": {}}, "judged"
    spy.headline = {"accuracy": "logits_known_accuracy"}
    return spy


@pytest.fixture
def experiment(task):
    spy = mock.Mock(task=task, batch_size=6, seed=17, score="a score", learning_rate=0.25, schedule=None)
    spy.name = "spied"
    spy.length.return_value = 4, 5
    spy.splits.return_value = SPLITS
    spy.patience = spy.ema = spy.precision = None
    spy.warmup = 0.0
    return spy


@pytest.fixture
def printed(monkeypatch):
    """What is printed, each with whether it is there at once, also where the output is a file."""
    lines = []
    monkeypatch.setattr(run, "print", lambda text, flush=False: lines.append((text, flush)), raising=False)
    return lines


@pytest.fixture
def steps(experiment, monkeypatch):
    """All that `run` does, as spies."""
    spy = mock.Mock()
    for name in ("prepare", "clean", "build", "fit", "finish"):
        monkeypatch.setattr(run, name, getattr(spy, name))
    for name in ("check_model", "check_disk"):
        monkeypatch.setattr(run.checks, name, getattr(spy, name))
    monkeypatch.setattr(run, "describe", lambda given: {"name": given.name})
    monkeypatch.setattr(run.time, "monotonic", lambda: 100.5)
    spy.prepare.return_value = experiment, SPLITS
    return spy


def test_a_run_is_checked_trained_and_finished(experiment, steps, tmp_path, printed):
    command = {"config": "some", "set": []}
    directory = run.run(experiment, tmp_path / "new", command)
    assert directory == tmp_path / "new" / "spied"
    told = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert (told["command"], told["name"]) == (command, "spied")
    model = steps.build.return_value
    assert steps.mock_calls == [
        mock.call.prepare(experiment),
        mock.call.clean(tmp_path / "new", pattern="", age=60),  # what runs left that were killed
        mock.call.clean(directory),
        mock.call.build(experiment, SPLITS),
        mock.call.check_model(model),
        mock.call.check_disk(directory, steps.check_model.return_value),
        mock.call.fit(model, experiment, SPLITS, directory),
        mock.call.finish(model, experiment, SPLITS, directory, 100.5),
    ]
    assert printed == [(f"Writes to {directory}\n", True)]
    assert run.run(experiment, tmp_path / "new").name == "spied-2"
    assert run.run(experiment, resume=directory) == directory
    assert json.loads((directory / "config.json").read_text(encoding="utf-8")) == told


@pytest.mark.parametrize("failing", ["build", "check_disk", "fit", "finish"])
def test_a_run_that_fails_says_what_it_leaves(experiment, steps, tmp_path, failing):
    getattr(steps, failing).side_effect = ValueError("no")
    with pytest.raises(ValueError, match="no") as told:
        run.run(experiment, tmp_path)
    assert told.value.__notes__ == [f"No epoch was finished; {tmp_path / 'spied'} is removed."]
    assert not (tmp_path / "spied").exists()


@pytest.mark.parametrize(
    ("judged", "epochs", "new", "told"),
    [
        (True, [], False, "The run is finished: {0}"),
        (True, [2], False, "Kept: 2 epochs. Go on with: python train.py --resume {0}"),
        (False, [1], True, "Kept: 1 epoch. Go on with: python train.py --resume {0}"),
        (False, [], False, "Kept: 0 epochs. Go on with: python train.py --resume {0}"),
        (False, [], True, "No epoch was finished; {0} is removed."),
    ],
)
def test_what_is_kept_is_told(tmp_path, judged, epochs, new, told):
    for epoch in epochs:
        (tmp_path / "some" / "checkpoints" / f"epoch-{epoch:06d}").mkdir(parents=True)
    (tmp_path / "some").mkdir(exist_ok=True)
    if judged:
        (tmp_path / "some" / "metrics.json").touch()
    (tmp_path / "some" / "config.json").write_text('{"command": {"config": "digits", "set": []}}', encoding="utf-8")
    assert run.tell_kept(tmp_path / "some", new) == told.format(tmp_path / "some")
    assert (tmp_path / "some").exists() == (not told.startswith("No epoch"))


def test_a_trained_model_is_calibrated_saved_judged_and_exported(experiment, task, tmp_path, monkeypatch, printed):
    every, calibrated = task.predictor.return_value, task.with_calibration.return_value
    found = task.find_threshold.return_value
    found.to_dict.return_value = {"threshold": 0.5}
    task.write.side_effect = lambda folder, *given: (folder / "oscr.png").touch()
    steps, lines = mock.Mock(), []
    steps.attach_mock(task, "task")
    for name in ("save", "load", "next_version"):
        monkeypatch.setattr(serving, name, getattr(steps, name))
    monkeypatch.setattr(run, "Checkpoint", steps.checkpoint)
    monkeypatch.setattr(run, "describe", lambda given: {"name": given.name})
    monkeypatch.setattr(run, "epilogue", lambda *given, **more: lines.append((*given, more)) or "LAST WORDS")
    monkeypatch.setattr(run, "report", lambda paths: paths[0].joinpath("metrics.json").is_file() and "a report")
    monkeypatch.setattr(run.time, "monotonic", lambda: 112.34)
    steps.next_version.return_value = tmp_path / "saved_model" / "7"

    run.finish("model", experiment, SPLITS, tmp_path, start=100)

    task.predictor.assert_called_once_with("model", "a score", SPLITS)
    task.find_threshold.assert_called_once_with(every, SPLITS, experiment)
    task.with_calibration.assert_called_once_with(every, found)
    steps.save.assert_called_once_with(tmp_path, calibrated)
    task.evidence.assert_called_once_with(every, "test", found)
    task.judge.assert_called_once_with(every, "test", experiment, found, task.evidence.return_value.update)
    ((folder, *given), _) = task.write.call_args
    task.evidence.return_value.write.assert_called_once_with(folder, "test")
    assert given == [calibrated, "test", experiment, {"open_set": {}}, "judged"]
    assert (folder.parent, folder.exists()) == (tmp_path, False)
    assert (tmp_path / "oscr.png").is_file()  # what was written there is in the run's own directory
    figures = {"name": "spied", "open_set": {}, "calibration": {"threshold": 0.5}, "seconds": 12.3}
    figures["noisy_labels"] = 9
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == figures
    assert lines == [(task, figures, found, tmp_path, tmp_path / "saved_model" / "7", {"report": "a report"})]
    assert printed == [("\nLAST WORDS", True)]
    steps.load.assert_called_once_with(tmp_path)
    task.samples.assert_called_once_with(every, "test", experiment)
    exported = mock.call(tmp_path / "saved_model" / "7", samples=task.samples.return_value)
    assert steps.load.return_value.export.mock_calls == [exported]
    assert mock.call(tmp_path / "checkpoints") in steps.checkpoint.mock_calls
    # What was trained is saved before anything can fail on it, and the checkpoints go last.
    order = [call[0] for call in steps.mock_calls]
    wanted = ["task.find_threshold", "save", "task.judge", "task.write", "load().export", "checkpoint().remove"]
    assert [name for name in order if name in wanted] == wanted


def test_an_experiment_is_seeded_told_and_checked(experiment, task, monkeypatch, printed):
    steps, loss_known = mock.Mock(), mock.Mock(task=task)
    experiment.with_loss.return_value = loss_known
    steps.attach_mock(experiment.splits, "data")
    steps.attach_mock(task.check, "check")
    monkeypatch.setattr(distribution, "check_backend", steps.backend)
    monkeypatch.setattr(keras.utils, "set_random_seed", steps.seed)
    monkeypatch.setattr(serving, "check_names", steps.names)
    assert run.prepare(experiment) == (loss_known, SPLITS)
    assert steps.mock_calls == [
        mock.call.backend(),
        mock.call.seed(17),
        mock.call.data(),
        mock.call.names(["a", "b", "c"], 3),
        mock.call.check(loss_known, SPLITS),
    ]
    experiment.with_loss.assert_called_once_with(SPLITS)
    assert printed == [("spied\nSUMMARY", True)]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("schedule", [None, lambda rate, steps: ("scheduled", rate, steps)])
def test_a_model_is_compiled_and_batch_norm_shared_among_replicas(experiment, task, monkeypatch, replicas, schedule):
    shared = mock.Mock()
    monkeypatch.setattr(run.backbones, "synchronize_batch_norm", shared)
    model = experiment.model.return_value
    model.distribute_strategy.num_replicas_in_sync = replicas
    experiment.schedule = schedule
    assert run.build(experiment, SPLITS) is model
    experiment.model.assert_called_once_with(3)
    assert shared.mock_calls == [mock.call(model)] * (replicas - 1)
    experiment.optimizer.assert_called_once_with(0.25 if schedule is None else ("scheduled", 0.25, 20))
    task.metrics.assert_called_once_with(model, experiment, 3)
    compiled = mock.call(experiment.optimizer.return_value, experiment.loss, metrics=task.metrics.return_value)
    assert model.compile.mock_calls == [compiled]


@pytest.fixture
def training(task, monkeypatch):
    """A model whose `fit` tells what it gets, batches of 6 and a monitor."""
    model = mock.Mock()
    model.distribute_strategy.num_replicas_in_sync = 2
    batch = np.arange(6.0), {"labels": np.arange(6)}, np.ones(6)
    task.training.return_value = [batch]
    monkeypatch.setattr(run, "make_monitor", mock.Mock(return_value=mock.Mock(spec=OpenSetMonitor)))
    monkeypatch.setattr(Checkpoint, "restore", lambda checkpoint, model: 2)
    return model


@pytest.mark.parametrize("interactive", [True, False])
def test_fit_gets_all_that_watches_in_order(experiment, task, training, tmp_path, monkeypatch, interactive):
    monkeypatch.setattr(keras.config, "is_interactive_logging_enabled", lambda: interactive)
    assert run.fit(training, experiment, SPLITS, tmp_path) is training.fit.return_value
    task.training.assert_called_once_with(training, "train", experiment, 2 * 5)
    ((batches,), given) = training.fit.call_args
    assert batches is run.make_monitor.return_value.watch_input.return_value
    assert "validation_data" not in given  # the monitor makes that pass
    settings = {"epochs": 4, "initial_epoch": 2, "steps_per_epoch": 5, "verbose": 0, "shuffle": False}
    assert {name: given[name] for name in settings} == settings
    own, stop, board, checkpoint, *progress = given["callbacks"]
    assert (type(stop), type(checkpoint)) == (StopOnNaN, Checkpoint)
    assert stop.checkpoint == checkpoint.folder == tmp_path / "checkpoints"
    ((*place, (images, y, weights)), _) = run.make_monitor.call_args  # the share of one of two replicas
    assert place == [training, experiment, SPLITS, tmp_path / "logs"]
    assert (images.tolist(), y["labels"].tolist(), weights.tolist()) == ([0, 1, 2], [0, 1, 2], [1, 1, 1])
    assert own is run.make_monitor.return_value
    own.watch_input.assert_called_once_with(task.training.return_value, training)
    assert (type(board), board.log_dir, board.write_graph) == (keras.callbacks.TensorBoard, f"{tmp_path}/logs", False)
    assert [(type(line), line.batch_size, line.figures) for line in progress] == (
        [(Progress, 6, task.headline)] if interactive else []
    )


def test_a_training_that_ended_is_not_begun_again(experiment, training, tmp_path):
    experiment.length.return_value = 2, 5
    assert isinstance(run.fit(training, experiment, SPLITS, tmp_path), keras.callbacks.History)
    assert not training.fit.called
    experiment.length.return_value = 3, 5
    assert run.fit(training, experiment, SPLITS, tmp_path) is training.fit.return_value


@pytest.mark.parametrize("stopped", [0, 3])
def test_a_training_that_is_patient(experiment, task, training, tmp_path, monkeypatch, stopped):
    """Early stopping comes before the checkpoint, which keeps its state; at its end the model has its best weights."""
    experiment.patience, task.watched.return_value = 7, "val_figure"
    ended = []

    def restore(checkpoint, model):
        checkpoint.stopping.stopped_epoch = stopped
        return 2

    monkeypatch.setattr(Checkpoint, "restore", restore)
    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_train_end", lambda own: ended.append(own.model))
    run.fit(training, experiment, SPLITS, tmp_path)
    assert (training.fit.called, ended) == (not stopped, [training] if stopped else [])
    task.watched.assert_called_once_with(experiment, SPLITS)
    if not stopped:
        callbacks = training.fit.call_args[1]["callbacks"]
        *_, board, stopping, checkpoint = (own for own in callbacks if not isinstance(own, Progress))
        assert (type(board), stopping) == (keras.callbacks.TensorBoard, checkpoint.stopping)
        assert (stopping.monitor, stopping.patience, stopping.mode) == ("val_figure", 7, "max")
        assert stopping.restore_best_weights


def test_runs_that_were_stopped_are_told_by_name(tmp_path, printed):
    for name, epochs in {"digits": [], "digits-2": [1, 12], "digits-3": [], "digits-x": [3], "other": [3]}.items():
        (tmp_path / name).mkdir()
        told = {"command": None if name == "digits-2" else {"config": "digits"}}
        (tmp_path / name / "config.json").write_text(json.dumps(told), encoding="utf-8")
        for epoch in epochs:
            (tmp_path / name / "checkpoints" / f"epoch-{epoch:06d}").mkdir(parents=True)
    (tmp_path / "digits-3" / "metrics.json").touch()
    run.tell_stopped(tmp_path, "digits")
    assert [flush for _, flush in printed] == [True, True]
    first, second = (text for text, _ in printed)
    start = f"{tmp_path}/digits was stopped before the end of its first epoch: python train.py --resume"
    assert first == f"{start} {tmp_path}/digits"
    assert second == f"{tmp_path}/digits-2 was stopped after epoch 12: experiment.run(resume='{tmp_path}/digits-2')"


def test_resume_runs_the_command_again_in_the_same_directory(tmp_path, monkeypatch):
    from cplus1_keras import configs

    given = mock.Mock()
    monkeypatch.setattr(configs, "resolve", given.resolve)
    monkeypatch.setattr(run, "run", given.run)
    command = {"config": "digits", "set": ["epochs=3"]}
    directory = pathlib.Path(tmp_path / "digits")
    for told, files, message in (
        (None, [], f"{directory} is no run: it lacks config.json"),
        ({"command": None}, [], "does not tell how the run was made"),
        ({"command": command}, ["metrics.json"], "is finished"),
    ):
        directory.mkdir(exist_ok=True)
        if told:
            (directory / "config.json").write_text(json.dumps(told), encoding="utf-8")
        for name in files:
            (directory / name).touch()
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            run.resume(directory)
    (directory / "checkpoints").mkdir()  # judged, but not exported
    assert run.resume(str(directory)) is given.run.return_value
    given.resolve.assert_called_once_with("digits", ["epochs=3"])
    given.run.assert_called_once_with(given.resolve.return_value, resume=directory)
    (directory / "saved_model" / "1").mkdir(parents=True)  # exported, but not tidied up
    assert run.resume(directory) == directory
    assert not (directory / "checkpoints").exists()
    assert given.run.call_count == 1


def test_a_failure_removes_what_it_began_and_nothing_else(tmp_path):
    new, old, trained, judged = (tmp_path / name for name in ("new", "old", "trained", "judged"))
    for directory in (new, old, trained, judged):
        directory.mkdir()
        (directory / "config.json").write_text('{"command": {"config": "digits"}}')
    (trained / "checkpoints" / "epoch-000012").mkdir(parents=True)
    (judged / "metrics.json").touch()
    assert run.tell_kept(new, new=True) == f"No epoch was finished; {new} is removed."
    assert run.tell_kept(old) == f"Kept: 0 epochs. Go on with: python train.py --resume {old}"
    assert run.tell_kept(trained, new=True) == f"Kept: 12 epochs. Go on with: python train.py --resume {trained}"
    assert run.tell_kept(judged, new=True) == f"The run is finished: {judged}"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["judged", "old", "trained"]


def test_a_folder_that_is_no_run_is_left_alone(experiment, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match=r"is no run: it lacks config\.json"):
        run.run(experiment, resume=tmp_path)
    assert (tmp_path / "letter.txt").is_file()


def test_a_folder_that_cannot_be_written_is_told(experiment, tmp_path, monkeypatch):
    def read_only(*given):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(run, "describe", lambda given: {"name": given.name})
    with monkeypatch.context() as context:
        context.setattr(run, "new_directory", read_only)
        with pytest.raises(
            OSError, match=r"^No run can begin in .*runs: Read-only file system\. Choose another folder"
        ):
            run._begin(experiment, tmp_path / "runs", None)
    assert not list((tmp_path / "runs").iterdir())
    command = {"config": "digits", "set": []}
    directory = run._begin(experiment, tmp_path / "runs", command)
    assert directory == tmp_path / "runs" / "spied"
    told = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert told == {"repeat": "python train.py --config digits", "command": command, "name": "spied"}
    assert list((tmp_path / "runs").iterdir()) == [directory]
