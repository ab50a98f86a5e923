"""A table of the papers, run and told beside what they print: `python benchmarks/table.py NAME [--full] [--seeds N]`.

    python benchmarks/table.py ncm2 --set data_dir=FOLDER                  small: on a CPU, in minutes
    python benchmarks/table.py hnc1 --full --seeds 5 --set data_dir=FOLDER  the paper's size: a GPU
    python benchmarks/table.py thesis6.1 --dry-run --set ...                how long it would take
    python benchmarks/table.py ncm2 --rows "MNIST SoftMax,MNIST E-NCM (p=0.1)"

NAMES are those of `tables.TABLES`. Rows with one seed share splits, first weights, the order of images and their
augmentation, so that differences are paired. Each run has a folder of its own under --folder: one that is finished is
kept, one that was stopped goes on from its checkpoint. Results go to docs/results as JSON and Markdown.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from comparison import train
from tables import TABLES
from tables.figures import judge
from tables.jobs import ROOT, list_jobs, splits_for
from tables.report import report

from cplus1_keras.checkpoints import Checkpoint
from cplus1_keras.directory import CHECKPOINTS, clean, hold
from cplus1_keras.progress import duration
from cplus1_keras.provenance import provenance, write_json
from cplus1_keras.run import build


def work(job):
    """Train and judge, from where it was stopped."""
    keras.utils.disable_interactive_logging()
    job.folder.mkdir(parents=True, exist_ok=True)
    with hold(job.folder):
        clean(job.folder)
        write_json(job.folder / "job.json", job.described)
        start, experiment, table = time.monotonic(), job.experiment, TABLES[job.table]
        splits = splits_for(experiment)
        try:
            model, *_ = train(experiment, splits, job.folder)
            figures = judge(model, experiment, splits, table)
        except FloatingPointError as error:  # a loss that diverges is a result, too: the thesis has one
            figures = {"diverged": str(error)}
        figures |= {"seconds": round(time.monotonic() - start, 1), "provenance": provenance()}
        write_json(job.folder / "figures.json", figures)
        Checkpoint(job.folder / CHECKPOINTS).remove()
    keras.backend.clear_session()
    return figures


def estimate(jobs, timed=5):
    """Seconds that jobs will take in one process: as others of their row or kind did, or by their first steps."""
    kinds, total = {}, 0.0
    for job in jobs:
        found = job.figures()
        if found:
            kinds[_kind(job)] = found["seconds"]
    for job in jobs:
        if job.figures() is None:
            kind = _kind(job)
            if kind not in kinds:
                kinds[kind] = _time_steps(job.experiment, timed)
                print(f"  {job.row}: about {duration(kinds[kind])} a run", flush=True)
            total += kinds[kind]
    return total


def _kind(job):
    """What decides how long a job takes, about: all but the method and what makes no difference to a step."""
    same = ("method=", "protocol=", "hnc=", "dropout=", "symmetric_noise=", "circular_noise=")
    return job.config, tuple(text for text in job.settings if not text.startswith(same))


def _time_steps(experiment, steps):
    """Seconds of a training, by a few steps after one that compiles."""
    splits = splits_for(experiment)
    model = build(experiment.with_loss(splits), splits)
    batches = experiment.task.training(model, splits.train, experiment)
    model.fit(batches, steps_per_epoch=1, epochs=1, verbose=0, shuffle=False)
    start = time.monotonic()
    model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
    each, (epochs, length) = (time.monotonic() - start) / steps, experiment.length(splits)
    return epochs * length * each


def _use_threads(number):
    tf.config.threading.set_intra_op_parallelism_threads(number)
    tf.config.threading.set_inter_op_parallelism_threads(number)


def run_jobs(jobs, processes):
    """Do what is not done, in several processes where asked for."""
    todo = [job for job in jobs if job.figures() is None]
    if processes == 1:
        for job in todo:
            tell(job, work(job))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    settings = {"mp_context": multiprocessing.get_context("spawn"), "initializer": _use_threads}
    with concurrent.futures.ProcessPoolExecutor(processes, **settings, initargs=(max(1, cores // processes),)) as pool:
        waiting = {pool.submit(work, job): job for job in todo}
        for future in concurrent.futures.as_completed(waiting):
            tell(waiting[future], future.result())


def tell(job, figures):
    """A line for a run that is finished."""
    what = f"accuracy {figures['accuracy']:.3f}" if "accuracy" in figures else "diverged"
    print(f"{job.row}, seed {job.seed}: {what}  ({figures['seconds']} s)", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TABLES)
    parser.add_argument("--full", action="store_true", help="the paper's size, for a GPU")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", help="names of rows, comma-separated (default: all)")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--processes", type=int, help="at a time (default: 1 with a GPU, else one a core)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "runs/tables", help="of the runs")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/results", help="folder of the results")
    parser.add_argument(
        "--dry-run", action="store_true", help="train nothing: say how long it will take, and tell what is finished"
    )
    given = parser.parse_args(arguments)
    keras.utils.disable_interactive_logging()
    rows = given.rows and given.rows.split(",")
    jobs = list_jobs(given.name, rows, given.seeds, given.full, given.settings, given.folder)
    processes = given.processes or (1 if tf.config.list_physical_devices("GPU") else os.cpu_count())
    left = [job for job in jobs if job.figures() is None]
    print(f"{TABLES[given.name].title}: {len(jobs)} runs, {len(jobs) - len(left)} of them finished", flush=True)
    if left:
        took = duration(estimate(jobs) / processes)
        print(f"{len(left)} runs in {processes} processes: about {took}, reading and judging not counted", flush=True)
    if not given.dry_run:
        run_jobs(jobs, min(processes, max(1, len(left))))
    print(report(given.name, jobs, given.output, given.full))


if __name__ == "__main__":
    main()
