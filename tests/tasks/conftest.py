"""What whole runs share."""

import pytest

from cplus1_keras.metrics import accumulators, bootstrap


@pytest.fixture(scope="session", autouse=True)
def few_replications():
    """Intervals from 40 replications: `tests/metrics` has the intervals, and a thousand take longer than a training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulators, "bootstrap", lambda *given, **more: bootstrap(*given, **{**more, "samples": 40}))
        yield
