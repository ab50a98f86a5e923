"""Protocols, sources, splits and batches. Names are loaded on first use: protocols need no TensorFlow."""

import importlib

_HOMES = {
    "Protocol": "protocols",
    "Source": "sources",
    "combine": "sources",
    "concatenate": "sources",
    "Split": "splits",
    "Splits": "splits",
    "split": "splits",
    "decode": "preprocessing",
    "preprocess": "preprocessing",
    "training": "pipeline",
    "evaluation": "pipeline",
}
_MODULES = ("augment", "pipeline", "preprocessing", "protocols", "sources", "splits")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
