"""Tiny data sets in the folder layouts of the published ones, for tests: plain functions that write files.

Images are noise around a flat colour, masks are rectangles, so that each file reads in well under a millisecond.
"""

import json
import pathlib

import numpy as np
from PIL import Image
from scipy import io

SIZE = (32, 40)


def image(rng, size=SIZE):
    """A (H, W, 3) uint8 image: one colour and a little noise."""
    return (rng.integers(0, 200, 3) + rng.integers(0, 50, (*size, 3))).astype("uint8")


def mask(rng, values, size=SIZE, background=0, border=None):
    """A (H, W) uint8 mask: 4 x 4 tiles, one for each of at most 15 values, the others `background`.

    The top row of a tile is `border` where given. Each value and the background have pixels.
    """
    tiles = np.full(16, background, "uint8")
    places = rng.permutation(16)[: len(values)]
    tiles[places] = list(values)
    rows, columns = np.arange(size[0]) * 4 // size[0], np.arange(size[1]) * 4 // size[1]
    result = tiles.reshape(4, 4)[np.ix_(rows, columns)]
    if border is not None:
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        result[first] = np.where(result[first] == background, background, border)
    return result


def write_image(path, pixels):
    """Write a jpg or png, making its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_palette_mask(path, pixels):
    """Write a mask as VOC does: indices into a palette whose colours are nothing like the indices."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels, "L").convert("P")
    picture.putdata(pixels.reshape(-1).tolist())
    picture.putpalette([value for index in range(256) for value in ((index * 37) % 256, (index * 91) % 256, 128)])
    picture.save(path)


def write_lines(path, names):
    """Write a list file, making its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def voc(root, train=4, val=2, size=SIZE, seed=0):
    """`root/VOCdevkit/VOC2012` with palette masks of values 0..20 and 255; returns the folder `VOCdevkit`."""
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "VOCdevkit", "VOC2012")
    names = {"train": [f"2007_{k:06d}" for k in range(train)], "val": [f"2008_{k:06d}" for k in range(val)]}
    for split, own in names.items():
        write_lines(base / "ImageSets" / "Segmentation" / f"{split}.txt", own)
        for number, name in enumerate(own):
            write_image(base / "JPEGImages" / f"{name}.jpg", image(rng, size))
            values = 1 + (np.arange(5) + 5 * number) % 20
            write_palette_mask(base / "SegmentationClass" / f"{name}.png", mask(rng, values, size, border=255))
    write_lines(base / "ImageSets" / "Segmentation" / "trainval.txt", names["train"] + names["val"])
    return base.parent


def sbd(root, devkit, extra=3, seed=1):
    """`root/VOCaug/dataset` as SBD publishes it, overlapping with VOC's lists; its new images go into `devkit`.

    Returns the folder `VOCaug`.
    """
    rng = np.random.default_rng(seed)
    base, voc2012 = pathlib.Path(root, "VOCaug", "dataset"), pathlib.Path(devkit, "VOC2012")
    lists = voc2012 / "ImageSets" / "Segmentation"
    shared = (lists / "train.txt").read_text().split()[:1] + (lists / "val.txt").read_text().split()[:1]
    new = [f"2009_{k:06d}" for k in range(extra)]
    with Image.open(next((voc2012 / "JPEGImages").iterdir())) as first:
        size = first.size[::-1]
    (base / "cls").mkdir(parents=True)
    for number, name in enumerate(shared + new):
        pixels = mask(rng, [1 + number % 20, 20 - number % 20], size)
        # MATLAB's struct array of one element: GTcls(1).Segmentation and .Boundaries.
        io.savemat(base / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": pixels, "CategoriesPresent": [1]}})
        if name in new:
            write_image(voc2012 / "JPEGImages" / f"{name}.jpg", image(rng, size))
    write_lines(base / "train.txt", shared[:1] + new[:1])
    write_lines(base / "val.txt", shared[1:] + new[1:])
    return base.parent


def context(root, train=4, val=2, size=SIZE, seed=2):
    """`root/VOCdevkit/VOC2010` with grey masks of values 0..59; returns the folder `VOCdevkit`."""
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "VOCdevkit", "VOC2010")
    for split, count in (("train", train), ("val", val)):
        names = [f"2008_{split}{k:04d}" for k in range(count)]
        write_lines(base / "ImageSets" / "SegmentationContext" / f"{split}.txt", names)
        for number, name in enumerate(names):
            write_image(base / "JPEGImages" / f"{name}.jpg", image(rng, size))
            values = 1 + (np.arange(8) + 8 * number) % 59
            write_image(base / "SegmentationClassContext" / f"{name}.png", mask(rng, values, size))
    return base.parent


def lip(root, train=4, val=2, size=SIZE, seed=3, nested=False, lists=True):
    """`root/LIP` with grey masks of values 0..19, flat as in mmsegmentation's guide or nested as the archives unpack.

    Returns the folder `LIP`.
    """
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "LIP")
    images = base / "TrainVal_images" / "TrainVal_images" if nested else base
    masks = base / "TrainVal_parsing_annotations" / "TrainVal_parsing_annotations" if nested else base
    for split, count in (("train", train), ("val", val)):
        names = [f"{k}_{1000 + k}" for k in range(count)]
        if lists:
            write_lines(images / f"{split}_id.txt", names)
        for number, name in enumerate(names):
            write_image(images / f"{split}_images" / f"{name}.jpg", image(rng, size))
            values = [14, 15, 16, 17, 18, 19, 1 + number % 13]
            write_image(masks / f"{split}_segmentations" / f"{name}.png", mask(rng, values, size))
    return base


def camvid(root, train=4, val=2, test=2, size=SIZE, seed=4):
    """`root/CamVid` in SegNet's layout with grey masks of values 0..11; returns the folder `CamVid`."""
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "CamVid")
    for split, count in (("train", train), ("val", val), ("test", test)):
        for k in range(count):
            write_image(base / split / f"0001_{k:05d}.png", image(rng, size))
            write_image(base / f"{split}annot" / f"0001_{k:05d}.png", mask(rng, range(1, 12), size))
    return base


