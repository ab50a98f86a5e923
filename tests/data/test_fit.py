"""Batches in `fit`, on replicas, and in a process that must end."""

import json
import os
import subprocess
import sys

import keras
import numpy as np

from cplus1_keras import heads, losses, models
from cplus1_keras.data import (
    augment,
    class_weights,
    evaluation,
    pixel_counts,
    protocols,
    sources,
    split,
    steps_per_epoch,
    training,
)
from cplus1_keras.data.names import mask_names


def test_fit_takes_the_batches():
    digits = split(protocols.digits(), sources.digits())
    model = keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(6)])
    model.compile(loss=lambda y, z: keras.ops.sum(z * z, axis=-1))
    batches = []
    counter = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    count = steps_per_epoch(digits.train, 64, 0.25)
    history = model.fit(
        training(digits.train, 64, negative_fraction=0.25),
        steps_per_epoch=count,
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=evaluation(digits.validation, 64),
        callbacks=[counter],
    )
    assert len(history.history["val_loss"]) == 2
    assert batches == list(range(count)) * 2
    assert len(model.predict(evaluation(digits.test, 50), verbose=0)) == len(digits.test)


MIRRORED = """
import json, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from cplus1_keras.data import protocols, sources, split, training
splits = split(protocols.digits(), sources.digits())
batches = lambda: training(splits.train, 60, negative_fraction=0.25).take(8)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
shared = strategy.experimental_distribute_dataset(batches())
whole = [y.numpy().tolist() for _, y in batches()]
halves = [[p.numpy().tolist() for p in strategy.experimental_local_results(y)] for _, y in shared]
print(json.dumps([whole, halves]))
"""


def run(code, **variables):
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", **variables)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120
    )


def test_replicas_share_each_batch():
    done = run(MIRRORED)
    assert done.returncode == 0, done.stderr[-2000:]
    whole, halves = json.loads(done.stdout.strip().split("\n")[-1])
    assert [one + other for one, other in halves] == whole
    for parts in halves:
        assert [len(part) for part in parts] == [30, 30]
        assert all(part.count(-1) in (7, 8) for part in parts)


BAD = """
import sys
import numpy as np, keras
from cplus1_keras.data import Protocol, augment, sources, split, training
masks = np.zeros([40, 64, 64], "uint8"); masks[7, 3, 5] = 9
source = sources.arrays(np.zeros([40, 64, 64, 3], "uint8"), masks=masks, class_names=["a", "b"])
part = split(Protocol(["a"], ["b"], name="two"), source, test_fraction=0.0, calibration_fraction=0.0).train
model = keras.Sequential([keras.Input([None, None, 3]), keras.layers.Conv2D(2, 1)])
model.compile(loss="mse")
def fit():
    batches = training(part, 4, augment=augment.standard(32), memory=0)
    try:
        model.fit(batches.map(lambda x, y: (x, x[..., :2])), steps_per_epoch=20, verbose=0)
    except Exception as error:
        print(str(error))
        raise
fit()
"""


def test_a_bad_mask_ends_the_process_with_its_sentence():
    done = run(BAD)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Mask values outside the protocol two in arrays[7]: 9 (1 pixels); 1 of 4096 pixels." in done.stdout


def test_fit_learns_pixels_from_batches_with_weights(layouts, tmp_path):
    masks = [example["mask"] for example in sources.camvid(layouts.camvid(tmp_path)).examples().as_numpy_iterator()]
    colours = np.random.default_rng(0).integers(0, 256, (12, 3), "uint8")
    source = sources.arrays([colours[mask] for mask in masks], masks=masks, class_names=mask_names("camvid"))
    train = split(protocols.camvid_open(), source, test_fraction=0.1).train
    weights = class_weights(pixel_counts(train))
    batches = training(train, 2, augment=augment.random_flip(), class_weights=weights)
    keras.utils.set_random_seed(0)
    inputs = keras.Input([None, None, 3])
    features = keras.layers.Dense(32, "relu")(keras.layers.Rescaling(1 / 128, -1)(inputs))
    model = models.OpenSetModel(inputs, heads.LinearHead(8, background=True)(features))
    model.compile(keras.optimizers.Adam(0.03), losses.BackgroundCrossEntropyLoss())
    history = model.fit(batches, steps_per_epoch=20, epochs=3, verbose=0, shuffle=False).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
