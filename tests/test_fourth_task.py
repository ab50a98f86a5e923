"""The house holds a task that it has never seen: a label for each row of an image, in thirty lines."""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf

import cplus1_keras
from cplus1_keras import OpenSetModel, data, heads, losses, serving
from cplus1_keras.experiment import Experiment
from cplus1_keras.tasks import Task


@dataclasses.dataclass(frozen=True)
class Rows(Task):
    """A label for each row of an image: that of its first pixel."""

    unit = "row"

    def training(self, *arguments, **settings):
        return super().training(*arguments, **settings).map(first_pixels)

    def validation(self, *arguments):
        return super().validation(*arguments).map(first_pixels)

    def images(self, *arguments):
        return super().images(*arguments).map(first_pixels)

    def spec(self):
        return serving.ImageSpec(positions=1)


def first_pixels(images, labels):
    return images, labels[:, :, 0]


def striped(seed):
    """Images of 8 rows: bright ones are class 0, dark ones class 1, grey ones negative, half-bright ones unknown."""
    values = np.random.default_rng(seed).integers(0, 4, (200, 8, 1)).repeat(6, axis=2)
    noise = np.random.default_rng(seed + 1).normal(scale=8, size=values.shape)
    images = np.clip(np.array([240, 10, 100, 170])[values] + noise, 0, 255)[..., None].astype("uint8")
    source = data.sources.arrays(images, masks=values, class_names=("bright", "dark", "grey", "half"))
    protocol = data.Protocol(known=("bright", "dark"), negative=("grey",), unknown=("half",), name="rows")
    return data.split(protocol, source, validation_fraction=0.1, seed=seed)


def row_net(num_classes):
    images = keras.Input((8, 6, 1))
    means = keras.ops.mean(images, axis=2) / 64 - 2
    features = keras.layers.Dense(16, "relu")(means)
    return OpenSetModel(images, heads.LinearHead(num_classes)(features))


ROWS = Experiment(
    name="rows",
    task=Rows(),
    data=striped,
    model=row_net,
    loss=losses.EntropicOpenSetLoss(),
    optimizer=keras.optimizers.Adam,
    learning_rate=1e-2,
    epochs=6,
    batch_size=16,
    fpr=0.3,
    seed=3,
)


def test_a_fourth_task_trains_judges_calibrates_and_exports(tmp_path):
    directory = ROWS.run(tmp_path)
    report = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    splits = ROWS.data(ROWS.seed)
    examples = list(splits.test.dataset().as_numpy_iterator())
    images, labels = np.stack([e["image"] for e in examples]), np.stack([e["labels"][:, 0] for e in examples])
    answer = cplus1_keras.load(directory).predict(images)
    assert answer["class_id"].shape == labels.shape == (len(splits.test), 8)
    known = labels >= 0
    right = (answer["class_id"] == labels)[known].mean()
    assert right > 0.6
    np.testing.assert_allclose(report["at_threshold"]["ccr"], right)
    np.testing.assert_allclose(report["at_threshold"]["fpr_unknown"], answer["known"][labels == -2].mean())
    with_negatives = [(e["labels"] == -1).any() for e in splits.calibration.dataset().as_numpy_iterator()]
    assert report["calibration"]["samples"] == sum(with_negatives)  # images count, rows of one do not
    served = tf.saved_model.load(str(directory / "saved_model" / "1")).signatures["serving_default"]
    np.testing.assert_array_equal(served(images=tf.constant(images, tf.float32))["class_id"], answer["class_id"])
    assert (directory / "oscr.png").is_file()
