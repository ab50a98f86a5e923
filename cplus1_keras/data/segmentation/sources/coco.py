"""COCO instance annotations as semantic masks, without pycocotools."""

import json
import os
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from cplus1_keras.data.segmentation.sources.files import existing_folder, read_image
from cplus1_keras.data.segmentation.sources.source import MaskSource

CROWD = 255


def coco(annotations, images, name=None):
    """A source from COCO instance annotations: the masks are drawn when asked for.

    Mask values: 0 where no object is, 1, 2, ... for the categories in the order of their ids, 255 for crowds. Small
    objects are drawn over large ones, objects over crowds. Images without any object are kept.

    Args:
        annotations: the json file, such as `instances_train2017.json`.
        images: the folder of the images.
        name: a short name; the file's name where None.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: the file is no COCO json, or an image is missing; the message names it.

    Example:

    >>> train = coco("instances_train2017.json", "train2017")  # doctest: +SKIP

    Reference: Lin et al., Microsoft COCO, ECCV 2014
    """
    data = _Annotations(annotations, images)
    records = data.records

    def load(index):
        return data.image(records[index]), data.mask(records[index])

    names = [os.path.splitext(record["file_name"])[0] for record in records]
    files = [data.path(record) for record in records]
    return MaskSource(names, load, name=name or data.name, files=files, image_files=files)


def coco_objects(annotations, images, values=None, context=0.5, min_side=48, name=None):
    """A source of crops around objects, for sets that are mostly background at full size.

    Each object that is no crowd gives one crop: its box, larger by `context` times its longer side on each side as
    far as the image reaches, with the mask of all objects in it. Crops of one image form a group.

    Args:
        annotations: the json file.
        images: the folder of the images.
        values: mask values around whose objects to crop, such as `protocol.class_values`; all where None.
        context: >= 0.
        min_side: objects whose box has a shorter longer side, in pixels, give no crop.
        name: a short name; the file's name where None.

    Raises:
        FileNotFoundError: the file or the folder is missing.
        ValueError: no such value, no object that is large enough, or as `coco`.

    Example:

    >>> crops = coco_objects("instances_train2017.json", "train2017", values=[1, 17])  # doctest: +SKIP
    """
    data = _Annotations(annotations, images)
    if not context >= 0:
        raise ValueError(f"`context` is a part of the object's longer side, >= 0. Received: {context!r}")
    wanted = set(data.values.values() if values is None else values)
    if not wanted <= set(data.values.values()):
        lacks = sorted(wanted - set(data.values.values()))
        raise ValueError(f"{annotations} has mask values 1 to {len(data.values)}. Received in `values`: {lacks}")
    crops = []
    for record in data.records:
        for item in data.objects(record):
            chosen = not item.get("iscrowd") and data.values[item["category_id"]] in wanted
            if chosen and max(item["bbox"][2:]) >= min_side:
                crops.append((record, item))
    if not crops:
        raise ValueError(
            f"{annotations} has no object of {len(wanted)} categories with a side of {min_side} pixels or more."
        )

    def load(index):
        record, item = crops[index]
        box = _around(item["bbox"], context, record["width"], record["height"])
        return data.image(record)[box], data.mask(record)[box]

    groups = [os.path.splitext(record["file_name"])[0] for record, _ in crops]
    names = [f"{group}#{item['id']}" for group, (_, item) in zip(groups, crops, strict=True)]
    files = [data.path(record) for record, _ in crops]
    return MaskSource(names, load, name=name or f"{data.name} objects", files=files, image_files=files, groups=groups)


def coco_masks(annotations, images, masks):
    """Write the masks that `coco` draws as grey png files, so that `folder(images, masks)` reads them faster.

    Args:
        annotations: the json file.
        images: the folder of the images.
        masks: the folder to write to; it is created where it is missing.

    Returns:
        Number of masks, int.

    Raises:
        As `coco`; ValueError also where there are more than 254 categories.

    Example:

    >>> coco_masks("instances_train2017.json", "train2017", "masks")  # doctest: +SKIP
    """
    data = _Annotations(annotations, images)
    if len(data.values) >= CROWD:
        raise ValueError(f"A grey png has values up to 255, 255 is a crowd. Received: {len(data.values)} categories")
    for record in data.records:
        path = pathlib.Path(masks, record["file_name"]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.mask(record).astype("uint8")).save(path)
    return len(data.records)