def cityscapes(root, train=3, val=2, size=SIZE, seed=5):
    """`root/cityscapes` with label ids; returns that folder."""
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "cityscapes")
    for split, count in (("train", train), ("val", val)):
        for k in range(count):
            name = f"aachen/aachen_{k:06d}_000019"
            write_image(base / "leftImg8bit" / split / f"{name}_leftImg8bit.png", image(rng, size))
            write_image(base / "gtFine" / split / f"{name}_gtFine_labelIds.png", mask(rng, [7, 24, 26, 33], size))
    return base


def coco(root, images=4, size=SIZE, seed=6):
    """`root/coco` with `images` and `instances.json`: two boxes an image, a crowd in the first.

    Returns the folder.
    """
    rng = np.random.default_rng(seed)
    base = pathlib.Path(root, "coco")
    height, width = size
    content = {"images": [], "annotations": [], "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]}
    for k in range(images):
        write_image(base / "images" / f"{k:012d}.jpg", image(rng, size))
        content["images"].append({"id": k, "file_name": f"{k:012d}.jpg", "height": height, "width": width})
        for category, (left, top, wide, high) in ((1, (4, 4, 20, 16)), (18, (8, 8, 6, 5))):
            corners = [left, top, left + wide, top, left + wide, top + high, left, top + high]
            item = {"segmentation": [corners], "bbox": [left, top, wide, high], "area": wide * high, "iscrowd": 0}
            content["annotations"].append(item | {"image_id": k, "category_id": category})
    crowd = {"size": [height, width], "counts": [height * (width - 2), 2 * height]}
    item = {"segmentation": crowd, "bbox": [width - 2, 0, 2, height], "area": 2 * height, "iscrowd": 1}
    content["annotations"].append(item | {"image_id": 0, "category_id": 1})
    for number, item in enumerate(content["annotations"], 1):
        item["id"] = number
    (base / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    return base
