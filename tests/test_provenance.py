"""Results say where they come from."""

import dataclasses
import datetime
import json
import pathlib
import platform
import re
import subprocess
import time

import pytest

from cplus1_keras import configs
from cplus1_keras import provenance as provenance_of
from cplus1_keras.epilogue import epilogue
from cplus1_keras.provenance import as_sentence, describe, provenance, to_repeat, write_json


def test_provenance_is_json_and_names_versions():
    values = json.loads(json.dumps(provenance()))
    assert values["cpus"] >= 1
    assert values["packages"]["keras"].startswith("3.")
    assert values["commit"] is None or re.fullmatch(r"[0-9a-f]{12}(\+changes)?", values["commit"])


def git(folder, *arguments):
    named = ("-c", "user.name=some", "-c", "user.email=some@where")
    subprocess.run(["git", *named, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_tells_of_changes_but_not_of_results(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (tmp_path / "docs" / "results").mkdir(parents=True)
    package.mkdir()
    monkeypatch.setattr(provenance_of, "__file__", str(package / "provenance.py"))
    assert provenance()["commit"] is None
    program, result = package / "program.py", tmp_path / "docs" / "results" / "digits.md"
    for file in (program, result, tmp_path / "train.py"):
        file.write_text("1", encoding="utf-8")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    clean = provenance()["commit"]
    assert re.fullmatch("[0-9a-f]{12}", clean)
    result.write_text("2", encoding="utf-8")
    (package / "untracked.py").touch()
    assert provenance()["commit"] == clean
    for file in (program, tmp_path / "train.py"):  # beside the package, too
        file.write_text("2", encoding="utf-8")
        assert provenance()["commit"] == f"{clean}+changes"
        file.write_text("1", encoding="utf-8")
    assert provenance()["commit"] == clean


@pytest.mark.parametrize("error", [OSError("no git"), subprocess.TimeoutExpired("git", 10)])
def test_without_git_there_is_no_commit(monkeypatch, error):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(provenance_of.subprocess, "run", fail)
    assert provenance()["commit"] is None


def test_dates_are_utc_and_packages_those_that_are_there(monkeypatch):
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    monkeypatch.setattr(provenance_of, "PACKAGES", ("numpy", "no-such-package"))
    try:
        values = provenance()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert list(values["packages"]) == ["numpy"]
    assert values["date"].endswith("+00:00")
    gap = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(values["date"])
    assert abs(gap.total_seconds()) < 60
    assert values["machine"].startswith(platform.system())


def test_json_is_written_whole_and_without_nan(tmp_path):
    path = tmp_path / "new" / "results.json"
    write_json(path, {"auroc": 0.5, "name": "Fürst"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"auroc": 0.5, "name": "Fürst"}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"auroc": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["auroc"] == 0.5
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_as_sentence():
    where = {"machine": "EPYC", "cpus": 2, "packages": {"keras": "3.15.1"}, "commit": "ab12", "date": "2026-11-20"}
    assert as_sentence(where) == "EPYC, 2 CPUs; keras 3.15.1; commit ab12, 2026-11-20."


def test_a_users_own_commit_stands_beside_that_of_the_package(tmp_path, monkeypatch):
    for name in ("package", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text(name, encoding="utf-8")
        git(tmp_path / name, "init")
        git(tmp_path / name, "add", ".")
        git(tmp_path / name, "commit", "-m", name)
    monkeypatch.setattr(provenance_of, "__file__", str(tmp_path / "package" / "provenance.py"))
    monkeypatch.chdir(tmp_path / "package")
    assert "own_commit" not in provenance()
    monkeypatch.chdir(tmp_path / "own")
    (tmp_path / "own" / "code.py").write_text("changed", encoding="utf-8")
    told = provenance()
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=tmp_path / "own", capture_output=True, text=True
    )
    assert told["own_commit"] == head.stdout.strip() + "+changes"
    assert told["commit"] != told["own_commit"]


def test_a_config_tells_how_to_run_again_or_where_its_code_is():
    inside = lambda seed: None  # noqa: E731
    experiment = dataclasses.replace(configs.resolve("digits"), data=inside)
    assert describe(experiment)["data"].endswith(f"<lambda> ({__file__}, line {inside.__code__.co_firstlineno})")
    assert describe(configs.resolve("digits"))["data"] == "cplus1_keras.configs.digits.splits"
    command = {"config": "camvid", "set": ["root=my data", "epochs=3"], "deterministic": True}
    assert to_repeat(command) == "python train.py --config camvid --set 'root=my data' --set epochs=3 --deterministic"
    assert to_repeat(None).startswith("Made in Python")


def test_a_note_stands_beside_the_promise():
    note = configs.resolve("camvid").note
    assert "seven seconds of one drive" in note
    at = {"ccr": 0.9, "coverage": 0.95, "fpr_negative": 0.1, "fpr_unknown": None}
    figures = {"open_set": {}, "at_threshold": at, "seconds": 1.0}
    task, folder = configs.resolve("digits").task, pathlib.Path("runs/x")
    assert f"Note: {note}" in epilogue(task, {**figures, "note": note}, "a threshold", folder, folder)
    assert "Note" not in epilogue(task, {**figures, "note": ""}, "a threshold", folder, folder)
