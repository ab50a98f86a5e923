"""The command line, as a person uses it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from absl import logging

from cplus1_keras import train

ROOT = pathlib.Path(__file__).parent.parent


def command(*arguments):
    plain = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    given = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300, "env": plain}
    return subprocess.run([sys.executable, *arguments], **given)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; what a command changes for its process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    level = logging.get_verbosity()
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.set_verbosity(level)


def test_a_run_ends_with_the_table_the_threshold_and_the_next_commands(tmp_path):
    result = command("train.py", "--workdir", str(tmp_path), "--set", "epochs=1")
    assert result.returncode == 0, result.stderr
    assert not result.stderr  # TensorFlow's notes on its start are held back
    for wanted in ("| group", "unknown", "ccr_at_fpr_0.1", "at 95 % confidence", "tensorboard --logdir"):
        assert wanted in result.stdout
    again = command("-m", "cplus1_keras.judge", str(tmp_path / "digits"), "--set", "fpr=0.4", "--adopt")
    assert again.returncode == 0, again.stderr
    report = json.loads((tmp_path / "digits" / "judge" / "metrics.json").read_text(encoding="utf-8"))
    assert report["calibration"]["target"] == 0.4
    kept = json.loads((tmp_path / "digits" / "calibration.json").read_text(encoding="utf-8"))
    assert kept["calibration"] == report["calibration"]
    exported = command("-m", "export", str(tmp_path / "digits"))
    assert exported.returncode == 0, exported.stderr
    assert {path.name for path in (tmp_path / "digits" / "saved_model").iterdir()} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config", "digit"], "train.py: No config is named 'digit'. Did you mean 'digits'?"),
        (["--set", "epoch=3"], "Did you mean 'epochs'"),
        (["digits"], "takes options only"),
    ],
)
def test_mistakes_end_with_a_sentence_instead_of_a_traceback(arguments, told, here, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(arguments)
    assert stop.value.code not in (None, 0)
    assert told in f"{stop.value.code}{capsys.readouterr().err}"


def test_a_dry_run_says_what_the_run_will_take_and_writes_nothing(here, capsys):
    train.main(["--dry-run"])
    shown = capsys.readouterr().out
    assert "25 epochs of 20 steps" in shown
    assert "of training" in shown
    assert not list(here.iterdir())


@pytest.mark.slow
def test_a_run_that_was_stopped_says_how_to_go_on_and_does(tmp_path):
    slow = [sys.executable, "train.py", "--workdir", str(tmp_path), "--set", "epochs=2000"]
    with subprocess.Popen(slow, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.terminate()
                break
        _, told = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "train.py: stopped." in told
    assert f"--resume {tmp_path / 'digits'}" in told
    assert "Traceback" not in told
    config = tmp_path / "digits" / "config.json"
    done = max(int(path.name[-6:]) for path in (tmp_path / "digits" / "checkpoints").glob("epoch-*"))
    text = config.read_text(encoding="utf-8").replace("epochs=2000", f"epochs={done + 2}")
    config.write_text(text, encoding="utf-8")
    resumed = command("train.py", "--resume", str(tmp_path / "digits"))
    assert resumed.returncode == 0, resumed.stderr
    lines = [line.split()[1] for line in resumed.stdout.splitlines() if line.startswith("epoch ")]
    assert lines == [f"{done + 1}/{done + 2}", f"{done + 2}/{done + 2}"]
    assert (tmp_path / "digits" / "metrics.json").is_file()


def test_help_and_list_are_worth_reading(here, capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert "--workdir" in capsys.readouterr().out
    train.main(["--list"])
    listed = capsys.readouterr().out
    assert "digits" in listed
    assert "scikit-learn" in listed
