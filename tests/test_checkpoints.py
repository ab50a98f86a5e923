"""A training that is stopped goes on as if nothing had happened, to the bit."""

import shutil

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


def train(model, folder, stop_after=EPOCHS, stopping=None):
    checkpoint = Checkpoint(folder, stopping)
    first = checkpoint.restore(model)
    given = batches(first * STEPS)
    settings = {"initial_epoch": first, "epochs": stop_after, "steps_per_epoch": STEPS, "verbose": 0}
    model.fit(given, callbacks=[*([stopping] if stopping else []), checkpoint], shuffle=False, **settings)
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
    train(build(), tmp_path / "three", stop_after=3)
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == ["epoch-000002", "epoch-000003"]
    for name in ("state.json", "arrays.npz"):
        folder = shutil.copytree(tmp_path / "three", tmp_path / name)
        torn, whole = folder / "epoch-000003" / name, (folder / "epoch-000003" / name).read_bytes()
        # Zeros at the end, as a disk leaves them that lost its power.
        torn.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
        assert Checkpoint(folder).restore(build()) == 2
        assert "epoch-000003 is damaged: takes the one before" in capsys.readouterr().out
    assert_equal(train(build(), folder), undisturbed)


def test_a_checkpoint_of_another_model_is_an_error_and_stays(tmp_path):
    train(build(), tmp_path, stop_after=1)
    other = build()
    other.compile(keras.optimizers.SGD(0.1), other.loss)
    with pytest.raises(ValueError, match=r"is not of this model: .*\. Was the config or the package changed"):
        train(other, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001"]


class MadeUp(keras.callbacks.EarlyStopping):
    """Early stopping on one value an epoch: the best is the second, and the fourth is one too many."""

    def __init__(self):
        super().__init__("val_figure", patience=2, mode="max", restore_best_weights=True)

    def get_monitor_value(self, logs):
        return [0.1, 0.3, 0.2, 0.3][self.model.optimizer.iterations.numpy() // STEPS - 1]


def test_early_stopping_goes_on_as_if_nothing_had_happened(tmp_path):
    def small():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    best, whole = train(small(), tmp_path / "best", stop_after=2), MadeUp()
    undisturbed = train(small(), tmp_path / "whole", stopping=whole)
    assert whole.stopped_epoch == 3
    assert_equal(undisturbed[1:3], best[1:3])  # kernel and bias, after the seed of dropout
    for epochs in (1, 2, 3):
        train(small(), tmp_path / "stopped", stop_after=epochs, stopping=MadeUp())
    stopped = MadeUp()
    assert_equal(train(small(), tmp_path / "stopped", stopping=stopped), undisturbed)
    assert (stopped.stopped_epoch, stopped.best_epoch, stopped.wait, stopped.best) == (3, 1, 2, 0.3)
    again = MadeUp()
    assert Checkpoint(tmp_path / "stopped", again).restore(small()) == 4
    assert again.stopped_epoch == 3


def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch):
    model = build()
    train(model, tmp_path, stop_after=1)

    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        train(model, tmp_path, stop_after=2)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-000001"]
    Checkpoint(tmp_path).remove()
    assert not tmp_path.exists()
