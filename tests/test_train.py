"""The command line, as a person uses it."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def command(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_run_ends_with_the_table_the_threshold_and_the_next_commands(tmp_path):
    result = command("train.py", "--workdir", str(tmp_path), "--set", "epochs=1")
    assert result.returncode == 0, result.stderr
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
def test_mistakes_end_with_a_sentence_instead_of_a_traceback(arguments, told):
    result = command("train.py", *arguments)
    assert result.returncode != 0
    assert told in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_a_dry_run_says_what_the_run_will_take_and_writes_nothing(tmp_path):
    result = command("train.py", "--workdir", str(tmp_path), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "25 epochs of 20 steps" in result.stdout
    assert "of training" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_stopped_says_how_to_go_on_and_does(tmp_path):
    slow = [sys.executable, "train.py", "--workdir", str(tmp_path), "--set", "epochs=2000"]
    with subprocess.Popen(slow, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.terminate()
                break
        _, told = process.communicate(timeout=120)
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


def test_help_and_list_are_worth_reading():
    assert "--workdir" in command("train.py", "--help").stdout
    listed = command("train.py", "--list").stdout
    assert "digits" in listed
    assert "scikit-learn" in listed
