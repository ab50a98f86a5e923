"""Reads, decodes and answers the parts of a job; the same code here and in a Ray actor."""

import concurrent.futures
import os
import pathlib
import socket

import numpy as np
import pyarrow as pa

from cplus1_keras import serving
from cplus1_keras.bulk import inputs, tables
from cplus1_keras.bulk.jobs import open_job
from cplus1_keras.progress import follow

AHEAD = 2
"""Batches under way at once: while one is in the model, the next is read and decoded."""

UNANSWERED = "cannot be answered: damaged, too large, or not what the model takes"


def score(saved_model, source, output, column=None, part=10_000, batch_size=None, ray=None, workers=None):
    """Answer for all images of a folder or table, and write one row for each to parquet files.

    A call that was stopped is repeated to go on: parts that are done stay. Inputs are listed once, by the first call.
    The columns are `path`, the answer (`tables.COLUMNS` by the kind of model), `valid` and `problem`, null where there
    is none; rows are in the order of the inputs, over the parts by name. A part's metadata tell the host and process
    that wrote it.

    Args:
        saved_model: Folder of a SavedModel that `export` wrote; with Ray one that every node sees.
        source, column: As for `inputs.list_inputs`.
        output: Path or URI of a folder, new or of a call that was stopped; with Ray one that every node sees.
        part: Images in a file.
        batch_size: How many go through the model at once; None takes what the kind of model says.
        ray: None answers in this process. Otherwise the address of a Ray cluster, such as "auto", or "local" to start
            Ray on this machine.
        workers: Number of Ray actors; None takes one for each GPU, or where there is none for each node.

    Returns:
        Pair of the number of images and of those without an answer, which `_problems.csv` in the output names.

    Raises:
        FileNotFoundError: There is no input.
        ImportError: Ray is asked for and not installed.
        RuntimeError: The model fails, or memory is short for one image alone; parts that are done stay.
        ValueError: Model, inputs and output do not fit.

    >>> score("runs/none", "images", "answers")
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel that `cplus1_keras.export` wrote: it lacks saved_model.pb
    """
    job = open_job(saved_model, source, output, column, part)
    missing = job.missing()
    if ray is None:
        worker = Worker(job, batch_size) if missing else None
        done = ({"part": number, "rows": worker.score(number)} for number in missing)
    else:
        from cplus1_keras.bulk.cluster import run

        done = run(job, batch_size, missing, ray, workers)
    for _ in follow(done, len(missing), "parts"):
        pass
    left = job.missing()
    if left:
        raise RuntimeError(f"{len(left):,} of {job.parts:,} parts are missing in {output}. Start again to go on.")
    return job.rows, job.finish()


class Worker:
    """Answers parts of a job by a SavedModel that it loads once.

    Args:
        job: A `jobs.Job`.
        batch_size: As for `score`.

    >>> Worker(bulk.jobs.Job("runs/none", "images", None, "answers", rows=25, part=10))
    Traceback (most recent call last):
    ValueError: runs/none is no SavedModel: it lacks saved_model.pb
    """

    def __init__(self, job, batch_size=None):
        self.job, self.model = job, serving.SavedModel(pathlib.Path(job.saved_model))
        self.batch_size = batch_size or self.model.spec.batch_size
        self.schema = tables.schema(self.model.spec)
        self.pool = concurrent.futures.ThreadPoolExecutor(AHEAD)

    def __call__(self, row):
        """As Ray Data calls it."""
        return {"part": row["part"], "rows": self.score(int(row["part"]))}

    def score(self, number):
        """Write the table of a part; the number of its rows."""
        rows = self.job.read_inputs(number)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        table = pa.concat_tables(self.pool.map(self.answer, batches))
        self.job.write(number, table.replace_schema_metadata({"worker": f"{socket.gethostname()} {os.getpid()}"}))
        return table.num_rows

    def answer(self, rows):
        """The table of a batch of inputs."""
        return pa.concat_tables(serving.isolate(self._ask, self._refuse, rows))

    def _ask(self, rows):
        contents, problems = inputs.read_contents(rows, self.job.column)
        told = tables.tell(self.model, self.model.predict_bytes(contents, len(contents)))
        return self._tabulate(rows, told, problems)

    def _refuse(self, row, error):
        return self._tabulate([row], {"valid": [False]}, [f"cannot be answered: {error.message.splitlines()[0]}"])

    def _tabulate(self, rows, told, problems):
        wrong = [why or (None if fine else UNANSWERED) for why, fine in zip(problems, told["valid"], strict=True)]
        columns = {"path": [row["path"] for row in rows], **told, "problem": wrong}
        arrays = [_to_array(columns.get(field.name), field.type, len(rows)) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def _to_array(values, kind, number):
    if values is None:
        return pa.nulls(number, kind)
    if isinstance(values, pa.Array):
        return values
    return pa.array(values.tolist() if isinstance(values, np.ndarray) else values, kind)
