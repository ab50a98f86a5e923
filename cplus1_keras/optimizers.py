"""Learning rates over the steps of a training, and SGD as mmsegmentation, which the C+1 paper trains with, has it."""

import keras

from cplus1_keras.labels import check_count


def poly(rate, steps, power=0.9, end=1e-4):
    """The "poly" policy: a learning rate that falls from its first value to the last in a given number of steps.

        rate(t) = (first - last) (1 - t / steps)^power + last

    Args:
        rate: The first value.
        steps: Number of steps, >= 1.
        power: Above 0; 0.9 in the paper.
        end: The last value, or the first where that is below it; 1e-4 is mmsegmentation's.

    Returns:
        Keras's `PolynomialDecay`, from a step to a rate: `schedule=poly` of an `Experiment`.

    Reference: C+1 loss (2022), section 4.2.1; Liu et al., "ParseNet", 2015.

    >>> schedule = poly(0.01, steps=100)
    >>> round(float(schedule(0)), 6), round(float(schedule(100)), 6)
    (0.01, 0.0001)
    """
    return keras.optimizers.schedules.PolynomialDecay(rate, steps, min(end, rate), power)


def cosine(rate, steps, end=0.0):
    """A learning rate that falls along half a cosine wave, from its first value to the share `end` of it.

    Args:
        rate, steps: As for `poly`.
        end: In [0, 1].

    Returns:
        Keras's `CosineDecay`.

    Reference: Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.

    >>> [round(float(cosine(0.4, steps=100)(step)), 3) for step in (0, 50, 100)]
    [0.4, 0.2, 0.0]
    """
    return keras.optimizers.schedules.CosineDecay(rate, steps, alpha=end)


def stepwise(rate, steps, at=(0.5, 0.75), factor=0.1):
    """A learning rate that is multiplied by a factor after some shares of the steps.

    Args:
        rate, steps: As for `poly`.
        at: Shares of all steps, ascending, in (0, 1); 84 and 122 of 164 epochs in HNC (2020), section 4.1.
        factor: Above 0.

    Returns:
        Keras's `PiecewiseConstantDecay`.

    Reference: K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.

    >>> [round(float(stepwise(1.0, steps=100)(step)), 3) for step in (50, 51, 76)]
    [1.0, 0.1, 0.01]
    """
    values = [rate * factor**number for number in range(len(at) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay([round(share * steps) for share in at], values)


SCHEDULES = {"cosine": cosine, "poly": poly, "stepwise": stepwise}
"""Schedules by the names that `--set schedule=` takes."""


def schedule(name):
    """The schedule of that name; ValueError where there is none.

    >>> schedule("cosine") is cosine
    True
    """
    if name not in SCHEDULES:
        raise ValueError(f"No schedule is named {name!r}. There are: {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


@keras.saving.register_keras_serializable("cplus1_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose first steps are smaller: the rate rises linearly to where the schedule has it.

        rate(t) = min(1, (t + 1) / steps) schedule(t)

    Args:
        schedule: A Keras schedule, or a number.
        steps: Number of steps, >= 1.

    Reference: Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2.

    >>> [round(float(WarmUp(0.4, steps=4)(step)), 1) for step in (0, 1, 3, 9)]
    [0.1, 0.2, 0.4, 0.4]
    """

    def __init__(self, schedule, steps):
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        self.schedule, self.steps = schedule, check_count(steps, "steps")

    def __call__(self, step):
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        share = (keras.ops.cast(step, "float32") + 1) / self.steps
        return keras.ops.minimum(share, 1.0) * rate

    def get_config(self):
        given = keras.saving.serialize_keras_object(self.schedule) if callable(self.schedule) else self.schedule
        return {"schedule": given, "steps": self.steps}


@keras.saving.register_keras_serializable("cplus1_keras")
class SGDWithL2(keras.optimizers.SGD):
    """SGD with momentum whose weight decay is part of the gradient, as PyTorch's and thus the paper's.

        v <- momentum v - rate (g + l2 w),    w <- w + v

    The `weight_decay` of Keras's SGD bypasses the momentum, w <- w - rate · decay · w: with momentum 0.9 it is a tenth
    of what the same number is here. All variables decay, those of batch normalisation too.

    Args:
        learning_rate: A number or a schedule.
        momentum: In [0, 1].
        l2: Weight decay, >= 0; 5e-4 in the paper for VOC.
        **kwargs: As for `keras.optimizers.SGD`.

    Raises:
        ValueError: For a negative `l2`, or the other kind of weight decay beside it.

    Reference: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, for the difference.

    >>> weight = keras.Variable([1.0])
    >>> SGDWithL2(0.1, l2=0.5).apply([np.array([0.0], "float32")], [weight])
    >>> round(float(weight[0]), 6)
    0.95
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, l2=5e-4, name="sgd_with_l2", **kwargs):
        super().__init__(learning_rate, momentum, name=name, **kwargs)
        if not l2 >= 0 or kwargs.get("weight_decay"):
            received = f"l2={l2}, weight_decay={kwargs.get('weight_decay')}"
            raise ValueError(f"`l2` is a weight decay >= 0, in place of `weight_decay`. Received: {received}")
        self.l2 = float(l2)

    def update_step(self, gradient, variable, learning_rate):
        value = keras.ops.convert_to_tensor(variable)
        return super().update_step(gradient + keras.ops.cast(self.l2 * value, gradient.dtype), variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


def make_optimizer(experiment, steps):
    """The optimizer of an `Experiment` that trains for so many steps, with its schedule, warm-up and moving average.

    Raises:
        ValueError: A moving average is wanted of a `MultiOptimizer`.

    >>> make_optimizer(configs.resolve("digits", ["ema=0.9"]), 500).ema_momentum
    0.9
    """
    rate = experiment.learning_rate
    if experiment.schedule is not None:
        rate = experiment.schedule(rate, steps)
    if experiment.warmup:
        rate = WarmUp(rate, max(1, round(experiment.warmup * steps)))
    optimizer = experiment.optimizer(rate)
    if experiment.ema is not None:
        if isinstance(optimizer, keras.optimizers.MultiOptimizer):
            raise ValueError("Keras's MultiOptimizer averages no weights: leave `ema` None, or take one optimizer.")
        optimizer.use_ema, optimizer.ema_momentum = True, experiment.ema
    return optimizer
