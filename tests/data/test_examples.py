"""The examples in the docstrings of the data package run and give what they say."""

import doctest
import importlib

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import data

MODULES = (
    "augment",
    "pipeline",
    "preprocessing",
    "protocols.protocol",
    "protocols.shipped",
    "sources.arrays",
    "sources.source",
    "splits",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"cplus1_keras.data.{name}"), extraglobs={"np": np, "tf": tf})
    assert result.failed == 0
    assert result.attempted > 0


def test_public_names_exist():
    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        data.absent  # noqa: B018
