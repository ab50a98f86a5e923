"""Two Ray nodes, one of which is killed while it answers: each input still has exactly one row."""

import pathlib
import sys
import threading
import time

import keras
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

if keras.backend.backend() != "tensorflow":
    pytest.skip("serving runs on Keras's TensorFlow backend", allow_module_level=True)
ray = pytest.importorskip("ray", reason="needs the extra [ray]")

from cplus1_keras import bulk, heads, layers, serving  # noqa: E402
from cplus1_keras.bulk import cluster  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings
COUNT, PART = 600, 10


@pytest.fixture
def nodes():
    """A function that starts a node of a Ray cluster, and the cluster."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    second = found.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    ray.init(address=found.address, log_to_driver=False)
    yield found, second
    ray.shutdown()
    found.shutdown()


class Slow(cluster.Worker):
    """Takes its time, so that there is something to do when the second node is ready."""

    def score(self, number):
        time.sleep(0.7)
        return super().score(number)


def children(pid):
    """Ids of the processes that a process started, and so on."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def writer(path):
    """The id of the process that wrote a part."""
    return int(parquet.read_schema(path).metadata[b"worker"].split()[-1])


def test_a_node_that_is_killed_costs_no_row_and_doubles_none(nodes, tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 16, 3))
    model = keras.Model(inputs, heads.LinearHead(3)(keras.layers.Flatten()(inputs / 255)))
    predictor = serving.Predictor(model, layers.Reject(3, threshold=-0.4))
    predictor.export(tmp_path / "1")
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        path = tmp_path / "images" / f"{number:03d}.png"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype("uint8")).save(path)
    (tmp_path / "images" / "100.png").write_bytes(b"no image")
    found, second = nodes
    raylet = second.all_processes["raylet"][0].process.pid
    output, killed = tmp_path / "answers", []

    def kill():
        while not any(writer(path) in children(raylet) for path in output.glob("part-*")):
            time.sleep(0.02)
        killed.extend((len(list(output.glob("part-*"))), children(raylet)))
        found.remove_node(second, allow_graceful=False)

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    monkeypatch.setattr(cluster, "Worker", Slow)
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert bulk.score(tmp_path / "1", tmp_path / "images", output, part=PART, ray=found.address) == (COUNT, 1)
    thread.join(60)
    assert 1 <= killed[0] < COUNT // PART  # midway
    on_second = {writer(path) in killed[1] for path in output.glob("part-*")}
    assert on_second == {True, False}  # both nodes answered
    table = parquet.read_table(output)
    paths = sorted(map(str, (tmp_path / "images").iterdir()))
    assert sorted(table["path"].to_pylist()) == paths
    rows = {row["path"]: row for row in table.to_pylist()}
    assert rows[str(tmp_path / "images" / "100.png")]["valid"] is False
    images = np.stack([np.asarray(Image.open(path)) for path in paths if not path.endswith("100.png")])
    wanted = predictor.predict(images)
    fine = [rows[path] for path in paths if not path.endswith("100.png")]
    np.testing.assert_allclose([row["score"] for row in fine], wanted["score"], rtol=1e-5, atol=1e-6)
    assert [row["class_name"] for row in fine] == wanted["class_name"].tolist()
    assert not list(output.glob(".*"))
