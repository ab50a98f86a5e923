"""The monitor of a run: what a task has to show, by its own records where images have no common size."""

import functools

from cplus1_keras.monitoring.monitor import OpenSetMonitor
from cplus1_keras.provenance import list_settings
from cplus1_keras.tasks.watching import Watching, spaced

FEW = 16
"""Training images to look at where there is no validation split."""


def make_monitor(model, experiment, splits, logs, sample):
    """The `OpenSetMonitor` of an experiment; without a validation split it looks at some training images.

    Args:
        model: What `run.build` gives.
        experiment: An `Experiment`.
        splits: Its `data.Splits`.
        logs: Folder of the logs.
        sample: A training batch.

    >>> from cplus1_keras import run
    >>> experiment = configs.resolve("digits")
    >>> splits = experiment.splits()
    >>> model = run.build(experiment, splits)
    >>> batch = next(iter(experiment.task.training(model, splits.train, experiment)))
    >>> make_monitor(model, experiment, splits, "logs", batch).directory
    'logs/monitor'
    """
    task = experiment.task
    every = task.predictor(model, experiment.score, splits)

    judged = len(splits.validation) > 0
    split = splits.validation if judged else splits.train.subset(spaced(len(splits.train), FEW))
    source = task.validation(model, split, experiment)
    if source is None:
        source = functools.partial(task.records, Watching(every), split, experiment)

    def calibrate(records):
        # Batches do not tell what belongs together.
        own = (record._replace(group=group) for record, group in zip(records, split.groups, strict=False))
        return task.choose_threshold(every, own, split, experiment)

    return OpenSetMonitor(
        source if judged else None,
        logs,
        splits.class_names,
        experiment.score,
        others={} if judged else {"training": source},
        figures=functools.partial(task.watched_figures, every),
        calibrate=calibrate,
        sample=sample,
        batch_size=experiment.batch_size,
        hparams=list_settings(experiment),
    )
