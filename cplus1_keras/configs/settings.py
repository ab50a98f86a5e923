"""Settings from a command line: arguments of a config's function, fields of its `Experiment`, fields of its task."""

import ast
import dataclasses
import difflib
import inspect
import types
import typing

from cplus1_keras import optimizers, scores

NAMES = {bool: "True or False", int: "type int", float: "type number", str: "text", types.NoneType: "None"}
NAMES[tuple] = "a tuple like (480,640)"
"""What can be written on a command line."""

NAMED = {"score": (scores.get, (str,)), "schedule": (optimizers.schedule, (str, types.NoneType))}
"""Fields of an experiment that are functions and go by names: what gives the function, and the types of a value."""


def apply(function, name, settings):
    """The experiment of a config's function, with settings as in `configs.resolve`; `name` is for messages."""
    values = dict(_parse(text) for text in settings)
    parameters = inspect.signature(function).parameters
    named = {key: p for key, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    kinds = {key: _kinds_of_argument(p) for key, p in named.items()}
    arguments = {key: _read(key, values[key], kinds[key]) for key in values if key in kinds}
    lacking = [key for key in kinds if parameters[key].default is inspect.Parameter.empty and key not in arguments]
    if lacking:
        raise ValueError(f"The config {name!r} needs {' '.join(f'--set {key}=VALUE' for key in lacking)}")
    experiment = function(**arguments)
    if not dataclasses.is_dataclass(experiment) or not hasattr(experiment, "run"):
        raise ValueError(f"{name!r} is no config, for it returns no Experiment. Received: {experiment!r}")
    fields, changes = settable(experiment), {"experiment": {}, "task": {}}
    for key in values.keys() - arguments.keys():
        if key not in fields:
            raise ValueError(_refusal(key, name, experiment, [*kinds, *fields]))
        owner, allowed = fields[key]
        value = _read(key, values[key], allowed)
        changes[owner][key] = NAMED[key][0](value) if key in NAMED and value is not None else value
    if changes["task"]:
        changes["experiment"]["task"] = dataclasses.replace(experiment.task, **changes["task"])
    return dataclasses.replace(experiment, **changes["experiment"])


def settable(experiment):
    """The fields of an experiment and of its task that a command line can set: dict from name to (owner, types).

    >>> settable(configs.resolve("digits"))["epochs"]
    ('experiment', (<class 'int'>, <class 'NoneType'>))
    """
    found = {}
    for owner, thing in (("experiment", experiment), ("task", getattr(experiment, "task", None))):
        hints = typing.get_type_hints(type(thing)) if dataclasses.is_dataclass(thing) else {}
        for field in dataclasses.fields(thing) if hints else ():
            kinds = NAMED[field.name][1] if field.name in NAMED else _kinds(hints[field.name])
            if not set(kinds) - {types.NoneType}:
                continue
            if field.name in found:
                raise ValueError(f"`{field.name}` is a field of the Experiment and of its task: rename one of them.")
            found[field.name] = (owner, kinds)
    return found


def guess(name, known, told=None):
    """What somebody may have meant by a name, and what there is, or what of it is to be told."""
    known = list(dict.fromkeys(known))
    close = [f"Did you mean {other!r}? " for other in difflib.get_close_matches(name, known, n=1)]
    return "".join(close) + "There are: " + ", ".join(told or known)


def _parse(text):
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"A setting reads name=value, like epochs=3. Received: {text!r}")
    return name, value


def _kinds(hint):
    """The types of an annotation that a command line can give."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return tuple(kind for kind in (typing.get_origin(member) or member for member in members) if kind in NAMES)


def _kinds_of_argument(parameter):
    """Those of a function's argument: by its annotation, or the type of its default; None for anything."""
    if isinstance(parameter.annotation, type | types.UnionType) and parameter.annotation is not parameter.empty:
        return _kinds(parameter.annotation)
    return (type(parameter.default),) if type(parameter.default) in (bool, int, float, str, tuple) else None


def _read(name, text, kinds):
    """The value that a text means where one of these types is wanted."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    value = tuple(value) if isinstance(value, list) else value
    if kinds is None or type(value) in kinds or (type(value) is int and float in kinds):
        return value
    if str in kinds:
        return text
    wanted = " or ".join(NAMES[kind] for kind in kinds)
    raise ValueError(f"`--set {name}` needs a value of {wanted}. Received: {text}")


def _refusal(name, config, experiment, known):
    owners = [thing for thing in (experiment, getattr(experiment, "task", None)) if dataclasses.is_dataclass(thing)]
    if any(name == field.name for thing in owners for field in dataclasses.fields(thing)):
        reason = "is a function or an object, which a config of your own can give and a command line cannot."
    else:
        reason = f"is not known to {config}."
    return f"`--set {name}` {reason} {guess(name, known)}"
