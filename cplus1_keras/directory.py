"""Run directories: each run gets one of its own, one process writes to it, and nothing in it is half-written."""

import contextlib
import fcntl
import itertools
import os
import pathlib
import shutil
import time

CHECKPOINTS = "checkpoints"
"""In a run's directory until the run is finished: what it goes on from."""

UNFINISHED = ".unfinished-"
"""Begins the names of what is being written; only a process that was killed leaves them."""


@contextlib.contextmanager
def unfinished(path):
    """A hidden path beside a path, for a file or folder that is renamed when it is whole; what stays there is removed.

    >>> with unfinished("answer.txt") as hidden:
    ...     _ = hidden.write_text("42")
    ...     _ = hidden.replace("answer.txt")
    >>> pathlib.Path("answer.txt").read_text()
    '42'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    remove(hidden)
    try:
        yield hidden
    except OSError as error:
        if error.errno is not None:  # its sentence tells the name that a person knows
            error.filename = str(error.filename or path).replace(str(hidden), str(path))
        raise
    finally:
        remove(hidden)


def remove(path):
    """Delete a file or a folder, or as much of it as can be deleted; nothing where nothing is there."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path, ignore_errors=True)
        except KeyboardInterrupt:  # what is half gone goes whole, and then the program ends
            shutil.rmtree(path, ignore_errors=True)
            raise
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def clean(folder, pattern="**/", age=0.0):
    """Delete what killed processes left unfinished in the folders of a pattern, if it is `age` seconds old."""
    for path in [*pathlib.Path(folder).glob(f"{pattern}{UNFINISHED}*")]:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= age:
                remove(path)


def move_all(folder, target):
    """Rename all that is in a folder into another, in place of what has the same name there."""
    for path in sorted(folder.iterdir()):
        if (target / path.name).is_dir():
            remove(target / path.name)
        path.replace(target / path.name)


def new_directory(folder, path):
    """Rename a folder to a path, or to `path-2`, `-3` ... if something is there: no run overwrites another.

    Args:
        folder: A folder that is whole, beside `path`.
        path: Its name from now on.

    Returns:
        `pathlib.Path` of the directory.

    >>> with unfinished("runs/digits") as folder:
    ...     folder.mkdir()
    ...     new_directory(folder, "runs/digits").name
    'digits'
    """
    path = pathlib.Path(path)
    for number in itertools.count(1):
        directory = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if os.path.lexists(directory):
            continue
        try:
            return folder.rename(directory)
        except OSError:
            if not os.path.lexists(directory):  # else another process was faster
                raise


@contextlib.contextmanager
def hold(directory):
    """Keep a run's directory for this process, until the block or the process ends.

    Raises:
        RuntimeError: Another process holds it.

    >>> with hold("."):
    ...     is_held(".")
    True
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another process writes to {directory}. Wait for its end, or stop it.") from error
        except OSError:
            pass  # this file system has no locks
        yield
    finally:
        os.close(handle)


def is_held(directory):
    """Whether a process holds a run's directory."""
    try:
        with hold(directory):
            return False
    except RuntimeError:
        return True
