"""A whole run under MirroredStrategy, as on several GPUs: two logical CPUs in a process of their own."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SETUP = """
import dataclasses, functools, sys
import keras, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from cplus1_keras import configs, data, distribution
from cplus1_keras.tasks import Segmentation
if sys.argv[2] == "two":
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distribution.strategy = lambda: mirrored
keras.utils.disable_interactive_logging()
plain = {"optimizer": keras.optimizers.SGD, "learning_rate": 1e-4, "schedule": None, "name": sys.argv[2]}
"""
DIGITS = """
dataclasses.replace(configs.resolve("digits"), epochs=2, **plain).run(sys.argv[1])
"""
PIXELS = """
def splits(seed):
    train, calibration, test = (data.sources.camvid(sys.argv[3], part) for part in ("train", "val", "test"))
    protocol = data.protocols.camvid_open()
    return data.split(protocol, train, test, calibration=calibration, validation_fraction=0.25, seed=seed)

experiment = dataclasses.replace(
    configs.resolve("camvid", ["background=1.0", f"root={sys.argv[3]}"]), data=splits, steps=6, interval=3, fpr=0.6,
    task=Segmentation(crop_size=(48, 64), base=(48, 64)), confidence=0.5, **plain,
)
experiment.run(sys.argv[1])
"""


def figures(program, tmp_path, *arguments):
    """What one and two replicas report at their thresholds."""
    for name in ("one", "two"):
        command = [sys.executable, "-c", SETUP + program, str(tmp_path), name, *arguments]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        assert (tmp_path / name / "saved_model" / "1" / "saved_model.pb").is_file()
        yield json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))["at_threshold"]


@pytest.mark.slow  # replicas on one CPU wait for each other; test_replicas has the exact laws
def test_two_replicas_run_and_reach_what_one_device_does(tmp_path):
    one, two = figures(DIGITS, tmp_path)
    assert abs(one["threshold"] - two["threshold"]) < 1e-3
    assert abs(one["ccr"] - two["ccr"]) < 0.01


@pytest.mark.slow
def test_two_replicas_segment_as_one_device_does(tmp_path, layouts):
    folder = layouts.camvid(tmp_path / "sets", train=8, val=4, test=3)
    one, two = figures(PIXELS, tmp_path, str(folder))
    assert abs(one["threshold"] - two["threshold"]) < 0.1
    assert abs(one["ccr"] - two["ccr"]) < 0.1
