"""How many actors a Ray cluster gets, by the resources of its nodes; Ray is not needed to reckon it."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras.bulk import cluster


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([{"CPU": 8.0}, {"CPU": 16.0}, {}], None, (2, 8, 0)),  # one for each node that has a CPU
        ([{"CPU": 8.0}, {"CPU": 3.0}], 5, (5, 1, 0)),  # three on a node, the smallest has three cores
        ([{"CPU": 2.0}], 7, (7, 1, 0)),  # never less than one core
        ([{"CPU": 0.5}, {"CPU": 4.0}], None, (1, 4, 0)),
        ([{"CPU": 16.0, "GPU": 4.0}] * 2, None, (8, 4, 1)),  # one for each GPU
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], None, (2, 8, 1)),  # a node without GPU has none
        ([{"CPU": 16.0, "GPU": 4.0}], 2, (2, 8, 1)),  # fewer than there are GPUs
        ([{"CPU": 16.0, "GPU": 1.0}], 4, (4, 4, 0)),  # more: none has a GPU of its own
    ],
)
def test_actors_share_the_cores_of_the_smallest_node(nodes, workers, expected):
    assert cluster.plan(nodes, workers) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "text"),
    [
        ([{"CPU": 8.0}], 0, r"at least 1\. Received: workers=0"),
        ([{}], None, r"No node of the Ray cluster has a CPU: \[\{\}\]"),
        ([{"CPU": 8.0}, {"GPU": 2.0}], None, "has a CPU beside its GPUs"),
    ],
)
def test_what_cannot_run_is_told(nodes, workers, text):
    with pytest.raises(ValueError, match=text):
        cluster.plan(nodes, workers)
