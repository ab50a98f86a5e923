"""An experiment: what its numbers may be, how long a training is, what its defaults are."""

import dataclasses

import keras
import pytest

from cplus1_keras import losses, scores, tasks
from cplus1_keras.experiment import Experiment


def experiment(**changes):
    needed = dict.fromkeys(("data", "model", "optimizer"), print)
    given = {"name": "some", "task": tasks.Classification(), "loss": losses.CrossEntropyLoss(), "epochs": 3, **needed}
    return Experiment(**{**given, **changes})


def test_defaults_are_those_that_readme_and_guides_promise():
    made = experiment(epochs=None, steps=2000)
    assert (made.learning_rate, made.schedule, made.interval, made.batch_size) == (1e-3, None, 1000, 64)
    assert (made.score, made.fpr, made.coverage, made.confidence, made.seed) == (scores.log_odds, 0.1, 0.95, 0.95, 0)
    assert (made.warmup, made.label_smoothing, made.ema, made.precision) == (0.0, 0.0, None, None)
    assert (made.sampling, made.repeat_threshold) == (None, 1e-3)
    assert dataclasses.astuple(tasks.Segmentation()) == (512, None, True, (0.5, 2.0), None, False, (1.0,), 3, 2048)
    assert dataclasses.astuple(tasks.MultiLabel()) == (None, 3, 8)
    assert dataclasses.astuple(tasks.Classification()) == (None, None, 0.0, 0.0, None, 0.0, False)


@pytest.mark.parametrize("made", [experiment(), tasks.Classification(), tasks.Segmentation(), tasks.MultiLabel()])
def test_settings_do_not_change(made):
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = made.augment = made.largest = 3


@pytest.mark.parametrize(
    ("steps", "interval", "epochs", "each"),
    [
        (6000, 1000, 6, 1000),
        (6000, 900, 6, 1000),  # 6 and 8 epochs: 1000 is nearer to 900 than 750 by ratio
        (7, 1000, 1, 7),
        (4000, 1000, 4, 1000),
        (3989, 1000, 1, 3989),  # a prime, not above four intervals
        (2 * 17, 8, 2, 17),
        (4 * 3, 3, 4, 3),
        (11, 44, 1, 11),
    ],
)
def test_epochs_of_about_an_interval(steps, interval, epochs, each):
    assert experiment(epochs=None, steps=steps, interval=interval).length(None) == (epochs, each)


@pytest.mark.parametrize(("steps", "interval", "take"), [(4001, 1000, 4000), (4 * 1009, 63, 4032), (37, 7, 35)])
def test_steps_without_a_divisor_near_the_interval_are_refused(steps, interval, take):
    with pytest.raises(ValueError, match=f"Received: steps={steps}. Take {take}"):
        experiment(epochs=None, steps=steps, interval=interval)


def test_epochs_count_the_batches_of_the_training_split(monkeypatch):
    made, seen = experiment(epochs=3), []
    monkeypatch.setattr(tasks.Classification, "steps_per_epoch", lambda task, *given: seen.append(given) or 11)
    splits = type("Splits", (), {"train": "train", "test": "test"})
    assert made.length(splits) == (3, 11)
    assert seen == [("train", made)]


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 1},
        {"batch_size": 1},
        {"learning_rate": 1e-9},
        {"fpr": 1e-6},
        {"coverage": 1 - 1e-6},
        {"epochs": None, "steps": 1, "interval": 1},
    ],
)
def test_what_is_allowed(changes):
    experiment(**changes)


@pytest.mark.parametrize("field", ["fpr", "coverage", "confidence"])
@pytest.mark.parametrize("value", [0, 1, -0.5, 1.5, float("nan")])
def test_rates_lie_between_0_and_1(field, value):
    with pytest.raises(ValueError, match=rf"`{field}` is a rate in \(0, 1\). Received: {field}={value}"):
        experiment(**{field: value})


@pytest.mark.parametrize("field", ["epochs", "interval", "batch_size", "learning_rate"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_numbers_are_above_0(field, value):
    with pytest.raises(ValueError, match=rf"`{field}` must be above 0 and (an int|finite)\. Received: {field}={value}"):
        experiment(**{field: value})


@pytest.mark.parametrize("changes", [{"sampling": "balanced"}, {"repeat_threshold": 1.5}, {"repeat_threshold": -0.1}])
def test_sampling_goes_by_name(changes):
    with pytest.raises(ValueError, match="`sampling` is None or one of repeat_factor, class_aware"):
        experiment(**changes)
    assert experiment(sampling="class_aware").sampling == "class_aware"


def test_a_loss_may_ask_the_splits():
    made = experiment(loss=lambda splits: losses.WeightedSigmoidLoss(splits))
    asked = made.with_loss([0.25, 0.5])
    assert isinstance(asked.loss, losses.WeightedSigmoidLoss)
    assert keras.saving.serialize_keras_object(asked.loss)["config"]["positive_rates"] == [0.25, 0.5]
    assert asked.with_loss(None) is asked
