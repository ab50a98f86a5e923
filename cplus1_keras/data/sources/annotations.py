"""COCO's json, and LVIS's: images, categories and objects, checked, and drawn as masks by pycocotools."""

import json
import os
import urllib.parse

import numpy as np

from cplus1_keras.data import outlines
from cplus1_keras.data.names import CROWD
from cplus1_keras.data.reading import existing
from cplus1_keras.data.sources.files import check_files

CROWD_VALUE = 255


class Annotations:
    """The content of a COCO json file and the folder of its images."""

    def __init__(self, path, images):
        self.path_of_json, folder = existing(path), existing(images, "folder")
        self.name = self.path_of_json.stem
        try:
            content = json.loads(self.path_of_json.read_text(encoding="utf-8"))
            records = sorted(content["images"], key=lambda record: record["id"])
            self.records = [record | {"file_name": _file_name(record)} for record in records]
            categories = sorted(content["categories"], key=lambda category: category["id"])
            self.class_names = tuple(category["name"] for category in categories)
            self.objects = {record["id"]: [] for record in self.records}
            found = list(content["annotations"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no COCO json with images, categories and annotations: {error!r}") from error
        self.files = {record["id"]: os.path.join(folder, record["file_name"]) for record in self.records}
        self.values = {category["id"]: value for value, category in enumerate(categories, 1)}
        for item in found:
            self._check(item)
            self.objects[item["image_id"]].append(item)
        check_files(self.files.values(), self.path_of_json)

    @property
    def mask_names(self):
        """Dict of mask value -> name."""
        number = len(self.class_names)
        if number >= CROWD_VALUE:
            came = f"{self.path_of_json} has {number} categories"
            raise ValueError(f"{came}: at most 254 fit into a mask, {CROWD_VALUE} being a crowd.")
        return {0: "background"} | dict(enumerate(self.class_names, 1)) | {CROWD_VALUE: CROWD}

    def place(self, record):
        """What messages call the mask of an image."""
        return f"{self.path_of_json}, image {record['file_name']}"

    def mask(self, record):
        """(H, W) uint8: crowds first, then objects from large to small."""
        size = self.size(record)
        drawn = np.zeros(size, "uint8")
        runs = [(item, self._runs(item, size)) for item in self.objects[record["id"]]]
        areas = [float(item["area"]) if "area" in item else float(_tool().area(run)) for item, run in runs]
        for place in sorted(range(len(runs)), key=lambda k: (not runs[k][0].get("iscrowd"), -areas[k])):
            item, run = runs[place]
            value = CROWD_VALUE if item.get("iscrowd") else self.values[item["category_id"]]
            drawn[_tool().decode(run).astype(bool)] = value
        return drawn

    def box(self, record, item):
        """Left, top, width and height of an object."""
        return item["bbox"] if "bbox" in item else _tool().toBbox(self._runs(item, self.size(record))).tolist()

    def outline(self, record, item, box):
        """Of an object its run lengths, as COCO counts them, and its mask in a box, see `data.outlines`."""
        runs = self._runs(item, self.size(record))
        shape = item["segmentation"]
        if isinstance(shape, dict):
            inside = outlines.cut(_tool().decode(runs), box)
        else:
            polygons = outlines.into_box(shape, box)
            inside = _tool().decode(_tool().merge(_tool().frPyObjects(polygons, outlines.SIDE, outlines.SIDE)))
        return outlines.Outline(runs["counts"], outlines.pack(inside))

    def size(self, record):
        """Height and width of an image."""
        if not all(isinstance(record.get(side), int) for side in ("height", "width")):
            raise ValueError(f"{self.place(record)}: needs `height` and `width`.")
        return record["height"], record["width"]

    def _runs(self, item, size):
        shape = item.get("segmentation")
        try:
            if isinstance(shape, dict):
                counts = shape["counts"]
                if tuple(shape["size"]) != size:
                    raise ValueError(f"its run lengths are of an image {shape['size']}, this one is {list(size)}")
                if not isinstance(counts, list):
                    return shape
                if sum(counts) != size[0] * size[1] or min(counts) < 0:
                    raise ValueError(f"its run lengths add up to {sum(counts)}, not to {size[0]} x {size[1]}")
                return _tool().frPyObjects(shape, *size)
            polygons = [polygon for polygon in shape if len(polygon) >= 6]
            if not polygons:
                return _tool().encode(np.zeros(size, "uint8", order="F"))
            return _tool().merge(_tool().frPyObjects(polygons, *size))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            title = f"{self.path_of_json}: object {item.get('id')}"
            raise ValueError(f"{title} has no valid segmentation: {error}") from error

    def _check(self, item):
        title = f"{self.path_of_json}: object {item.get('id') if isinstance(item, dict) else item!r}"
        if not isinstance(item, dict) or "image_id" not in item or "category_id" not in item:
            raise ValueError(f"{title} needs `image_id` and `category_id`.")
        if item["image_id"] not in self.objects:
            raise ValueError(f"{title} is in image {item['image_id']}, which the file does not list.")
        if item["category_id"] not in self.values:
            raise ValueError(f"{title} has category {item['category_id']}, which the file does not list.")


def _file_name(record):
    """Where an image lies below its folder: LVIS v1 has an address only, v0.5 the longer names of COCO 2014."""
    if "file_name" not in record:
        return urllib.parse.urlsplit(record["coco_url"]).path.lstrip("/")
    name = record["file_name"]
    return name.rsplit("_", 1)[-1] if name.startswith("COCO_") and "not_exhaustive_category_ids" in record else name


def _tool():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError(
            "COCO's masks are drawn by pycocotools, which is not installed: pip install 'cplus1-keras[coco]'. Sets of "
            "labels (`coco_labels`) and masks in files (`folder`) need none."
        ) from error
    return mask
