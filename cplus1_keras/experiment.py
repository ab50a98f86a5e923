"""An `Experiment` says what to train, for every task; `run` does it."""

import dataclasses
import math
import numbers
from collections.abc import Callable

import keras

from cplus1_keras import scores
from cplus1_keras.data import Splits
from cplus1_keras.data.sampling import SAMPLING
from cplus1_keras.labels import is_name
from cplus1_keras.losses import OpenSetLoss
from cplus1_keras.models import OpenSetModel
from cplus1_keras.run import run
from cplus1_keras.tasks import Task

FACTORIES = {
    "data": "from a seed to `data.Splits`",
    "model": "from the number of known classes to an `OpenSetModel`, like functools.partial(models.classifier, ...)",
    "optimizer": "from a learning rate to an optimizer, like `keras.optimizers.AdamW`",
    "schedule": "from the first rate and the number of steps to a Keras schedule, like `optimizers.poly`",
    "score": "of `cplus1_keras.scores`, like `scores.log_odds`",
}
"""Fields of an `Experiment` that are functions, and what each makes."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a run depends on. What has weights or state is given as a factory, so that each run gets its own.

    Args:
        name: Names the run's directory.
        task: What a label is of: `tasks.Classification()`, `tasks.Segmentation()`, `tasks.MultiLabel()`, with their
            own settings.
        data: Function from a seed to `data.Splits`.
        model: Function from the number of known classes to an `OpenSetModel`, not compiled; pixels are 0..255.
        loss: A loss of `cplus1_keras.losses`, or a function from `data.Splits` to one, for losses that ask how frequent
            classes are. Where it has no use for negatives, training leaves them out.
        optimizer: Function from a learning rate, or a schedule, to a Keras optimizer.
        learning_rate: The first one, above 0.
        schedule: Function from the first rate and the number of all steps to a Keras schedule, like
            `optimizers.poly`; None keeps the rate. A command line takes the names of `optimizers.SCHEDULES`.
        warmup: Share of all steps in [0, 1) in which the rate rises linearly to where it would be.
        label_smoothing: ε in [0, 1) of the loss's softmax cross-entropies, see `losses.CrossEntropyLoss`.
        ema: Momentum in (0, 1) of a moving average of the weights, Keras's: what the validation split tells, and the
            model that training ends with, have the average. None takes the weights as they are.
        precision: Name of a Keras dtype policy for the model, like `"mixed_bfloat16"`; None takes the global one.
        epochs: Passes over the training images (over the knowns, where negatives are sampled), or None.
        steps: Training batches, in place of `epochs`.
        interval: With `steps`, how many there are from one checkpoint and line of the log to the next, about: the
            divisor of `steps` next to it.
        patience: Training stops when the figure that the task watches on the validation split has not improved for so
            many epochs, or intervals, and keeps the weights that were best; None trains to the end.
        batch_size: Images in a global batch, over all replicas.
        sampling: "repeat_factor" or "class_aware" takes images of rare classes more often, see `data.training`; None
            takes all alike.
        repeat_threshold: The share of images in [0, 1] above which "repeat_factor" repeats no class.
        score: A score of `cplus1_keras.scores`; the run judges, calibrates and serves with it.
        fpr: False positive rate that the threshold is calibrated for, in (0, 1).
        coverage: Share of knowns that the threshold accepts where the protocol has no negatives, in (0, 1).
        confidence: Confidence of the calibration, in (0, 1).
        seed: Of the weights, the splits, the order of images and their augmentation.
        note: What the threshold's promise should be read with; printed beside it, and kept in `metrics.json`.

    Raises:
        ValueError: For both or none of `epochs` and `steps`, a number that is not above 0, a rate outside (0, 1), a
            number of steps without a divisor near `interval`, or an object where a function that makes it is wanted.

    >>> faster = dataclasses.replace(configs.resolve("digits"), epochs=3)
    """

    name: str
    task: Task
    data: Callable[[int], Splits]
    model: Callable[[int], OpenSetModel]
    loss: OpenSetLoss | Callable[[Splits], OpenSetLoss]
    optimizer: Callable[..., keras.optimizers.Optimizer]
    learning_rate: float = 1e-3
    schedule: Callable | None = None
    warmup: float = 0.0
    label_smoothing: float = 0.0
    ema: float | None = None
    precision: str | None = None
    epochs: int | None = None
    steps: int | None = None
    interval: int = 1000
    patience: int | None = None
    batch_size: int = 64
    sampling: str | None = None
    repeat_threshold: float = 1e-3
    score: Callable = scores.log_odds
    fpr: float = 0.1
    coverage: float = 0.95
    confidence: float = 0.95
    seed: int = 0
    note: str = ""

    def __post_init__(self):
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Training is counted in `epochs` or in `steps`: give one of them. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        _check_kinds(self)
        for field in ("epochs", "steps", "interval", "patience", "batch_size", "learning_rate"):
            value = getattr(self, field)
            kind, text = (numbers.Real, "finite") if field == "learning_rate" else (numbers.Integral, "an int")
            if value is not None and not (isinstance(value, kind) and 0 < value < math.inf):
                raise ValueError(f"`{field}` must be above 0 and {text}. Received: {field}={value!r}")
        for field in ("fpr", "coverage", "confidence"):
            value = getattr(self, field)
            if not isinstance(value, numbers.Real) or not 0 < value < 1:
                raise ValueError(f"`{field}` is a rate in (0, 1). Received: {field}={value!r}")
        for field in ("warmup", "label_smoothing"):
            value = getattr(self, field)
            if not isinstance(value, numbers.Real) or not 0 <= value < 1:
                raise ValueError(f"`{field}` is a share in [0, 1). Received: {field}={value!r}")
        if self.sampling not in (None, *SAMPLING) or not 0 <= self.repeat_threshold <= 1:
            raise ValueError(
                f"`sampling` is None or one of {', '.join(SAMPLING)}, `repeat_threshold` a share in [0, 1]. Received: "
                f"sampling={self.sampling!r}, repeat_threshold={self.repeat_threshold!r}"
            )
        if self.ema is not None and not (isinstance(self.ema, numbers.Real) and 0 < self.ema < 1 and not self.patience):
            raise ValueError(
                "`ema` is a momentum in (0, 1), without `patience`, whose best weights are no averages. Received: "
                f"ema={self.ema!r}, patience={self.patience}"
            )
        if self.steps is not None:
            _epochs(self.steps, self.interval)

    def run(self, workdir="runs", **options):
        """Train, calibrate, judge and export; see `run`."""
        return run(self, workdir, **options)

    def with_loss(self, splits):
        """This experiment with the loss that trains, which may be given as a function of the splits, and its task with
        what that asks of them.

        >>> experiment = configs.resolve("digits")
        >>> asked = dataclasses.replace(experiment, loss=lambda splits: losses.CrossEntropyLoss())
        >>> asked.with_loss(experiment.data(0)).loss.name
        'cross_entropy'
        """
        loss = self.loss if isinstance(self.loss, OpenSetLoss) else self.loss(splits)  # which can be called, too
        if not isinstance(loss, OpenSetLoss):
            raise ValueError(f"`loss` gives a loss of cplus1_keras.losses for splits. Received: {loss!r}")
        loss = self.task.loss(loss.smooth(self.label_smoothing) if self.label_smoothing else loss)
        task = self.task.for_splits(splits)
        same = loss is self.loss and task is self.task
        return self if same else dataclasses.replace(self, loss=loss, task=task)

    def splits(self):
        """The `data.Splits` of its seed, as its task takes them; ValueError where `data` gives something else.

        >>> len(configs.resolve("digits").splits().test)
        642
        """
        splits = self.data(self.seed)
        if not isinstance(splits, Splits):
            raise ValueError(f"`data` gives `data.Splits`, as `data.split` makes them. Received: {splits!r}")
        return self.task.splits(splits, self.seed)

    def length(self, splits):
        """How long training is.

        Returns:
            Pair of ints: Keras's epochs, each of which ends with a checkpoint, and steps in each.

        >>> experiment = configs.resolve("digits")
        >>> experiment.length(experiment.data(0))
        (25, 20)
        """
        if self.steps is None:
            return self.epochs, self.task.steps_per_epoch(splits.train, self)
        epochs = _epochs(self.steps, self.interval)
        return epochs, self.steps // epochs


