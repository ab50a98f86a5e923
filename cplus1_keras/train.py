"""Train an open-set classifier, judge it on unknown classes, calibrate its threshold and export it for serving.

    python train.py                                   handwritten digits that ship with scikit-learn, under 2 minutes
    python train.py --list                            the configs that ship
    python train.py --config digits --set epochs=3    another run, with a shorter training
    python train.py --config my_module.my_function    your own: a function that returns a complete Experiment
    python train.py --check                           read the files of all splits, look for copies of images
    python train.py --dry-run                         say how long a run will take, and what memory and disk
    python train.py --resume runs/digits              go on with a run that was stopped

Each run gets a directory of its own under --workdir: model.keras, saved_model/, calibration.json, metrics.json,
oscr.png, config.json, TensorBoard logs, and report.html, which shows all of it in a browser; of images also
predictions.csv and accepted_unknowns.png, of pixels pictures/.
"""

import argparse
import os
import sys

import tensorflow as tf
from absl import logging

from cplus1_keras import configs, data, dry_run, run
from cplus1_keras.signals import stop_on_signals


def main(arguments=None):
    """Do what the command line says; `cplus1-train`, and `python train.py` in a checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="digits", help="short name of a config that ships, or a dotted name")
    parser.add_argument("--workdir", default="runs", help="folder of runs; a run never overwrites another")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; may be repeated")
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped")
    parser.add_argument("--check", action="store_true", help="read all files, look for copies, and train nothing")
    parser.add_argument("--dry-run", action="store_true", help="check all, train a few steps, say what a run will take")
    parser.add_argument("--deterministic", action="store_true", help="runs equal to the bit on one machine, at a price")
    parser.add_argument("--list", action="store_true", help="list the configs that ship and what each needs")
    parser.add_argument("others", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.others:
        parser.error(f"takes options only. Received: {' '.join(given.others)}. Did you mean --config?")
    logging.set_verbosity(logging.WARNING)
    stop_on_signals()
    sys.path.insert(0, os.getcwd())  # where a config of one's own lies
    if given.list:
        print(configs.listing())
        return
    if given.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        if given.resume:
            run.resume(given.resume)
            return
        found = configs.resolve(given.config, given.set)
        if given.check:
            print(dry_run.check_data(found))
        if given.dry_run:
            print(dry_run.dry_run(found, given.workdir))
        if given.check or given.dry_run:
            return
        run.tell_stopped(given.workdir, found.name)
        command = {"config": given.config, "set": given.set, "deterministic": given.deterministic}
        found.run(given.workdir, command=command)
    except KeyboardInterrupt as stop:
        sys.exit("\n".join(["train.py: stopped.", *getattr(stop, "__notes__", [])]))
    except (ValueError, OSError, RuntimeError, FloatingPointError, tf.errors.OpError) as error:
        # What a user can mend is told in a sentence; the rest keeps its traceback.
        sys.exit("\n".join([f"train.py: {data.sentence(error)}", *getattr(error, "__notes__", [])]))


if __name__ == "__main__":
    main()
