"""No run overwrites another, no file is half-written, and two processes never write to one run."""

import os
import signal
import subprocess
import sys

import pytest

from cplus1_keras.directory import clean, hold, is_held, move_all, new_directory, remove, unfinished


def begin(path):
    with unfinished(path) as folder:
        folder.mkdir()
        return new_directory(folder, path)


def test_runs_of_one_name_are_numbered(tmp_path):
    paths = [begin(tmp_path / "runs" / "digits") for _ in range(3)]
    assert [path.name for path in paths] == ["digits", "digits-2", "digits-3"]
    assert sorted((tmp_path / "runs").iterdir()) == paths
    (tmp_path / "runs" / "digits-4").write_text("a file")
    assert begin(tmp_path / "runs" / "digits").name == "digits-5"


def test_what_fails_leaves_nothing_and_names_what_a_person_asked_for(tmp_path):
    def fill(path, error):
        with unfinished(path) as hidden:
            hidden.write_text("half")
            raise error

    with pytest.raises(OSError, match="No space left") as caught:
        fill(tmp_path / "new" / "a.txt", OSError(28, "No space left on device"))
    assert str(caught.value) == f"[Errno 28] No space left on device: '{tmp_path / 'new' / 'a.txt'}'"
    with pytest.raises(OSError, match=r"^Unable to write$"):
        fill(tmp_path / "new" / "a.txt", OSError("Unable to write"))  # as HDF5 does
    with pytest.raises(FileNotFoundError) as caught, unfinished(tmp_path / "folder") as hidden:
        (hidden / "part.txt").write_text("no folder yet")
    assert str(caught.value).endswith(f"'{tmp_path / 'folder' / 'part.txt'}'")
    assert list(tmp_path.rglob("*")) == [tmp_path / "new"]


def test_leftovers_of_a_killed_process_are_cleaned(tmp_path):
    for name in (".unfinished-1-a.json", "checkpoints/.unfinished-7-epoch-000002/state.json", "kept.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{")
    os.utime(tmp_path / ".unfinished-1-a.json", (0, 0))
    clean(tmp_path, age=60)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "kept.json"}
    assert list((tmp_path / "checkpoints").iterdir())
    clean(tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_files_and_folders_replace_those_of_their_name(tmp_path):
    for folder in ("new", "old"):
        (tmp_path / folder / "pictures").mkdir(parents=True)
        (tmp_path / folder / "pictures" / f"{folder}.png").write_text(folder)
        (tmp_path / folder / "table.csv").write_text(folder)
    (tmp_path / "old" / "other").write_text("stays")
    move_all(tmp_path / "new", tmp_path / "old")
    assert not list((tmp_path / "new").iterdir())
    assert [path.name for path in (tmp_path / "old" / "pictures").iterdir()] == ["new.png"]
    assert (tmp_path / "old" / "table.csv").read_text() == "new"
    assert (tmp_path / "old" / "other").read_text() == "stays"


def test_a_directory_is_held_by_one_process_and_as_long_as_that_lives(tmp_path):
    holder = (
        "import sys, time; sys.path.insert(0, sys.argv[2]); import directory\n"
        "with directory.hold(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    package = str(sys.modules[hold.__module__].__file__).rpartition("/")[0]
    with subprocess.Popen([sys.executable, "-c", holder, tmp_path, package], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert is_held(tmp_path)
        with pytest.raises(RuntimeError, match="Another process writes to"), hold(tmp_path):
            pass
        process.kill()
        process.wait()
    assert not is_held(tmp_path)
    with hold(tmp_path):
        assert is_held(tmp_path)


def test_a_second_signal_does_not_cut_the_tidying_up_of_the_first():
    from cplus1_keras import signals

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signals.stop_on_signals()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # of a program in the background
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_stop_in_the_middle_of_a_removal_comes_after_it(tmp_path, monkeypatch):
    folder, unlink = tmp_path / "epoch-000001", os.unlink
    folder.mkdir()
    for name in "abc":
        (folder / name).touch()
    calls = []

    def interrupt(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return unlink(*arguments, **settings)

    monkeypatch.setattr(os, "unlink", interrupt)
    with pytest.raises(KeyboardInterrupt):
        remove(folder)
    assert not folder.exists()
