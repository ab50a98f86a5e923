"""A training that is stopped goes on as if nothing had happened, to the bit."""

import keras
import numpy as np
import pytest

from cplus1_keras import OpenSetModel, heads, layers, losses
from cplus1_keras.checkpoints import Checkpoint

STEPS, EPOCHS = 5, 4


def build():
    """A net with everything that has a state: dropout, batch norm, AdaCos, centres, a warm-up, a schedule, Adam."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dropout(0.4)(keras.layers.BatchNormalization()(keras.layers.Dense(8, "relu")(inputs)))
    outputs = layers.MarginWarmup(15)(layers.MovingAverageCenters(4)(heads.AdaCosHead(4)(x)))
    model = OpenSetModel(inputs, outputs)
    rate = keras.optimizers.schedules.PolynomialDecay(0.01, STEPS * EPOCHS, 1e-4)
    loss = losses.CrossEntropyLoss(losses.GrowingMargin(losses.CosFace(0.3))) + 0.1 * losses.CompactnessLoss()
    model.compile(keras.optimizers.AdamW(rate), loss)
    return model


def batches(first=0):
    def generate():
        for step in range(first, STEPS * EPOCHS):
            generator = np.random.default_rng(step)
            yield generator.normal(size=(16, 6)).astype("float32"), generator.integers(0, 4, 16)

    return generate()


def train(model, folder, stop_after=EPOCHS):
    checkpoint = Checkpoint(folder)
    first = checkpoint.restore(model)
    given = batches(first * STEPS)
    settings = {"initial_epoch": first, "epochs": stop_after, "steps_per_epoch": STEPS, "verbose": 0}
    model.fit(given, callbacks=[checkpoint], shuffle=False, **settings)
    return [np.asarray(variable.value) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.fixture
def undisturbed(tmp_path):
    return train(build(), tmp_path / "whole")


def assert_equal(some, others):
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stopped_training_ends_in_the_same_bits(undisturbed, tmp_path):
    train(build(), tmp_path / "stopped", stop_after=2)
    assert_equal(train(build(), tmp_path / "stopped"), undisturbed)


def test_the_last_two_are_kept_and_a_torn_one_is_passed_over(undisturbed, tmp_path, capsys):
    folder = tmp_path / "torn"
    train(build(), folder, stop_after=3)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-000002", "epoch-000003"]
    weights = folder / "epoch-000003" / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert_equal(train(build(), folder), undisturbed)
    assert "epoch-000003 cannot be read" in capsys.readouterr().out


def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch):
    model = build()
    train(model, tmp_path, stop_after=1)

    def full(path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(model, "save_weights", full)
    with pytest.raises(OSError, match="No space"):
        train(model, tmp_path, stop_after=2)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001"]
    Checkpoint(tmp_path).remove()
    assert not tmp_path.exists()
