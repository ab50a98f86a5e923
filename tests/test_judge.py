"""Judging a finished run again: which threshold, on which splits, what it writes and what it leaves alone."""

import functools
import json
import pathlib
import re
import shutil
import sys

import keras
import numpy as np
import pytest
from matplotlib import figure

import cplus1_keras
from cplus1_keras import calibration, configs, data, serving
from cplus1_keras import judge as module
from cplus1_keras.judge import judge, main
from cplus1_keras.metrics import accumulators, bootstrap

SETTINGS = ["seed=3", "fpr=0.3"]


def others(seed):
    """The same classes, other images, of which none has another source."""
    return data.split(data.protocols.digits(), data.sources.digits(), test_fraction=0.5, seed=seed + 10)


def less(seed):
    return data.split(data.Protocol(known=("0", "1"), others="negative"), data.sources.digits(), seed=seed)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Intervals from few replications, pictures without pixels: both take longer than all that is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulators, "bootstrap", lambda *given, **more: bootstrap(*given, **{**more, "samples": 40}))
        patch.setattr(figure.Figure, "savefig", lambda self, path: pathlib.Path(path).touch())
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the digits, untrained, with a threshold that no calibration gives."""
    run = tmp_path_factory.mktemp("finished") / "digits"
    experiment = configs.resolve("digits", SETTINGS)
    keras.utils.set_random_seed(0)
    splits, model = experiment.data(3), experiment.model(6)
    every = experiment.task.predictor(model, experiment.score, splits)
    found = calibration.threshold_at_fpr(np.linspace(-2.0, -1.1, 300), 0.5, score="log_odds")
    serving.save(run, experiment.task.with_calibration(every, found))
    command = {"command": {"config": "digits", "set": SETTINGS}}
    (run / "config.json").write_text(json.dumps(command), encoding="utf-8")
    return run


@pytest.fixture
def run(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "digits"))


def figures(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def scores(run, split):
    images = np.stack([example["image"] for example in split.dataset().as_numpy_iterator()])
    return cplus1_keras.load(run).predict(images)["score"]


def test_a_run_is_judged_by_its_own_threshold_and_left_alone(run, capsys, monkeypatch):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr(module.time, "monotonic", iter([100.0, 112.34]).__next__)
    folder = judge(run)
    assert folder == run / "judge"
    assert {name: (run / name).read_bytes() for name in before} == before
    assert {path.name for path in run.iterdir()} == {*before, "judge"}
    files = {path.name for path in folder.iterdir()}
    wanted = "metrics.json predictions.csv oscr.png scores.png accepted_unknowns.png evidence.json report.html"
    assert files == {*wanted.split()}
    told, split = figures(folder), configs.resolve("digits", SETTINGS).data(3).test
    assert (told["name"], told["fpr"], told["seconds"]) == ("digits", 0.3, 12.3)
    assert told["calibration"] == cplus1_keras.load(run).calibration.to_dict()
    accepted = scores(run, split) >= np.float32(told["calibration"]["threshold"])
    assert told["at_threshold"]["coverage"] == pytest.approx(accepted[split.labels >= 0].mean())
    assert 0 < told["at_threshold"]["coverage"] < 1
    out = capsys.readouterr().out
    assert f"{run / 'saved_model' / '1'}" in out
    assert f"are in {folder}" in out
    assert "At this threshold" in out


def test_another_rate_calibrates_anew_on_the_calibration_split(run):
    folder = judge(run, ["fpr=0.4"])
    experiment = configs.resolve("digits", [*SETTINGS, "fpr=0.4"])
    split = experiment.data(3).calibration
    own = scores(run, split)
    wanted = calibration.threshold_at_fpr(own[split.labels == -1], 0.4, score="log_odds").to_dict()
    found = figures(folder)["calibration"]
    sample, kept = found.pop("sample"), calibration.keep_scores(split.labels, own)
    assert wanted.pop("sample") is None
    assert found == pytest.approx(wanted)
    assert sample["negative"] == pytest.approx(kept["negative"])
    assert sample["known"] == pytest.approx(kept["known"])
    own = cplus1_keras.load(run).calibration
    assert own.target == 0.5
    assert judge(run, ["batch_size=7"]) == run / "judge-2"  # no rate: the run's own threshold
    assert figures(run / "judge-2")["calibration"] == own.to_dict()


@pytest.mark.parametrize("given", [others, "given_splits.others"])
def test_other_splits(run, given, monkeypatch):
    find = configs.find
    monkeypatch.setattr(configs, "find", lambda name: others if name == "given_splits.others" else find(name))
    folder = judge(run, data=given)
    assert figures(folder)["images"] == len(others(3).test) != len(configs.resolve("digits", SETTINGS).data(3).test)
    with pytest.raises(ValueError, match=r"answers with \['0', .* these splits know \['0', '1'\]"):
        judge(run, data=less)


def test_a_threshold_that_is_adopted_is_the_runs_and_exported(run, monkeypatch):
    compared = []
    monkeypatch.setattr(serving.Predictor, "export", lambda self, path, samples: compared.append((path, samples)))
    folder = judge(run, ["fpr=0.4"], adopt=True)
    kept = cplus1_keras.load(run).calibration
    assert (kept.target, kept.to_dict()) == (0.4, figures(folder)["calibration"])
    ((path, samples),) = compared
    assert path == run / "saved_model" / "1"
    split = configs.resolve("digits", SETTINGS).data(3).test
    first = [example["image"] for example in split.subset(range(32)).dataset().as_numpy_iterator()]
    np.testing.assert_array_equal(samples, first)
    judge(run, adopt=True)
    assert cplus1_keras.load(run).calibration.target == 0.3  # that of the run's settings


def test_a_run_that_does_not_tell_its_config_is_told_it(run):
    wanted = functools.partial(module._command, run)
    assert wanted(None, ["fpr=0.4"]) == ("digits", [*SETTINGS, "fpr=0.4"])
    assert wanted("mine", ["fpr=0.4"]) == ("mine", ["fpr=0.4"])
    (run / "config.json").write_text("{}", encoding="utf-8")
    assert wanted("mine", []) == ("mine", [])
    with pytest.raises(ValueError, match="does not tell by which config"):
        wanted(None, [])
    (run / "config.json").unlink()
    assert wanted("mine", []) == ("mine", [])
    with pytest.raises(ValueError, match=r"--config my_module\.my_function"):
        wanted(None, [])


def test_the_command_line(monkeypatch, tmp_path, capsys):
    given = []
    monkeypatch.setattr(module, "judge", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    main(["RUN"])
    main(["RUN", "--set", "fpr=0.1", "--set", "seed=2", "--data", "a.b", "--config", "c", "--adopt"])
    assert given == [("RUN", [], None, None, False), ("RUN", ["fpr=0.1", "seed=2"], "a.b", "c", True)]
    assert sys.path[0] == str(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "120")
    for words in (
        "python -m cplus1_keras.judge RUN --set fpr=0.05 --adopt           and keep the new threshold in the run",
        "RUN directory that train.py wrote",
        "--set NAME=VALUE fpr, coverage, confidence, or a setting of the task; may be repeated",
        "dotted name of a function from a seed to data.Splits",
        "config of the run, where its config.json does not tell",
        "keep the new threshold in the run, and export it",
    ):
        assert words in " ".join(told.split()) or words in told, words


MISTAKES = [ValueError("no rate"), FileNotFoundError("no run"), RuntimeError("held")]


@pytest.mark.parametrize(
    ("error", "told"),
    [*((error, f"Not judged. {error}") for error in MISTAKES), (KeyboardInterrupt(), "Not judged: stopped.")],
)
def test_mistakes_end_in_a_sentence(monkeypatch, error, told):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(module, "judge", refuse)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit, match=re.escape(told)):
        main(["RUN"])
