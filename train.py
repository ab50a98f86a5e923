"""Train an open-set classifier, judge it on unknown classes, calibrate its threshold and export it for serving.

    python train.py                                   handwritten digits that ship with scikit-learn, under 2 minutes
    python train.py --list                            the configs that ship
    python train.py --config digits --set epochs=3    another run, with a shorter training
    python train.py --config my_module.my_function    your own: a function that returns a complete Experiment
    python train.py --resume runs/digits              go on with a run that was stopped

Each run gets a directory of its own under --workdir: model.keras, saved_model/, calibration.json, metrics.json,
oscr.png, config.json and TensorBoard logs; of images also predictions.csv and accepted_unknowns.png, of pixels
pictures/.
"""

import os
import sys

from absl import app, flags, logging

CONFIG = flags.DEFINE_string("config", "digits", "Short name of a config that ships (--list), or a dotted name.")
WORKDIR = flags.DEFINE_string("workdir", "runs", "Folder of runs. A run never overwrites another.")
SET = flags.DEFINE_multi_string(
    "set", [], "name=value: an argument of the config, or a field of its Experiment. May be repeated."
)
RESUME = flags.DEFINE_string("resume", None, "Directory of a run that was stopped, to go on with.")
LIST = flags.DEFINE_bool("list", False, "List the configs that ship, with what each needs, and stop.")


def main(argv):
    """Run what the flags say."""
    if len(argv) > 1:
        raise app.UsageError(f"train.py takes flags only. Received: {' '.join(argv[1:])}. Did you mean --config?")
    logging.set_verbosity(logging.WARNING)
    import tensorflow as tf

    from cplus1_keras import (  # after the flags are read, so that --help does not wait for TensorFlow
        configs,
        experiment,
    )

    if LIST.value:
        print(configs.listing())
        return
    try:
        if RESUME.value:
            experiment.resume(RESUME.value)
            return
        command = {"config": CONFIG.value, "set": SET.value}
        configs.resolve(CONFIG.value, SET.value).run(WORKDIR.value, command=command)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        # What a user can mend is told in a sentence; the rest keeps its traceback.
        sys.exit(f"train.py: {error}")
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:  # what tf.data says of a damaged image
        sys.exit(f"train.py: {error.message}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow tells of each GPU that is not there
    app.run(main)
