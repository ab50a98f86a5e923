"""Where a version of a SavedModel comes from: what it was made from, by whom, when and with which programs."""

import getpass
import pathlib

ORIGIN_FILE = pathlib.PurePath("assets.extra", "origin.json")
"""In the folder of a SavedModel."""


def write_origin(folder, made_from=None, **more):
    """Writes the record into the folder of a SavedModel; `made_from` is the version before, None for a model.

    >>> import json
    >>> write_origin("version", "runs/digits/saved_model/1", left_out=[])
    >>> sorted(json.loads((pathlib.Path("version") / ORIGIN_FILE).read_text()))[:6]
    ['commit', 'cpus', 'date', 'from', 'left_out', 'machine']
    """
    from cplus1_keras.provenance import provenance, write_json  # which loads the losses, and who serves needs none

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container without names
        user = None
    path = None if made_from is None else str(pathlib.Path(made_from).resolve())
    write_json(pathlib.Path(folder) / ORIGIN_FILE, {"from": path, "user": user, **more, **provenance()})
