"""COCO instance annotations as semantic masks, as crops with masks, and as sets of labels."""

import concurrent.futures
import functools
import os
import pathlib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.masks import require
from cplus1_keras.data.names import CROWD
from cplus1_keras.data.reading import image_reader, mask_reader, png
from cplus1_keras.data.source import Source
from cplus1_keras.data.sources.annotations import CROWD_VALUE, Annotations
from cplus1_keras.data.sources.files import of_files


def coco(annotations, images, name=None):
    """A source from COCO instance annotations; the masks are drawn here, once, and held as png.

    Mask values: 0 where no object is, 1, 2, ... for the categories in the order of their ids, 255 for crowds. Small
    objects are drawn over large ones, objects over crowds. Images without any object are kept. Drawing takes some
    milliseconds an image: of a large set write the masks to files once, by `coco_masks`, and read them by `folder`.

    Args:
        annotations: The json file, such as `instances_train2017.json`.
        images: The folder of the images.
        name: A short name; the file's name where None.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: If the file is no COCO json, an object is not valid, or an image is missing; the message names it.

    >>> train = coco("instances_train2017.json", "train2017")  # doctest: +SKIP

    Reference: Lin et al., Microsoft COCO, ECCV 2014.
    """
    data = Annotations(annotations, images)
    read = _reader(data, data.records)
    ids = [os.path.splitext(record["file_name"])[0] for record in data.records]
    files = [data.path(record) for record in data.records]
    shape = (None, None, 3)
    return Source(data.mask_names, kind="mask", name=name or data.name, read=read, files=files, ids=ids, shape=shape)


def coco_objects(annotations, images, classes=None, context=0.5, min_side=48, name=None):
    """A source of crops around objects, for sets that are mostly background at full size.

    Each object that is no crowd gives one crop: its box, larger by `context` times its longer side on each side as
    far as the image reaches, with the mask of all objects in it. Crops of one image form a group.

    Args:
        annotations: The json file.
        images: The folder of the images.
        classes: Names of the categories around whose objects to crop; all where None.
        context: >= 0.
        min_side: Objects whose box has a shorter longer side, in pixels, give no crop.
        name: A short name; the file's name where None.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: If there is no such category, no object that is large enough, or as `coco`.

    >>> crops = coco_objects("instances_train2017.json", "train2017", ["person", "cat"])  # doctest: +SKIP
    """
    data = Annotations(annotations, images)
    if not context >= 0:
        raise ValueError(f"`context` is a part of the object's longer side, >= 0. Received: {context!r}")
    wanted = set(data.class_names if classes is None else classes)
    if not wanted <= set(data.class_names):
        lacks = ", ".join(sorted(wanted - set(data.class_names)))
        raise ValueError(
            f"{annotations} has the categories {', '.join(data.class_names)}. Received in `classes`: {lacks}"
        )
    crops = []
    for record in data.records:
        for item in data.objects(record):
            chosen = not item.get("iscrowd") and data.class_names[data.values[item["category_id"]] - 1] in wanted
            if chosen and max(data.box(record, item)[2:]) >= min_side:
                crops.append((record, item))
    if not crops:
        raise ValueError(
            f"{annotations} has no object of {len(wanted)} categories with a side of {min_side} pixels or more."
        )
    records = [record for record, _ in crops]
    boxes = [_around(data.box(record, item), context, record["width"], record["height"]) for record, item in crops]
    groups = [os.path.splitext(record["file_name"])[0] for record in records]
    return Source(
        data.mask_names,
        kind="mask",
        name=name or f"{data.name} objects",
        read=_reader(data, records, boxes),
        files=[data.path(record) for record in records],
        ids=[f"{group}#{item['id']}" for group, (_, item) in zip(groups, crops, strict=True)],
        groups=groups,
        shape=(None, None, 3),
    )


def coco_labels(annotations, images, channels=3, name=None):
    """A source of sets of labels: an image shows the categories of its objects, crowds among them.

    Args:
        annotations: The json file, such as `instances_train2017.json`.
        images: The folder of the images.
        channels: 1 or 3, for all images.
        name: A short name; the file's name where None.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: As `coco`.

    >>> train = coco_labels("instances_train2017.json", "train2017")  # doctest: +SKIP
    """
    data = Annotations(annotations, images)
    present = np.zeros([len(data.records), len(data.class_names)], bool)
    for row, record in zip(present, data.records, strict=True):
        row[[data.values[item["category_id"]] - 1 for item in data.objects(record)]] = True
    files = [data.path(record) for record in data.records]
    given = {"kind": "classes", "channels": channels}
    return of_files(files, data.class_names, present, **given, name=name or data.name)


