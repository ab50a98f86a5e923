"""COCO instance annotations as semantic masks, as crops with masks, as sets of labels, and as boxes."""

import concurrent.futures
import functools
import os
import pathlib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.boxes import collect
from cplus1_keras.data.masks import require
from cplus1_keras.data.reading import image_reader, mask_reader, png
from cplus1_keras.data.source import Source
from cplus1_keras.data.sources.annotations import Annotations
from cplus1_keras.data.sources.files import of_files


def coco(annotations, images, name=None):
    """A source from COCO instance annotations (Lin et al., ECCV 2014); the masks are drawn here, once, and held as png.

    Mask values: 0 where no object is, 1, 2, ... for the categories in the order of their ids, 255 for crowds. Small
    objects are drawn over large ones, objects over crowds. Drawing takes some milliseconds an image: of a large set
    write the masks to files once, by `coco_masks`, and read them by `folder`.

    Args:
        annotations: The json file, such as `instances_train2017.json`.
        images: The folder of the images.
        name: A short name; the file's name where None.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: If the file is no COCO json, an object is not valid, or an image is missing; the message names it.

    >>> train = coco("instances_train2017.json", "train2017")  # doctest: +SKIP
    """
    data = Annotations(annotations, images)
    ids = [os.path.splitext(record["file_name"])[0] for record in data.records]
    return Source(data.mask_names, name=name or data.name, ids=ids, **_fields(data, data.records))


def coco_objects(annotations, images, classes=None, context=0.5, min_side=48, name=None):
    """A source of crops around objects, for sets that are mostly background at full size; raises as `coco`.

    Each object that is no crowd gives one crop with the mask of all objects in it: its box, larger by `context` times
    its longer side on each side as far as the image reaches. Crops of one image form a group.

    Args:
        annotations, images, name: As for `coco`.
        classes: Names of the categories around whose objects to crop; all where None.
        context: >= 0.
        min_side: Objects whose box has a shorter longer side, in pixels, give no crop.

    >>> crops = coco_objects("instances_train2017.json", "train2017", ["person", "cat"])  # doctest: +SKIP
    """
    data = Annotations(annotations, images)
    if not context >= 0:
        raise ValueError(f"`context` is a part of the object's longer side, >= 0. Received: {context!r}")
    wanted, has = set(data.class_names if classes is None else classes), ", ".join(data.class_names)
    if not wanted <= set(data.class_names):
        lacks = ", ".join(sorted(wanted - set(data.class_names)))
        raise ValueError(f"{annotations} has the categories {has}. Received in `classes`: {lacks}")
    values = {data.class_names.index(item) + 1 for item in wanted}
    crops = [
        (record, item)
        for record in data.records
        for item in data.objects[record["id"]]
        if not item.get("iscrowd") and data.values[item["category_id"]] in values
        if max(data.box(record, item)[2:]) >= min_side
    ]
    if not crops:
        raise ValueError(f"{annotations} has no object of the classes with a side of {min_side} pixels or more.")
    records = [record for record, _ in crops]
    groups = [os.path.splitext(record["file_name"])[0] for record in records]
    fields = _fields(data, records, [_around(data.box(*crop), context, crop[0]) for crop in crops])
    ids = [f"{group}#{item['id']}" for group, (_, item) in zip(groups, crops, strict=True)]
    return Source(data.mask_names, name=name or f"{data.name} objects", ids=ids, groups=groups, **fields)


def coco_labels(annotations, images, channels=3, name=None):
    """A source of sets of labels, the categories of an image's objects, crowds among them; arguments as for `coco`."""
    data = Annotations(annotations, images)
    present = np.zeros([len(data.records), len(data.class_names)], bool)
    for row, record in zip(present, data.records, strict=True):
        row[[data.values[item["category_id"]] - 1 for item in data.objects[record["id"]]]] = True
    files = [data.files[record["id"]] for record in data.records]
    return of_files(files, data.class_names, present, kind="classes", channels=channels, name=name or data.name)


def coco_boxes(annotations, images, channels=3, name=None, *, masks=False, group=None, on_bad="error"):
    """A source of images with boxes from the json of COCO or LVIS, v0.5 and v1 (Gupta et al., CVPR 2019).

    Crowds count for nothing. LVIS looked for some classes only in an image: `source.boxes.neg_categories` are those
    that it lacks, `not_exhaustive` those of which some objects have no box. An object without `bbox` has that of its
    outline.

    Args:
        annotations, images, channels, name: As for `coco`; of LVIS v1, the folder that holds `train2017`.
        masks: Whether objects have masks, too, by their outlines; they are drawn once, here.
        group: Function of an image's name without ending, giving what it belongs to, such as its video; None takes each
            for itself.
        on_bad: What to do with bad boxes, "error" or "drop", as in `boxes`.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: If the file is no such json, an image is missing, or an object is bad; the message names it.

    >>> train = coco_boxes("instances_train2017.json", "train2017")  # doctest: +SKIP
    """
    data = Annotations(annotations, images)
    objects = [data.objects[record["id"]] for record in data.records]
    names = [os.path.splitext(record["file_name"])[0] for record in data.records]
    drawn = lambda image, row, box: data.outline(data.records[image], objects[image][row], box)  # noqa: E731
    found = collect(
        [[_corners(data, record, item) for item in own] for record, own in zip(data.records, objects, strict=True)],
        [[data.values[item["category_id"]] - 1 for item in own] for own in objects],
        [data.size(record) for record in data.records],
        lambda image, box: f"{data.place(data.records[image])}, object {objects[image][box].get('id')}",
        crowd=[[bool(item.get("iscrowd")) for item in own] for own in objects],
        areas=[[item.get("area", np.nan) for item in own] for own in objects],
        outlines=drawn if masks else None,
        on_bad=on_bad,
        **_federated(data),
    )
    fields = {"ids": names, "groups": group and [group(item) for item in names], "name": name or data.name}
    files = list(data.files.values())
    return of_files(files, data.class_names, kind="boxes", boxes=found, channels=channels, **fields)


