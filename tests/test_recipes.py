"""Settings of a training: schedule, warm-up, smoothing, mixup, average, precision; and that resuming keeps all."""

import dataclasses
import functools

import keras
import numpy as np
import pytest

from cplus1_keras import configs, data, heads, losses, models, optimizers, run
from cplus1_keras.experiment import Experiment
from cplus1_keras.run import build, fit
from cplus1_keras.tasks import Classification

SETTINGS = ["schedule=cosine", "warmup=0.25", "label_smoothing=0.1", "ema=0.8", "precision=mixed_bfloat16", "mixup=0.4"]


def splits(seed):
    """Few images, so that an epoch is three steps."""
    parts = data.split(data.Protocol(known=("0", "1"), others="negative"), data.sources.digits(), seed=seed)
    known = parts.train.subset(np.arange(0, len(parts.train), 8))
    return dataclasses.replace(parts, train=known, validation=parts.validation.subset(np.arange(30)))


def net():
    images = keras.Input((8, 8, 1))
    x = keras.layers.Dense(6, "relu")(keras.layers.Flatten()(images / 16))
    return keras.Model(images, keras.layers.Dropout(0.3, seed=1)(x))


def experiment(**changes):
    settings = {
        "name": "recipe",
        "task": Classification(),
        "data": splits,
        "model": functools.partial(models.classifier, backbone=net, head=heads.LinearHead),
        "loss": losses.EntropicOpenSetLoss() + 0.1 * losses.MagnitudeLoss(3.0),
        "optimizer": functools.partial(keras.optimizers.AdamW, weight_decay=1e-3),
        "learning_rate": 0.02,
        "epochs": 4,
        "batch_size": 16,
        "seed": 3,
    }
    return Experiment(**settings | changes)


def everything(**changes):
    """All settings, none at its default."""
    own = {"schedule": optimizers.cosine, "warmup": 0.25, "label_smoothing": 0.1, "ema": 0.8}
    return experiment(**own, precision="mixed_bfloat16", task=Classification(mixup=0.4), **changes)


def train(made, folder, stop=None):
    """Train, or until an epoch is over, and give what is left in the model."""
    keras.utils.set_random_seed(made.seed)
    parts = made.splits()
    made = made.with_loss(parts)
    model = build(made, parts)
    if stop is not None:

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop:
                    raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(run, "StopOnNaN", lambda folder: Stop())
            fit(model, made, parts, folder)
    else:
        fit(model, made, parts, folder)
    return model


def test_settings_come_from_a_command_line():
    made = configs.resolve("digits", SETTINGS)
    assert (made.schedule, made.warmup, made.label_smoothing) == (optimizers.cosine, 0.25, 0.1)
    assert (made.ema, made.precision, made.task.mixup) == (0.8, "mixed_bfloat16", 0.4)
    assert configs.resolve("digits", ["schedule=None"]).schedule is None
    with pytest.raises(ValueError, match="No schedule is named 'cosin'"):
        configs.resolve("digits", ["schedule=cosin"])


def test_all_reach_the_model():
    made = everything()
    parts = made.splits()
    model = build(made.with_loss(parts), parts)
    steps = made.length(parts)[0] * made.length(parts)[1]
    rate, optimizer = model.optimizer._learning_rate, model.optimizer
    for step in (0, 1, steps - 1):
        expected = min(1, (step + 1) / round(0.25 * steps)) * float(optimizers.cosine(0.02, steps)(step))
        assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.8)
    assert {layer.compute_dtype for layer in model.layers if layer.name.startswith("dense")} == {"bfloat16"}
    assert keras.config.dtype_policy().name == "float32"
    assert model.output["logits"].dtype == "float32"
    again = made.with_loss(parts).with_loss(parts)  # once mixed, no more
    assert [type(term.loss) for _, term in again.loss.terms()] == [losses.EntropicOpenSetLoss, losses.MagnitudeLoss]
    terms = [term.loss for _, term in model.loss.terms()]
    assert [type(term) for term in terms] == [losses.EntropicOpenSetLoss, losses.MagnitudeLoss]
    assert terms[0].smoothing == 0.1
    batches = made.task.training(model, parts.train, made, 5)
    plain = data.training(parts.train, 16, image_size=(8, 8), channels=1, seed=3, first_step=5)
    images, y = next(iter(batches))
    expected, mixed = next(iter(data.mixing.mixup(plain, 0.4, 3, first_step=5)))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(y["mixed_share"], mixed["mixed_share"])


def test_half_precision_scales_its_loss():
    made = experiment(precision="mixed_float16", ema=0.7)
    parts = made.splits()
    optimizer = build(made, parts).optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert optimizer.inner_optimizer.ema_momentum == 0.7


def test_a_stopped_training_with_all_settings_goes_on_to_the_bit(tmp_path):
    whole = train(everything(), tmp_path / "whole")
    train(everything(), tmp_path / "stopped", stop=2)
    again = train(everything(), tmp_path / "stopped")
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # The training has ended, its judging has not: the average is taken from the checkpoint.
    last = train(everything(), tmp_path / "stopped")
    for one, other in zip(whole.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights, self.tested = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append([np.array(weight) for weight in self.model.trainable_variables])

    def on_test_batch_end(self, batch, logs=None):
        self.tested.append([np.array(weight) for weight in self.model.trainable_variables])


def test_the_model_ends_with_the_average_and_validation_sees_it(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(run, "StopOnNaN", lambda folder: recorder)
    model = train(experiment(ema=0.6, epochs=2), tmp_path)
    average, at_end = recorder.weights[0], []
    for number, weights in enumerate(recorder.weights):
        average = [0.6 * a + 0.4 * w for a, w in zip(average, weights, strict=True)] if number else weights
        at_end.append(average)
    for found, expected in zip(model.trainable_variables, average, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(average[0] - recorder.weights[-1][0]).max() > 1e-4
    first_epoch = len(recorder.weights) // 2 - 1
    for found, expected in zip(recorder.tested[0], at_end[first_epoch], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_told():
    for changes, message in (
        ({"ema": 1.0}, "`ema` is a momentum"),
        ({"ema": 0.9, "patience": 3}, "without `patience`"),
        ({"warmup": 1.0}, "`warmup` is a share"),
        ({"label_smoothing": -0.1}, "`label_smoothing` is a share"),
    ):
        with pytest.raises(ValueError, match=message):
            experiment(**changes)
    with pytest.raises(ValueError, match="α of a beta"):
        Classification(mixup=-1.0)
    many = keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3), {"a/.*": keras.optimizers.Adam(0.1)})
    made = experiment(ema=0.5, optimizer=lambda rate: keras.optimizers.MultiOptimizer(many))
    with pytest.raises(ValueError, match="MultiOptimizer averages no weights"):
        build(made, made.splits())
