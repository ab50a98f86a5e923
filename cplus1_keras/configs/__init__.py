"""Runs that ship: functions that return a complete `Experiment`, one module a data set or table.

`resolve` finds one by its short name or any function by its dotted name, and applies `name=value` settings.
"""

import ast
import dataclasses
import difflib
import importlib
import inspect
import pkgutil


def shipped():
    """The configs of this package: dict from short name to function, in alphabetical order.

    >>> "digits" in shipped()
    True
    """
    found = {}
    for module in pkgutil.iter_modules(__path__):
        members = inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isfunction)
        found |= {name: f for name, f in members if _returns_experiment(f) and f.__module__.endswith(module.name)}
    return dict(sorted(found.items()))


def listing():
    """The configs that ship as text: name and what it is, a line each.

    >>> print(listing().splitlines()[0])
    Configs (python train.py --config NAME):
    """
    functions = shipped()
    width = max(map(len, functions))
    lines = [f"  {name:{width}}  {inspect.getdoc(f).splitlines()[0]}" for name, f in functions.items()]
    return "\n".join(["Configs (python train.py --config NAME):", *lines])


def resolve(name, settings=()):
    """The `Experiment` of a config.

    Args:
        name: Short name of a config that ships, or a dotted name like `my_package.my_module.my_function`.
        settings: Strings `name=value`, each an argument of the function or a field of the `Experiment` that it
            returns. Values are numbers, True, False, None or text.

    Returns:
        `Experiment`.

    Raises:
        ValueError: For an unknown config or setting, or a value of another type than the field's.

    >>> resolve("digits", ["epochs=3"]).epochs
    3
    """
    function = _function(name)
    values = dict(_setting(text) for text in settings)
    arguments = {key: values.pop(key) for key in list(values) if key in inspect.signature(function).parameters}
    experiment = function(**arguments)
    fields = {field.name: field for field in dataclasses.fields(experiment)}
    for key, value in values.items():
        _check_field(key, value, fields, experiment, inspect.signature(function).parameters)
    return dataclasses.replace(experiment, **values)


def _returns_experiment(function):
    """Whether a function's annotation says that it returns something that `run(workdir)` trains."""
    return hasattr(function.__annotations__.get("return"), "run")


def _function(name):
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            raise ValueError(f"`--config {name}` names no function: {error}. Is its folder on PYTHONPATH?") from error
    functions = shipped()
    if name not in functions:
        raise ValueError(f"No config is named {name!r}. {_guess(name, functions)}")
    return functions[name]


def _setting(text):
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"A setting reads name=value, like epochs=3. Received: {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _check_field(name, value, fields, experiment, parameters):
    plain = [key for key in fields if isinstance(getattr(experiment, key), int | float | str | None)]
    if name not in plain:
        raise ValueError(f"`--set {name}` is not known to this config. {_guess(name, [*parameters, *plain])}")
    current = getattr(experiment, name)
    wanted = (int, float) if isinstance(current, float) else type(current)
    if current is not None and not isinstance(value, wanted):
        kind = "number" if wanted == (int, float) else wanted.__name__
        raise ValueError(f"`--set {name}` needs a value of type {kind}, like {current}. Received: {value!r}")


def _guess(name, known):
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}? There are: " + ", ".join(known) if close else "There are: " + ", ".join(known)
