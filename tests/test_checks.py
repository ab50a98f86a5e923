"""What is told before the first epoch of models and disks."""

import collections
import errno
import os

import keras
import pytest

from cplus1_keras import checks


def model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


def test_a_full_disk_is_no_fault_of_the_model(monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    small = model()
    assert checks.check_model(small) > 1000
    monkeypatch.setattr(small, "save", full)
    with pytest.raises(OSError, match=r"cannot be saved in .* to try it: No space left on device\. Make room"):
        checks.check_model(small)
    monkeypatch.setattr(small, "save", lambda path: path.write_bytes(b"no model"))
    with pytest.raises(ValueError, match="cannot be saved and loaded again, so its training would be lost"):
        checks.check_model(small)


def test_a_small_disk_is_told_and_what_a_stopped_run_holds_is_counted(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda folder: usage(14 * 2**20))
    with pytest.raises(ValueError, match=r"may need 15 MiB .* has 14 MiB left\. Make room"):
        checks.check_disk(tmp_path, 2**20)
    (tmp_path / "checkpoints" / "epoch-000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "epoch-000001" / "model.weights.h5").write_bytes(bytes(2**20))
    checks.check_disk(tmp_path, 2**20)
