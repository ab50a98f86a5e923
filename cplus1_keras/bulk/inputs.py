"""What is to be answered: the images of a folder, or those that a column of a table names or holds."""

import contextlib
import functools
import os
import threading

import pyarrow as pa
from pyarrow import csv, parquet

from cplus1_keras.bulk import files
from cplus1_keras.data.reading import IMAGE_ENDINGS

SCHEMA = pa.schema([("path", pa.string()), ("file", pa.string()), ("row", pa.int64())])
"""A row for each input: its name in the answers, the file to read, and the row where that is a table of images."""


_TABLES = threading.Lock()  # batches that are read at once share the row group in memory


def list_inputs(source, column=None):
    """All inputs, in the order of their answers.

    Args:
        source: Path or URI of a folder, searched for images at any depth; or of a csv, a parquet file or, with
            `column`, a folder of parquet files.
        column: Of a table, what names the images (text; paths that are not absolute begin at the table's folder) or
            holds them (bytes; their name is that of the column `path`, if there is one). None takes `path`. Of bytes a
            row group of parquet is in memory whole: write groups of some hundred MB at most.

    Returns:
        `pa.Table` of `SCHEMA`.

    Raises:
        FileNotFoundError: There is nothing, or no image.
        ValueError: A table has no such column, or one of other things.

    >>> list_inputs("nowhere")
    Traceback (most recent call last):
    FileNotFoundError: There is no file or folder nowhere.
    """
    found = files.kind(source)
    if found is None:
        raise FileNotFoundError(f"There is no file or folder {source}.")
    if found == "folder" and column is None:
        names = [name for name in files.list_files(source) if name.lower().endswith(IMAGE_ENDINGS)]
        paths = [files.join(source, name) for name in names]
        table = _to_table(paths, paths)
    else:
        tables = [source]
        if found == "folder":
            names = [name for name in files.list_files(source) if name.endswith(".parquet")]
            tables = [files.join(source, name) for name in names if os.path.basename(name)[0] not in "._"]
        table = pa.concat_tables([_list_rows(own, column or "path") for own in tables] or [SCHEMA.empty_table()])
    if not table.num_rows:
        wanted = f"image ({', '.join(IMAGE_ENDINGS)})" if column is None else "row in a parquet file"
        raise FileNotFoundError(f"{source} has no {wanted}.")
    return table


def _to_table(paths, read, rows=None):
    rows = pa.nulls(len(paths), pa.int64()) if rows is None else rows
    return pa.table([pa.array(paths, pa.string()), pa.array(read, pa.string()), rows], schema=SCHEMA)


def _list_rows(path, column):
    """The inputs of one table."""
    path = str(path)
    read, types, number = _open(path)
    if column not in types:
        raise ValueError(f"{path} has no column {column!r}; there are {', '.join(types)}.")
    if types[column] in (pa.string(), pa.large_string()):
        given = read(column)
        folder = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
        whole = [name if "://" in name or os.path.isabs(name) else files.join(folder, name) for name in given]
        return _to_table(given, whole)
    if types[column] not in (pa.binary(), pa.large_binary()):
        raise ValueError(
            f"The column {column!r} of {path} must name images or hold their bytes. It is {types[column]}."
        )
    names = read("path") if types.get("path") in (pa.string(), pa.large_string()) else [""] * number
    names = [name or f"{path}#{row}" for row, name in enumerate(names)]
    return _to_table(names, [path] * number, pa.array(range(number), pa.int64()))


def _open(path):
    """A function from the name of a column of texts to its list, the types of all columns, and the number of rows."""
    system, own = files.locate(path)
    try:
        if path.endswith(".csv"):
            with system.open_input_stream(own) as stream:
                table = csv.read_csv(stream)
            read, schema, number = table.column, table.schema, table.num_rows
        else:
            read = lambda column: parquet.read_table(own, columns=[column], filesystem=system)[column]  # noqa: E731
            schema, number = (
                parquet.read_schema(own, filesystem=system),
                parquet.read_metadata(own, filesystem=system).num_rows,
            )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no table of inputs, neither csv nor parquet: {error}") from error
    return (
        lambda column: [name or "" for name in read(column).to_pylist()],
        dict(zip(schema.names, schema.types, strict=True)),
        number,
    )


def read_contents(rows, column):
    """The encoded images of inputs, and what is wrong with those that cannot be read, whose contents are empty.

    Args:
        rows: List of dicts with the keys of `SCHEMA`.
        column: As for `list_inputs`.

    Returns:
        Pair of lists: bytes, and texts, None where nothing is wrong.

    >>> read_contents([{"path": "a.png", "file": "/nowhere/a.png", "row": None}], None)[0]
    [b'']
    """
    with _TABLES if any(row["row"] is not None for row in rows) else contextlib.nullcontext():
        pairs = [_read(row, column) for row in rows]
    return [found for found, _ in pairs], [problem for _, problem in pairs]


def _read(row, column):
    try:
        found = files.read_file(row["file"]) if row["row"] is None else _read_cell(row["file"], row["row"], column)
    except (OSError, TypeError, ValueError) as error:
        return b"", f"cannot be read: {str(error).splitlines()[0]}"
    return found or b"", None if found else "cannot be read: it is empty"


def _read_cell(path, row, column):
    starts, read = _open_table(path, column or "path")
    group = next(number for number in range(len(starts) - 1) if row < starts[number + 1])
    return read(group)[row - starts[group]].as_py()


@functools.lru_cache(maxsize=1)  # the rows of a part follow each other
def _open_table(path, column):
    """The first rows of the groups of a parquet file, and a function from the number of a group to its column."""
    system, own = files.locate(path)
    table = parquet.ParquetFile(own, filesystem=system)
    starts = [0]
    for number in range(table.num_row_groups):
        starts.append(starts[-1] + table.metadata.row_group(number).num_rows)
    read = functools.lru_cache(maxsize=1)(lambda group: table.read_row_group(group, columns=[column])[column])
    return starts, read
