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
import signal
import sys

from absl import app, flags, logging


def main(argv):
    """Run what the flags say."""
    given = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"train.py takes flags only. Received: {' '.join(argv[1:])}. Did you mean --config?")
    logging.set_verbosity(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if given.list:
        from cplus1_keras.configs import listing

        print(listing())
        return
    import tensorflow as tf  # after the flags are read, so that --help does not wait for TensorFlow

    from cplus1_keras import configs, dry_run, run

    sys.path.insert(0, os.getcwd())  # where a config of one's own lies
    if given.deterministic:
        tf.config.experimental.enable_op_determinism()
    try:
        if given.resume:
            run.resume(given.resume)
            return
        found = configs.resolve(given.config, given.set)
        if given.dry_run:
            print(dry_run.dry_run(found))
            return
        run.tell_stopped(given.workdir, found.name)
        found.run(given.workdir, command={"config": given.config, "set": given.set})
    except KeyboardInterrupt as stop:
        sys.exit("\n".join(["train.py: stopped.", *getattr(stop, "__notes__", [])]))
    except (ValueError, OSError, RuntimeError, FloatingPointError, tf.errors.OpError) as error:
        # What a user can mend is told in a sentence; the rest keeps its traceback.
        text = getattr(error, "message", None) or str(error)
        sys.exit("\n".join([f"train.py: {text}", *getattr(error, "__notes__", [])]))


def console():
    """The command `cplus1-train`, and `python train.py` in a checkout."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow tells of each GPU that is not there
    flags.DEFINE_string("config", "digits", "Short name of a config that ships (--list), or a dotted name.")
    flags.DEFINE_string("workdir", "runs", "Folder of runs. A run never overwrites another.")
    flags.DEFINE_multi_string(
        "set", [], "name=value: an argument of the config, or a field of its Experiment. May be repeated."
    )
    flags.DEFINE_string("resume", None, "Directory of a run that was stopped, to go on with.")
    flags.DEFINE_bool("dry_run", False, "Check everything, train a few steps, say what the run will take; and stop.")
    flags.DEFINE_bool("deterministic", False, "Equal runs to the bit on one machine; may cost time.")
    flags.DEFINE_bool("list", False, "List the configs that ship, with what each needs, and stop.")
    app.run(main)


if __name__ == "__main__":
    console()