def _check_kinds(experiment):
    """ValueError for a field that is no name, task, seed or factory."""
    name, seed, loss = experiment.name, experiment.seed, experiment.loss
    if not isinstance(name, str) or not is_name(name) or name in (".", "..") or set(name) & set("/\\"):
        raise ValueError(f"`name` names a folder: a text without slashes and line ends. Received: name={name!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**31:
        raise ValueError(f"`seed` is an int >= 0 and below 2**31. Received: seed={seed!r}")
    if not isinstance(experiment.task, Task):
        raise ValueError(f"`task` is a task, like `tasks.Classification()`. Received: {experiment.task!r}")
    other = isinstance(loss, type | keras.losses.Loss) or not callable(loss)
    if other and not isinstance(loss, OpenSetLoss):
        needs = "`loss` is a loss of cplus1_keras, like `losses.CrossEntropyLoss()`, or a function from splits to one"
        raise ValueError(f"{needs}. Received: {loss!r}")
    for field, gives in FACTORIES.items():
        given = getattr(experiment, field)
        # Keras's objects can be called, too, but one that is there already would be shared by all runs.
        made = isinstance(given, keras.Layer | keras.optimizers.schedules.LearningRateSchedule)
        if (made or not callable(given)) and not (given is None and field == "schedule"):
            raise ValueError(f"`{field}` is a function {gives}. Received: {given!r}")


def _epochs(steps, interval):
    """The divisor of `steps` that makes epochs of about `interval` steps."""
    divisors = [epochs for epochs in range(1, steps + 1) if steps % epochs == 0]
    best = min(divisors, key=lambda epochs: abs(math.log(steps / epochs / interval)))
    if steps / best > 4 * interval or (best > 1 and steps / best < interval / 4):
        raise ValueError(
            f"`steps` must be a multiple of a number near `interval`, {interval}, so that epochs are equal. Received: "
            f"steps={steps}. Take {interval * max(1, round(steps / interval))}."
        )
    return best
