"""Names of a package that are loaded on first use, so that what needs no TensorFlow can be imported without it."""

import importlib


def exports(package, homes, modules):
    """The `__all__`, `__getattr__` and `__dir__` of a package.

    Args:
        package: Its name.
        homes: Dict of a public name -> the module of the package that has it.
        modules: Names of public modules of the package.

    Returns:
        List of names, function, function.

    >>> names, get, _ = exports("cplus1_keras.data", {"Protocol": "protocols"}, ("splits",))
    >>> names, get("Protocol").__name__
    (['Protocol', 'splits'], 'Protocol')
    """
    names = [*homes, *modules]

    def get(name):
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in homes:
            return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return names, get, lambda: sorted(names)
