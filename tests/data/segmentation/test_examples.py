"""The examples in the docstrings of the segmentation data run and give what they say."""

import doctest
import importlib

import numpy as np
import pytest
import tensorflow as tf

MODULES = ["protocol", "protocols", "splits", "augment", "pipeline", "weights", "sources.source", "sources.coco"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"cplus1_keras.data.segmentation.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "tf": tf})
    assert result.failed == 0
    assert result.attempted > 0
