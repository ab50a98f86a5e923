"""No run overwrites another."""

from cplus1_keras.directory import new_directory


def test_runs_of_one_name_are_numbered(tmp_path):
    paths = [new_directory(tmp_path / "runs", "digits") for _ in range(3)]
    assert [path.name for path in paths] == ["digits", "digits-2", "digits-3"]
    assert all(path.is_dir() for path in paths)
