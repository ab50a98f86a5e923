"""What tasks of images of any size look at while they train."""

import numpy as np

from cplus1_keras.callbacks import Pictures, Validation


def watch(task, model, experiment, splits, logs, judge, number):
    """Callbacks that judge the validation split after each epoch, and draw some images for TensorBoard.

    Args:
        task: A task that can `draw(predictor, split, experiment)`.
        model, experiment, splits, logs: As of `Task.callbacks`.
        judge: Function from a predictor that accepts everything to figures of the validation split, by name.
        number: How many images to draw, of the validation split, or where that is empty of training.
    """
    every = task.predictor(model, experiment.score, splits)
    shown = splits.validation if len(splits.validation) else splits.train
    shown = shown.subset(spaced(len(shown), number))
    pictures = Pictures(lambda: task.draw(every, shown, experiment), logs / "pictures")
    return [Validation(lambda: judge(every)), pictures] if len(splits.validation) else [pictures]


def spaced(length, number):
    """Indices, ascending and at most this many, that are evenly spaced.

    >>> spaced(6, 3)
    array([0, 2, 5])
    """
    return np.unique(np.linspace(0, length - 1, min(number, length)).astype(int))
