"""Where a result comes from: commit, machine, versions. Every file of results carries it."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

from cplus1_keras.directory import unfinished

PACKAGES = ("cplus1-keras", "keras", "tensorflow", "numpy")


def provenance():
    """Commit (None outside a checkout; with "+changes" where files differ), machine, versions and date, for JSON.

    `own_commit` is that of the current folder, where it belongs to another repository.
    """
    package, here = pathlib.Path(__file__).parent, pathlib.Path.cwd()
    own = _git(here, "rev-parse", "--show-toplevel")
    return {
        "commit": _commit(package),
        **({"own_commit": _commit(here)} if own and own != _git(package, "rev-parse", "--show-toplevel") else {}),
        "machine": _machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def as_sentence(origin):
    """What `provenance` gave, for a line below a table."""
    versions = ", ".join(f"{name} {version}" for name, version in origin["packages"].items())
    return f"{origin['machine']}, {origin['cpus']} CPUs; {versions}; commit {origin['commit']}, {origin['date']}."


def write_json(path, values):
    """Write plain values as indented JSON, by rename, so that a reader never meets half a file; NaN is refused."""
    path = pathlib.Path(path)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with unfinished(path) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def read_json(path):
    """The dict of a JSON file, ValueError where it is damaged or holds something else."""
    try:
        values = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it should hold an object. Received: {type(values).__name__}")
    return values


def _git(folder, *arguments):
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _commit(folder):
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    # Results that the run itself writes are no change of the program.
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)docs/results")
    return f"{commit}+changes" if commit and changed else commit


def _machine():
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{platform.system()}, {model}"


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
