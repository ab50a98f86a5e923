"""The public names of the data package exist."""

import pytest

from cplus1_keras import data


def test_public_names_exist():
    for name in data.__all__:
        assert getattr(data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        data.absent  # noqa: B018
