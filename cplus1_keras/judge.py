"""Judge a finished run again: at other rates, on other data.

    python -m cplus1_keras.judge RUN                                  its own figures once more
    python -m cplus1_keras.judge RUN --set fpr=0.05                   calibrated anew for another rate
    python -m cplus1_keras.judge RUN --data my_module.my_splits       on the splits that a function of a seed gives
    python -m cplus1_keras.judge RUN --set fpr=0.05 --adopt           and keep the new threshold in the run

Writes `metrics.json`, tables and pictures to RUN/judge, RUN/judge-2 and so on. `--adopt` replaces the run's
calibration.json and exports a SavedModel with the new threshold, as its next version.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import time

from absl import logging

from cplus1_keras import configs, serving
from cplus1_keras.directory import clean, new_directory, unfinished
from cplus1_keras.epilogue import epilogue
from cplus1_keras.provenance import describe, read_json, write_json
from cplus1_keras.report import attempt, report
from cplus1_keras.signals import stop_on_signals
from cplus1_keras.tasks import Task


def judge(run, settings=(), data=None, config=None, adopt=False):
    """Calibrate, if other rates are asked for, and judge a finished run.

    Args:
        run: Directory of a finished run.
        settings: Strings `name=value`: rates, or settings of the task.
        data: Function from a seed to `data.Splits`, or its dotted name; None takes the run's own.
        config: Name of the run's config, where its `config.json` does not tell.
        adopt: Whether to keep the new calibration in the run and export it.

    Returns:
        Path of the folder that it wrote.

    Raises:
        FileNotFoundError: There is no finished run.
        ValueError: The run does not tell its config, or rates and data do not fit.

    >>> judge("runs/digits", ["fpr=0.2"]).name  # doctest: +SKIP
    'judge'
    """
    start, run = time.monotonic(), pathlib.Path(run)
    predictor, experiment, splits = open_run(run, settings, data, config)
    task = experiment.task
    every, found = task.with_calibration(predictor), predictor.calibration
    if adopt or any(text.partition("=")[0] in task.promises for text in settings):
        found = task.find_threshold(every, splits, experiment)
    evidence = task.evidence(every, splits.test, found)
    figures, judged = task.judge(every, splits.test, experiment, found, evidence.update)
    calibrated = task.with_calibration(predictor, found)
    clean(run, age=3600)  # of a judging or an export that was killed
    with unfinished(run / "judge") as folder:
        folder.mkdir()
        task.write(folder, calibrated, splits.test, experiment, figures, judged)
        attempt("What a report needs", evidence.write, folder, splits.test)
        figures = {**describe(experiment), **figures, "calibration": found.to_dict()}
        figures["seconds"] = round(time.monotonic() - start, 1)
        write_json(folder / "metrics.json", figures)
        directory = new_directory(folder, run / "judge")
    saved_model = run / serving.SAVED_MODEL_FOLDER / "1"
    if adopt:
        serving.save_calibration(run, calibrated)
        saved_model = serving.next_version(run)
        calibrated.export(saved_model, samples=task.samples(every, splits.test, experiment))
    print(epilogue(task, figures, found, run, saved_model, directory, attempt("The report", report, [directory])))
    return directory


def open_run(run, settings=(), data=None, config=None):
    """A finished run, to be judged; arguments and errors are those of `judge`.

    Returns:
        Its `serving.Predictor`, its `Experiment` with the settings, and the `data.Splits`.

    >>> predictor, experiment, splits = open_run("runs/digits")  # doctest: +SKIP
    """
    predictor = serving.load(run)
    experiment = configs.resolve(*_command(pathlib.Path(run), config, settings))
    if data is not None:
        given = configs.find(data) if isinstance(data, str) else data
        experiment = dataclasses.replace(experiment, data=given)
    splits = experiment.splits()
    if [*splits.class_names] != [*predictor.class_names]:
        raise ValueError(
            f"{run} answers with {list(predictor.class_names)}; these splits know {list(splits.class_names)}. Give "
            "splits with the same known classes in the same order."
        )
    return predictor, experiment, splits


def _command(run, config, settings):
    """Name of a run's config and all settings, those of the run first."""
    file = run / "config.json"
    told = read_json(file).get("command") if file.is_file() else None
    if config is None and not told:
        raise ValueError(
            f"{file} does not tell by which config the run was made, as `train.py` writes it. Name it: "
            "--config my_module.my_function"
        )
    return (config, settings) if config else (told["config"], [*told["set"], *settings])


def main(arguments=None):
    """Do what the command line says; also `cplus1-judge`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="directory that train.py wrote")
    told = f"{', '.join(Task.promises)}, or a setting of the task; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=told)
    parser.add_argument("--data", help="dotted name of a function from a seed to data.Splits (default: the run's own)")
    parser.add_argument("--config", help="config of the run, where its config.json does not tell")
    parser.add_argument("--adopt", action="store_true", help="keep the new threshold in the run, and export it")
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    sys.path.insert(0, os.getcwd())  # where data of one's own may lie
    try:
        judge(given.run, given.set, given.data, given.config, given.adopt)
    except KeyboardInterrupt:
        sys.exit("Not judged: stopped.")
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"Not judged. {error}")


if __name__ == "__main__":
    main()
