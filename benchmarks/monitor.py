"""What watching costs: seconds of training without a callback, with validation alone, and as `train.py` watches.

    python benchmarks/monitor.py                        digits, three rounds: a minute
    python benchmarks/monitor.py --config camvid --set root=FOLDER --set steps=300 --set interval=100
    python benchmarks/monitor.py --rounds 1 --set epochs=2    a smoke test

The first includes no pass over validation images at all, the second one in each epoch; both compile what they need. The
target, at most 1.10 times the second, is for trainings of the configs' own length.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from cplus1_keras import configs, run
from cplus1_keras.monitoring import make_monitor
from cplus1_keras.provenance import as_sentence, provenance

TARGET = 1.10
WAYS = ("nothing", "validation alone", "as train.py")


class Nothing(keras.callbacks.Callback):
    """A monitor that does nothing."""

    def watch_input(self, batches):
        return batches


def seconds(experiment, splits, way):
    """Seconds of a training that is watched in a way, those of the processor, and those of drawing."""
    watch = []

    def make(*given):
        watch.append(Nothing() if way == "nothing" else make_monitor(*given))
        if way == "validation alone":
            watch[0].budget.share = 1e-9
        return watch[0]

    keras.utils.set_random_seed(experiment.seed)
    model, run.make_monitor = run.build(experiment, splits), make
    with tempfile.TemporaryDirectory() as folder:
        start, busy = time.perf_counter(), time.process_time()
        run.fit(model, experiment, splits, pathlib.Path(folder))
        drawing = getattr(getattr(watch[0], "budget", None), "spent", 0.0)
        return time.perf_counter() - start, time.process_time() - busy, drawing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as for train.py")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    experiment, splits = run.prepare(configs.resolve(options.config, options.set))
    keras.config.disable_interactive_logging()
    seconds(experiment, splits, WAYS[0])  # what the first training of a process takes longer
    found = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            found[way].append(seconds(experiment, splits, way))
    medians = {way: [statistics.median(values) for values in zip(*own, strict=True)] for way, own in found.items()}
    print(f"\n| {options.config} watched by | seconds | of the processor | drawing | of validation alone | target |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way, (total, busy, drawing) in medians.items():
        share, target = total / medians["validation alone"][0], TARGET if way == WAYS[-1] else ""
        print(f"| {way} | {total:.2f} | {busy:.2f} | {drawing:.2f} | {share:.2f} | {target} |")
    print(f"\nMedian of {options.rounds} rounds. {as_sentence(provenance())}")


if __name__ == "__main__":
    main()
