"""What whole runs share."""

import dataclasses

import pytest

from cplus1_keras.metrics import accumulators, bootstrap


@pytest.fixture(scope="module", autouse=True)
def few_replications():
    """Intervals from 40 replications: `tests/metrics` has the intervals, and a thousand take longer than a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulators, "bootstrap", lambda *given, **more: bootstrap(*given, **{**more, "samples": 40}))
        yield


@pytest.fixture(scope="session")
def defaults():
    """Names of the settings of an experiment, or a task, that have their default value; not those of `test_recipes`."""
    recipe = {"warmup", "label_smoothing", "ema", "precision"}

    def names(settings):
        return {f.name for f in dataclasses.fields(settings) if getattr(settings, f.name) == f.default} - recipe

    return names
