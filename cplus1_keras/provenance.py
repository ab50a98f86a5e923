"""Where a result comes from: settings, commit, machine, versions. Every file of results carries it."""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess

from cplus1_keras.directory import unfinished
from cplus1_keras.losses import OpenSetLoss

PACKAGES = ("cplus1-keras", "keras", "tensorflow", "numpy")
ALWAYS = ("learning_rate", "batch_size", "score", "fpr", "confidence", "seed")
"""Settings that are told whether or not they have their defaults."""


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


def describe(experiment):
    """A dataclass of settings and factories as plain values, for `config.json`.

    >>> describe(configs.resolve("digits"))["name"]
    'digits'
    """
    return {**_plain(experiment), "settings": list_settings(experiment), "provenance": provenance()}


def list_settings(experiment):
    """What tells a run from others, for people and for TensorBoard: fields of a dataclass, and of its task, by name.

    Those that have their defaults are left out, but for the few that one asks for.

    Returns:
        Dict of numbers and texts.

    >>> told = list_settings(configs.resolve("digits", ["warmup=0.1", "mixup=0.2"]))
    >>> told["task"], told["mixup"], told["warmup"], told["seed"], "precision" in told
    ('Classification', 0.2, 0.1, 0, False)
    """
    told = {}
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            told |= {field.name: type(value).__name__, **list_settings(value)}
        elif field.name in ALWAYS or not _is_default(field, value):
            told[field.name] = value if isinstance(value, bool | int | float) else _shorten(_plain(value))
    return told


def _is_default(field, value):
    if field.default_factory is not dataclasses.MISSING:
        return value == field.default_factory()
    return field.default is not dataclasses.MISSING and value == field.default


def _shorten(value):
    """A plain setting in a few words: the name of what makes it, and its own settings."""
    if isinstance(value, str):
        return re.sub(r" \(\S+, line \d+\)$", "", value).removeprefix("cplus1_keras.")
    if isinstance(value, list | tuple):
        return ", ".join(map(_shorten, value))
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    if "class_name" in value:  # a loss inside a sum
        return _shorten({"class": value["class_name"], **value["config"]})
    name = value.get("class") or _shorten(value.get("function", "")).rpartition(".")[2]
    if "terms" in value:
        return " + ".join(f"{weight:g} · {_shorten(term)}".removeprefix("1 · ") for weight, term in value["terms"])
    given = {key: own for key, own in value.items() if key not in ("class", "function", "name") and own is not None}
    texts = [f"{'' if key == 'arguments' else key + '='}{_shorten(own)}" for key, own in given.items()]
    return f"{name}({', '.join(texts)})" if texts else name


def to_repeat(command):
    """How a run is made again, for `config.json`; `command` is what `train.py` was told, or None.

    >>> to_repeat({"config": "digits", "set": ["epochs=3"]})
    'python train.py --config digits --set epochs=3'
    """
    if not command:
        return "Made in Python, not by train.py: by the code at these commits, run again."
    words = [word for item in command["set"] for word in ("--set", item)]
    words += ["--deterministic"] if command.get("deterministic") else []
    return shlex.join(["python", "train.py", "--config", command["config"], *words])


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


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return fields if "name" in fields else {"class": type(value).__name__, **fields}
    if isinstance(value, OpenSetLoss):
        return {"class": type(value).__name__, **_plain(value.get_config())}
    if isinstance(value, functools.partial):
        arguments = [_plain(argument) for argument in value.args] or None
        return {"function": _plain(value.func), "arguments": arguments, **_plain(value.keywords)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not hasattr(value, "__qualname__"):
        return repr(value)
    code, name = getattr(value, "__code__", None), f"{value.__module__}.{value.__qualname__}"
    # A function inside another has no name that could be looked up.
    return f"{name} ({code.co_filename}, line {code.co_firstlineno})" if "<" in name and code else name
