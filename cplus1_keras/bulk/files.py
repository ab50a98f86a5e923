"""Files here and in object stores by one name, a path or a URI such as s3://bucket/folder."""

import functools
import os
import socket
import urllib.parse
import uuid

from pyarrow import fs

from cplus1_keras.directory import UNFINISHED


def absolute(path):
    """A path or URI that means the same in every folder; `file://` URIs become paths.

    >>> absolute("file:///tmp/a%20b.png"), absolute("s3://bucket/a.png")
    ('/tmp/a b.png', 's3://bucket/a.png')
    """
    path = str(path)
    if path.startswith("file://"):
        path = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
    return path if "://" in path else os.path.abspath(path)


def locate(path):
    """The file system of a path or URI, and the path in it; ValueError for a scheme that there is not.

    Keys, region and endpoint of an object store come from the environment, as for its own tools.

    >>> locate("/tmp/a.png")[1]
    '/tmp/a.png'
    """
    path = absolute(path)
    scheme, found, rest = path.partition("://")
    if not found:
        return fs.LocalFileSystem(), path
    system, root = _connect(f"{scheme}://{rest.split('/')[0]}")
    return system, "/".join(part for part in (root, *rest.split("/")[1:]) if part)


@functools.lru_cache(maxsize=64)  # to find a bucket's region takes a request
def _connect(root):
    try:
        return fs.FileSystem.from_uri(root)
    except (OSError, ValueError) as error:
        raise ValueError(f"{root} cannot be reached: {error}") from error


def join(folder, name):
    """The path or URI of a name in a folder."""
    return f"{str(folder).rstrip('/')}/{name}"


def list_files(folder):
    """Sorted names of all files in a folder, deeper ones too, relative to it; none where there is no folder."""
    system, path = locate(folder)
    found = system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(os.path.relpath(info.path, path) for info in found if info.type == fs.FileType.File)


def kind(path):
    """`"file"`, `"folder"` or None."""
    system, own = locate(path)
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(system.get_file_info(own).type)


def read_file(path):
    """The bytes of a file; OSError where it cannot be read."""
    system, own = locate(path)
    with system.open_input_stream(own) as stream:
        return stream.read()


def write_file(path, contents):
    """Write a file whole or not at all: under a hidden name, then renamed."""
    system, own = locate(path)
    folder, _, name = own.rpartition("/")
    system.create_dir(folder, recursive=True)
    hidden = f"{folder}/{UNFINISHED}{socket.gethostname()}-{uuid.uuid4().hex}-{name}"
    try:
        with system.open_output_stream(hidden) as stream:
            stream.write(contents)
        system.move(hidden, own)
    except BaseException as error:
        if system.get_file_info(hidden).type == fs.FileType.File:
            system.delete_file(hidden)
        if isinstance(error, OSError):
            raise OSError(f"{path} cannot be written: {error}") from error
        raise


def clean(folder):
    """Delete what killed processes left unfinished in a folder."""
    system, path = locate(folder)
    for name in list_files(folder):
        if os.path.basename(name).startswith(UNFINISHED):
            system.delete_file(f"{path}/{name}")
