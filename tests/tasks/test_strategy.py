"""A whole run under MirroredStrategy, as on several GPUs: two logical CPUs in a process of their own."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import dataclasses, functools, sys
import keras, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from cplus1_keras import configs
from cplus1_keras.tasks import classification
if sys.argv[2] == "two":
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    classification.strategy = lambda: mirrored

experiment = dataclasses.replace(
    configs.resolve("digits"), epochs=2, name=sys.argv[2], optimizer=functools.partial(keras.optimizers.SGD, 1e-3)
)
keras.utils.disable_interactive_logging()
experiment.run(sys.argv[1])
"""


@pytest.mark.slow  # replicas on one CPU wait for each other; test_replicas has the exact laws
def test_two_replicas_run_and_reach_what_one_device_does(tmp_path):
    figures = {}
    for name in ("one", "two"):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), name]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        figures[name] = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
    one, two = (figures[name]["at_threshold"] for name in ("one", "two"))
    # Not equal: Keras looks at one batch more under a strategy, so that the epochs come in another order.
    assert abs(one["threshold"] - two["threshold"]) < 0.1
    assert abs(one["ccr"] - two["ccr"]) < 0.1
    assert (tmp_path / "two" / "saved_model" / "1" / "saved_model.pb").is_file()
