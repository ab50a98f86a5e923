"""Fixtures shared by the tests: real data and golden numbers, where they are at hand, and tiny data sets."""

import importlib.util
import pathlib

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
SHARED = HERE.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared():
    """The folder with real images and the papers' numbers; it lies beside a developer's clone only."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data of ../shared, which is not beside this clone")
    return SHARED


@pytest.fixture(scope="session")
def golden():
    """`golden(case)` -> dict of arrays computed by somebody else's implementation (see tests/golden/README.md)."""

    def read(case):
        with np.load(HERE / "golden" / f"{case}.npz") as arrays:  # they ship with the tests: one that is missing fails
            return dict(arrays)

    return read


@pytest.fixture(scope="session")
def layouts():
    """The functions of layouts.py, which is no module of the package."""
    path = HERE / "data" / "segmentation" / "layouts.py"
    spec = importlib.util.spec_from_file_location("segmentation_layouts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
