"""Runs of train.py that die where they are told to: real processes, forked from one that has imported all already.

`Zygote` starts the process; `python tests/zygote.py` is that process. Nothing of TensorFlow runs in it, so that each
child begins as `python train.py` does.

A run's file operations are counted, in its --workdir, and an end can be asked for at one of them: a signal just before
it, with the file that was to be opened for writing half-written, or a disk that is full from then on. `contents` is
what is compared in the end.
"""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing
import zipfile

ROOT = pathlib.Path(__file__).parent.parent
WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


class Result(typing.NamedTuple):
    """How a run ended."""

    code: int  # exit status, below 0 for a signal
    seconds: float
    text: str  # what it wrote to the terminal
    operations: list  # names of its file operations, in their order


class Zygote:
    """A process that forks runs of train.py, one at a time."""

    def __init__(self, folder, hash_seed=0):
        self.folder, self.number = pathlib.Path(folder), 0
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        given = {"PYTHONPATH": paths, "PYTHONHASHSEED": str(hash_seed), "TF_CPP_MIN_LOG_LEVEL": "3"}
        given["XDG_CACHE_HOME"] = str(self.folder.parent)  # one for all: tables name files
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, **given},
        )

    def run(self, *arguments, end=None, number=signal.SIGKILL, after=None, full=None, filler=None):
        """Run train.py with a command line.

        Args:
            *arguments: Its command line.
            end: Number of the file operation before which it gets a signal, or None.
            number: That signal.
            after: Seconds from its start after which it gets the signal, or None.
            full: Number of the file operation from which on the disk is full, or None.
            filler: File that fills the disk then; None raises what a full disk does.

        Returns:
            A `Result`.
        """
        self.number += 1
        log = self.folder / f"{self.number}.log"
        order = {"arguments": arguments, "log": str(log), "end": end, "signal": int(number), "after": after}
        self.process.stdin.write(json.dumps({**order, "full": full, "filler": filler and str(filler)}) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        operations = pathlib.Path(f"{log}.operations")
        names = operations.read_text(encoding="utf-8").splitlines() if operations.is_file() else []
        return Result(told["code"], told["seconds"], log.read_text(encoding="utf-8", errors="replace"), names)

    def close(self):
        """End the process."""
        self.process.communicate(timeout=60)


def contents(run):
    """All that a finished run holds, to the bit, but times and places: a dict of plain values."""
    import h5py

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            weights[name] = item[()].tobytes().hex()

    weights = {}
    with zipfile.ZipFile(run / "model.keras") as archive, h5py.File(archive.open("model.weights.h5")) as file:
        file.visititems(keep)
    figures, found = (json.loads((run / name).read_text("utf-8")) for name in ("metrics.json", "calibration.json"))
    for values, names in ((figures, ("seconds", "provenance")), (found, ("model",))):
        for name in names:
            del values[name]
    files = sorted(str(path.relative_to(run)) for path in run.rglob("*") if "logs" not in path.parts)
    tables = [path.read_text("utf-8") for path in sorted(run.glob("*.csv"))]
    return {"files": files, "figures": figures, "calibration": found, "tables": tables, "weights": weights}


def serve():
    """Fork a run for each line of the standard input, and tell its end."""
    import h5py  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401

    from cplus1_keras import train

    told = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        start, pid = time.monotonic(), os.fork()
        if not pid:
            _become(train.main, order)
        code = None
        if order["after"] is not None:
            while code is None and time.monotonic() - start < order["after"]:
                done, status = os.waitpid(pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if done else None
                time.sleep(0.005)
            if code is None:
                os.kill(pid, order["signal"])
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if code is None else code
        told.write(json.dumps({"code": code, "seconds": time.monotonic() - start}) + "\n")
        told.flush()


def _become(main, order):
    """What the child is from now on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as train.py has it until its main begins
    handle = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    arguments, code = order["arguments"], 0
    folder = next((arguments[i + 1] for i, name in enumerate(arguments) if name in ("--workdir", "--resume")), None)
    watch = Watch(str(pathlib.Path(folder).resolve()), f"{order['log']}.operations", order)
    watch.begin()
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 3
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


class Watch:
    """Counts and names file operations in a folder, and ends the process at one of them."""

    def __init__(self, folder, file, order):
        self.folder, self.order, self.count, self.inside = folder, order, 0, False
        self.file = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)

    def begin(self):
        import h5py

        create = h5py.Group.create_dataset

        def create_dataset(group, name, *arguments, **settings):
            self.tell("dataset", group.file.filename)
            return create(group, name, *arguments, **settings)

        h5py.Group.create_dataset = create_dataset  # HDF5 writes by itself; this is in the middle of its file
        sys.addaudithook(self.hear)

    def hear(self, event, given):
        if self.inside or event not in WATCHED or not given:
            return
        path = os.fsdecode(given[0]) if isinstance(given[0], str | bytes | os.PathLike) else ""
        if event == "open":
            writes = given[2] is not None and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not os.path.abspath(path).startswith(self.folder):
                return
        relative = event in ("os.remove", "os.rmdir", "os.mkdir") and given[-1] not in (-1, None)
        if relative or os.path.abspath(path).startswith(self.folder):
            self.tell(event.removeprefix("os."), path)

    def tell(self, what, path):
        if self.inside:
            return
        self.inside = True
        try:
            name = f"{what} {path.removeprefix(self.folder)}"
            os.write(self.file, (name + "\n").encode())
            if self.order["end"] == self.count:
                if what == "open":
                    torn = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                    os.write(torn, b'{"half')
                os.kill(os.getpid(), self.order["signal"])
            full, filler = self.order["full"], self.order["filler"]
            if filler and self.count == full:
                with contextlib.suppress(OSError), open(filler, "wb") as file:
                    while True:
                        file.write(bytes(2**12))
                        file.flush()
            elif full is not None and not filler and self.count >= full and what in ("open", "mkdir", "dataset"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        finally:
            self.count += 1
            self.inside = False


if __name__ == "__main__":
    serve()