def decode_rle(counts, height, width):
    """COCO's run lengths as a mask: runs of 0 and 1 in turn, down the columns.

    Args:
        counts: list of ints, or the compressed text of COCO's own tools.
        height: of the mask.
        width: of the mask.

    Returns:
        (height, width) bool.

    Raises:
        ValueError: the runs do not add up to height x width.

    Example:

    >>> decode_rle([1, 2, 3], 2, 3).astype(int)
    array([[0, 1, 0],
           [1, 0, 0]])

    Reference: the format is that of cocoapi, common/maskApi.c
    """
    runs = _decompressed(counts) if isinstance(counts, (str, bytes)) else counts
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise ValueError(f"Run lengths must add up to {height} x {width} = {height * width}. Received: {sum(runs)}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _decompressed(text):
    """Runs from groups of 5 bits, the lowest first: bit 5 continues, bit 4 of the last is the sign; from the fourth
    run on, what is stored is the difference to the run before the last.
    """
    text = text.encode("ascii") if isinstance(text, str) else text
    runs, value, shift = [], 0, 0
    for code in text:
        code -= 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs


class _Annotations:
    def __init__(self, path, images):
        self.source, self.folder = pathlib.Path(path), existing_folder(images)
        self.name = self.source.stem
        if not self.source.is_file():
            raise FileNotFoundError(f"No COCO json at {path} (looked from {pathlib.Path.cwd()}).")
        try:
            content = json.loads(self.source.read_text(encoding="utf-8"))
            self.records = sorted(content["images"], key=lambda record: record["id"])
            categories = sorted(content["categories"], key=lambda category: category["id"])
            self._objects = {record["id"]: [] for record in self.records}
            for item in content["annotations"]:
                self._objects[item["image_id"]].append(item)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no COCO json with images, categories and annotations: {error!r}") from error
        self.values = {category["id"]: value for value, category in enumerate(categories, 1)}
        if CROWD in self.values.values():
            raise ValueError(f"{path} has {len(self.values)} categories, and {CROWD} means a crowd: at most 254 fit.")
        there = set(os.listdir(self.folder))
        missing = [record["file_name"] for record in self.records if os.path.dirname(record["file_name"]) == ""]
        missing = [file for file in missing if file not in there]
        if missing:
            raise ValueError(f"{path} lists {len(missing)} images that {images} lacks, such as {missing[0]}.")

    def path(self, record):
        return os.path.join(self.folder, record["file_name"])

    def objects(self, record):
        return self._objects[record["id"]]

    def image(self, record):
        image = read_image(self.path(record))
        if image.shape[:2] != (record["height"], record["width"]):
            raise ValueError(
                f"{self.path(record)} is {image.shape[1]} x {image.shape[0]} (width x height), and {self.source} says "
                f"{record['width']} x {record['height']}. Was the image resized without its annotations?"
            )
        return image

    def mask(self, record):
        """(H, W) uint8: crowds first, then objects from large to small."""
        height, width = record["height"], record["width"]
        mask = Image.new("L", (width, height))
        for item in sorted(self.objects(record), key=lambda item: (not item.get("iscrowd"), -item["area"])):
            value = CROWD if item.get("iscrowd") else self.values[item["category_id"]]
            try:
                mask = _drawn(mask, item["segmentation"], value)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{self.source}: object {item.get('id')} has no valid segmentation: {error}"
                ) from error
        return np.asarray(mask)


def _drawn(mask, segmentation, value):
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        pixels = np.array(mask)
        pixels[decode_rle(segmentation["counts"], height, width)] = value
        return Image.fromarray(pixels)
    draw = ImageDraw.Draw(mask)
    for polygon in segmentation:
        if len(polygon) >= 6:
            draw.polygon(polygon, fill=value)
    return mask


def _around(box, context, width, height):
    left, top, wide, high = box
    more = context * max(wide, high)
    rows = slice(max(0, int(top - more)), min(height, int(np.ceil(top + high + more))))
    return rows, slice(max(0, int(left - more)), min(width, int(np.ceil(left + wide + more))))