def coco_masks(annotations, images, masks):
    """Write the masks that `coco` draws as grey png files into the folder `masks`; returns the `names` to read them by.

    >>> names = coco_masks("instances_train2017.json", "train2017", "masks")  # doctest: +SKIP
    >>> train = folder("train2017", "masks", names=names)  # doctest: +SKIP
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
    """The small part of COCO that is used for tests, cut to long sides of 400 pixels; raises as `coco`.

    Args:
        root: Folder with `annotations/instances_<part>*.json` and the images in `<part>`.
        part: "train" or "val".
        kind: "mask", "objects" for crops around what `protocols.coco_mini()` names, "classes" for sets of labels,
            "boxes", or "instances" for boxes with masks.

    >>> train = coco_mini("coco_mini", "train", kind="classes")  # doctest: +SKIP
    """
    from cplus1_keras.data import protocols

    wanted = f"annotations/instances_{part}*.json"
    found = sorted(pathlib.Path(root).glob(wanted))
    if not found:
        raise FileNotFoundError(f"No {wanted} below {root} (looked from {pathlib.Path.cwd()}).")
    protocol = protocols.coco_mini()
    shown = [name for _, members in protocol.known for name in members] + list(protocol.unknown)
    ways = {"mask": coco, "objects": functools.partial(coco_objects, classes=shown), "classes": coco_labels}
    ways |= {"boxes": coco_boxes, "instances": functools.partial(coco_boxes, masks=True)}
    if kind not in ways:
        raise ValueError(f"`kind` is one of {', '.join(ways)}. Received: {kind!r}")
    return ways[kind](found[0], pathlib.Path(root, part))


def _fields(data, records, boxes=None):
    """What a `Source` of records has, whose examples are cut to their boxes where there are boxes."""
    own = list({record["id"]: record for record in records}.values())
    rows = {record["id"]: row for row, record in enumerate(own)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda record: png(data.mask(record)), own))
    files = [data.files[record["id"]] for record in own]
    image = image_reader(files, upright=False)  # the json's polygons are those of the file as it is stored
    mask = mask_reader(contents=contents, places=[data.place(record) for record in own])
    which = tf.constant([rows[record["id"]] for record in records], tf.int64)
    cuts = None if boxes is None else tf.constant(boxes)

    def read(index):
        row = tf.gather(which, index)
        example = {"image": image(row), "mask": mask(row)}
        size, own_size = tf.shape(example["image"])[:2], tf.shape(example["mask"])

        def sentence():
            sizes = " is {} x {} (width x height), and the json says {} x {}. "
            text = tf.strings.format(sizes, (size[1], size[0], own_size[1], own_size[0]))
            return tf.strings.join([tf.gather(files, row), text, "Was the image resized without its annotations?"])

        example["image"] = require(tf.reduce_all(size == own_size), sentence, example["image"])
        if cuts is None:
            return example
        top, bottom, left, right = tf.unstack(tf.gather(cuts, index))
        return {key: pixels[top:bottom, left:right] for key, pixels in example.items()}

    files = [data.files[record["id"]] for record in records]
    return {"kind": "mask", "read": read, "files": files, "shape": (None, None, 3)}


def _corners(data, record, item):
    box = data.box(record, item)
    if not isinstance(box, (list, tuple)) or not all(isinstance(number, (int, float)) for number in box):
        return [box]
    return [*box[:2], *(first + side for first, side in zip(box, box[2:], strict=False))]


def _federated(data):
    """LVIS's lists of an image as values of classes, where the json has them."""
    keys = {"neg_categories": "neg_category_ids", "not_exhaustive": "not_exhaustive_category_ids"}
    try:
        return {
            field: tuple(tuple(data.values[number] - 1 for number in record[key]) for record in data.records)
            for field, key in keys.items()
            if any(key in record for record in data.records)
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{data.path_of_json}: {' or '.join(keys.values())} is missing or unknown: {error}") from error


def _around(box, context, record):
    """Top, bottom, left and right of a box with its context."""
    left, top, wide, high = box
    more = context * max(wide, high)
    rows = max(0, int(top - more)), min(record["height"], int(np.ceil(top + high + more)))
    return (*rows, max(0, int(left - more)), min(record["width"], int(np.ceil(left + wide + more))))