def coco_masks(annotations, images, masks):
    """Write the masks that `coco` draws as grey png files, so that `folder(images, masks)` reads them.

    Args:
        annotations: The json file.
        images: The folder of the images.
        masks: The folder to write to; it is created where it is missing.

    Returns:
        Dict of mask value -> class name, for `folder(images, masks, names=...)`.

    Raises:
        As `coco`.

    >>> names = coco_masks("instances_train2017.json", "train2017", "masks")  # doctest: +SKIP
    """
    data = Annotations(annotations, images)

    def write(record):
        path = pathlib.Path(masks, record["file_name"]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(data.mask(record)))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(write, data.records))
    return data.mask_names


def coco_mini(root, part="train", kind="mask"):
    """The small part of COCO that is used for tests, cut to long sides of 400 pixels.

    Args:
        root: Folder with `annotations/instances_<part>*.json` and the images in `<part>`.
        part: "train" or "val".
        kind: "mask", "objects" for crops around what `protocols.coco_mini()` names, or "classes" for sets of labels.

    Raises:
        FileNotFoundError: If there are no such annotations or images.
        ValueError: If there is no such kind, and as `coco`.

    >>> train = coco_mini("coco_mini", "train", kind="classes")  # doctest: +SKIP
    """
    from cplus1_keras.data import protocols

    found = sorted(pathlib.Path(root, "annotations").glob(f"instances_{part}*.json"))
    if not found:
        raise FileNotFoundError(
            f"No annotations/instances_{part}*.json below {root} (looked from {pathlib.Path.cwd()})."
        )
    protocol = protocols.coco_mini()
    shown = [name for _, members in protocol.known for name in members] + list(protocol.unknown)
    ways = {"mask": coco, "objects": functools.partial(coco_objects, classes=shown), "classes": coco_labels}
    if kind not in ways:
        raise ValueError(f"`kind` is one of {', '.join(ways)}. Received: {kind!r}")
    return ways[kind](found[0], pathlib.Path(root, part))


def _reader(data, records, boxes=None):
    """Function of an index giving the example of a record, cut to its box where there are boxes."""
    rows = {record["id"]: number for number, record in enumerate({r["id"]: r for r in records}.values())}
    own = list({record["id"]: record for record in records}.values())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda record: png(data.mask(record)), own))
    files = [data.path(record) for record in own]
    image, mask = image_reader(files), mask_reader(contents=contents, places=[data.place(record) for record in own])
    which = tf.constant([rows[record["id"]] for record in records], tf.int64)
    cuts = None if boxes is None else tf.constant(boxes)

    def read(index):
        row = tf.gather(which, index)
        example = {"image": image(row), "mask": mask(row)}
        size, own_size = tf.shape(example["image"])[:2], tf.shape(example["mask"])

        def sentence():
            text = tf.strings.format(
                " is {} x {} (width x height), and the json says {} x {}. ",
                (size[1], size[0], own_size[1], own_size[0]),
            )
            return tf.strings.join([tf.gather(files, row), text, "Was the image resized without its annotations?"])

        example["image"] = require(tf.reduce_all(size == own_size), sentence, example["image"])
        if cuts is None:
            return example
        top, bottom, left, right = tf.unstack(tf.gather(cuts, index))
        return {key: pixels[top:bottom, left:right] for key, pixels in example.items()}

    return read


def _around(box, context, width, height):
    """Top, bottom, left and right of a box with some context."""
    left, top, wide, high = box
    more = context * max(wide, high)
    rows = max(0, int(top - more)), min(height, int(np.ceil(top + high + more)))
    return (*rows, max(0, int(left - more)), min(width, int(np.ceil(left + wide + more))))


__all__ = ["CROWD", "CROWD_VALUE", "coco", "coco_labels", "coco_masks", "coco_mini", "coco_objects"]
