"""A job: its inputs, pinned and cut into parts, and which of these are done; all of it in its output folder."""

import dataclasses
import hashlib
import json
import os
import pathlib

import pyarrow as pa
from pyarrow import compute, csv, parquet

from cplus1_keras.bulk import files
from cplus1_keras.bulk.inputs import list_inputs
from cplus1_keras.directory import UNFINISHED
from cplus1_keras.provenance import provenance

JOB, INPUTS, PROBLEMS = "_job.json", "_inputs.parquet", "_problems.csv"
"""Files beside the parts; readers of parquet folders leave out what begins with an underscore."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What every worker must know; `rows` inputs in parts of `part`, the last of which may have fewer.

    Args:
        saved_model: Folder of a SavedModel, the same for every worker.
        source, column: As for `inputs.list_inputs`.
        output: Folder of the parts, the same for every worker.
        rows, part: int >= 1.

    >>> Job("model", "images", None, "answers", rows=25, part=10).parts
    3
    """

    saved_model: str
    source: str
    column: str | None
    output: str
    rows: int
    part: int

    @property
    def parts(self):
        """How many there are."""
        return -(-self.rows // self.part)

    def path(self, number):
        """Of the table of a part."""
        return files.join(self.output, f"part-{number:06d}.parquet")

    def missing(self):
        """Numbers of the parts that are not done."""
        done = set(files.list_files(self.output))
        return [number for number in range(self.parts) if self.path(number).rpartition("/")[2] not in done]

    def read_inputs(self, number):
        """The inputs of a part, dicts with the keys of `inputs.SCHEMA`."""
        system, path = files.locate(files.join(self.output, INPUTS))
        return parquet.ParquetFile(path, filesystem=system).read_row_group(number).to_pylist()

    def write(self, number, table):
        """Write the table of a part, whole."""
        files.write_file(self.path(number), _to_bytes(table, max(1, table.num_rows)))

    def finish(self):
        """Delete what killed workers left, and name the inputs without an answer; their number."""
        files.clean(self.output)
        tables = [SCHEMA_OF_PROBLEMS.empty_table()]
        for number in range(self.parts):
            system, path = files.locate(self.path(number))
            table = parquet.read_table(path, columns=SCHEMA_OF_PROBLEMS.names, filesystem=system)
            tables.append(table.filter(compute.is_valid(table["problem"])))
        problems, sink = pa.concat_tables(tables), pa.BufferOutputStream()
        csv.write_csv(problems, sink)
        files.write_file(files.join(self.output, PROBLEMS), sink.getvalue())
        return problems.num_rows


SCHEMA_OF_PROBLEMS = pa.schema([("path", pa.string()), ("problem", pa.string())])


def open_job(saved_model, source, output, column=None, part=10_000):
    """A new `Job`, whose inputs are listed and pinned; or that in `output`, to go on with.

    Raises:
        ValueError: `output` holds a job of another model or other inputs, or something else.
    """
    model = fingerprint(saved_model)
    saved_model, source, output = map(files.absolute, (saved_model, source, output))  # for workers in other folders
    asked = {"model": model, "input": source, "column": column}
    found = files.list_files(output)
    if JOB in found:
        record = json.loads(files.read_file(files.join(output, JOB)))
        other = [name for name, value in asked.items() if record[name] != value]
        if other:
            raise ValueError(
                f"{output} holds answers for another {other[0]}, {record[other[0]]}. Choose another output."
            )
        rows, part = record["rows"], record["part"]
    else:
        others = [name for name in found if name != INPUTS and not os.path.basename(name).startswith(UNFINISHED)]
        if others:
            raise ValueError(f"{output} holds other files, such as {others[0]}. Choose another output.")
        if part < 1:
            raise ValueError(f"`part` is a number of images, at least 1. Received: part={part}")
        table = list_inputs(source, column)
        rows = table.num_rows
        files.write_file(files.join(output, INPUTS), _to_bytes(table, part))
        record = {**asked, "rows": rows, "part": part, "saved_model": saved_model, **provenance()}
        files.write_file(files.join(output, JOB), json.dumps(record, indent=1).encode())
    return Job(saved_model, source, column, output, rows, part)


def fingerprint(saved_model):
    """What tells one SavedModel from another: a digest of its graph, the checksums of its variables, its names."""
    folder, digest = pathlib.Path(saved_model), hashlib.sha256()
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/classes.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{saved_model} is no SavedModel that `cplus1_keras.export` wrote: it lacks {name}")
        digest.update((folder / name).read_bytes())
    return "sha256:" + digest.hexdigest()


def _to_bytes(table, group):
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, row_group_size=group)
    return sink.getvalue()
