"""The command line, as a person uses it."""

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
    exported = command("-m", "export", str(tmp_path / "digits"))
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "digits" / "saved_model" / "2" / "saved_model.pb").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config", "digit"], "train.py: No config is named 'digit'. Did you mean 'digits'?"),
        (["--set", "epoch=3"], "Did you mean 'epochs'"),
        (["digits"], "takes flags only"),
    ],
)
def test_mistakes_end_with_a_sentence_instead_of_a_traceback(arguments, told):
    result = command("train.py", *arguments)
    assert result.returncode != 0
    assert told in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_help_and_list_are_worth_reading():
    assert "--workdir" in command("train.py", "--help").stdout
    listed = command("train.py", "--list").stdout
    assert "digits" in listed
    assert "scikit-learn" in listed
