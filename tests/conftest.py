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
        for folder in (HERE / "golden", SHARED / "golden"):
            path = folder / f"{case}.npz"
            if path.is_file():
                with np.load(path) as arrays:
                    return dict(arrays)
        pytest.skip(f"needs golden/{case}.npz, which is neither in tests/golden nor in ../shared/golden")

    return read


@pytest.fixture(scope="session")
def layouts():
    """The functions of layouts.py, which is no module of the package."""
    path = HERE / "data" / "segmentation" / "layouts.py"
    spec = importlib.util.spec_from_file_location("segmentation_layouts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
