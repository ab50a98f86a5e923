"""Names of the classes of published data sets."""

import functools
import json
import pathlib

OUTLINE, CROWD, UNLABELLED = "outline", "crowd", "unlabelled"
LIP_MIRRORED = tuple((f"left {part}", f"right {part}") for part in ("arm", "leg", "shoe"))
"""Classes of LIP that a mirrored image swaps."""


@functools.cache
def lists():
    """Class lists by name, from `classes.json`."""
    return json.loads(pathlib.Path(__file__).with_name("classes.json").read_text(encoding="utf-8"))


def mask_names(data_set):
    """Dict of mask value -> class name of a published data set.

    >>> mask_names("camvid")[11], mask_names("voc")[15]
    ('unlabelled', 'person')
    """
    if data_set == "oxford_iiit_pet":
        return {1: "pet", 2: "background", 3: OUTLINE}
    names = lists()["names"][data_set]
    if data_set == "camvid":
        return dict(enumerate([*names, UNLABELLED]))
    if data_set == "cityscapes":
        return dict(enumerate(names)) | {255: UNLABELLED}
    last = {"voc": OUTLINE, "coco": CROWD}.get(data_set, UNLABELLED)
    return dict(enumerate(["background", *names])) | {255: last}
