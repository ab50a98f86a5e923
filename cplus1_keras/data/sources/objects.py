"""Sources of images whose objects have boxes: lists, csv files, VOC's xml files."""

import os
import xml.etree.ElementTree as xml

import numpy as np

from cplus1_keras.data.boxes import collect
from cplus1_keras.data.names import lists
from cplus1_keras.data.reading import existing, image_sizes
from cplus1_keras.data.source import Source
from cplus1_keras.data.sources.files import check_files, lines, of_files, rows_of_csv
from cplus1_keras.data.sources.layouts import holding
from cplus1_keras.data.sources.memory import stored

_HEADER = ["path", "x1", "y1", "x2", "y2", "class"]
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def boxes(images, objects, class_names=None, name="boxes", *, channels=3, groups=None, mirrored=(), on_bad="error"):
    """A source of images with boxes.

    A box is (x1, y1, x2, y2) in pixels, x in [0, W] and y in [0, H], so that a box of the left upper pixel alone is
    (0, 0, 1, 1). One that reaches out of its image is clipped, and counted in the summary of the splits. One that is
    outside, has no width or height, or a corner that is no finite number, is an error that names image and box.

    Args:
        images: N paths, or arrays (H, W) or (H, W, C).
        objects: For each image a sequence of (x1, y1, x2, y2, class name), which may be empty.
        class_names: Their order; None takes all that occur, sorted.
        name: A short name for reports.
        channels: 1 or 3, of images in files.
        groups, mirrored: As in `Source`.
        on_bad: "drop" leaves bad boxes out and counts them in the summary.

    Raises:
        FileNotFoundError: If an image is missing.
        ValueError: If a box is bad, a class has no name, an image is damaged, or there is not one list for each image.

    >>> boxes([np.zeros([8, 9, 3], "uint8")], [[(0, 0, 4, 5, "cat")]]).class_names
    ('cat',)
    """
    if not len(images) or len(images) != len(objects):
        came = f"{len(images)} images, {len(objects)} lists"
        raise ValueError(f"{name}: needs images and a list of objects for each. Received: {came}")
    files = isinstance(images[0], (str, os.PathLike))
    places = [str(image) for image in images] if files else [f"{name}[{index}]" for index in range(len(images))]
    rows = []
    for place, own in zip(places, objects, strict=True):
        for item in own:
            if len(item) != 5 or not isinstance(item[4], str):
                raise ValueError(f"{place}: an object is (x1, y1, x2, y2, class name). Received: {item!r}")
        rows.append([(item[:4], item[4], False, f"{place}, box {number}") for number, item in enumerate(own)])
    sizes = image_sizes(images) if files else [np.shape(image)[:2] for image in images]
    names, found = _collected(rows, class_names, sizes, on_bad)
    given = {"kind": "boxes", "boxes": found, "groups": groups, "mirrored": mirrored, "name": name}
    if files:
        return of_files(images, names, channels=channels, **given)
    return Source(names, **given, **stored({"image": images}, name))


def csv_boxes(path, root=None, class_names=None, channels=3, name=None, *, on_bad="error"):
    """A source of images with boxes from a csv file with lines `path,x1,y1,x2,y2,class`, one for each object.

    A line `path,,,,,` is an image without objects. A first line with these names is passed over.

    Args:
        path: The csv file.
        root: Folder that the paths in the file are relative to; the csv file's own folder where None.
        class_names, channels, on_bad: As in `boxes`.
        name: A short name; the file name where None.

    Raises:
        FileNotFoundError: If the csv file or an image is missing.
        ValueError: As `boxes`, or if a line is not so; it names file and line.

    >>> cells = csv_boxes("cells.csv", class_names=["RBC", "WBC"])  # doctest: +SKIP
    """
    path = existing(path)
    rows = [(number, [cell.strip() for cell in row]) for number, row in rows_of_csv(path) if row]
    rows = rows[1:] if rows and rows[0][1] == _HEADER else rows
    objects = {}
    for number, row in rows:
        place = f"{path}, line {number}"
        try:
            *corners, label = row[1:] if len(row) == 6 else None
            own = objects.setdefault(row[0], [])
            if any(row[1:]):
                own.append((tuple(map(float, corners)), label, False, f"{place}, {row[0]}"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: needs path,x1,y1,x2,y2,class. Received: {','.join(row)!r}") from error
    if not objects:
        raise ValueError(f"{path} is empty: it needs lines path,x1,y1,x2,y2,class.")
    files = [os.path.join(path.parent if root is None else root, file) for file in objects]
    names, found = _collected(list(objects.values()), class_names, image_sizes(files), on_bad)
    return of_files(files, names, kind="boxes", boxes=found, channels=channels, name=name or path.stem)


def voc_boxes(root, split="train", class_names=None, name=None, *, group=None, mirrored=(), on_bad="error"):
    """A source of images with boxes in the layout of PASCAL VOC (Everingham et al., IJCV 2015).

    Reads `JPEGImages/*.jpg`, `Annotations/*.xml` and `ImageSets/Main/<split>.txt`. VOC counts pixels from 1 and the
    last one in: its corners become x1 - 1, y1 - 1, x2, y2. Objects that are `difficult` count for nothing.

    Args:
        root: The folder that holds these, such as `VOC2012`, or one that holds `VOC2012` or `VOCdevkit/VOC2012`.
        split: Name of the list.
        class_names: The classes in their order; None: VOC's 20.
        name: A short name; None: "voc/" and the split.
        group: As in `folder`, a function of the name in the list.
        mirrored: As in `Source`.
        on_bad: As in `boxes`.

    Raises:
        FileNotFoundError: If a folder, the list or an xml file is missing.
        ValueError: If an xml file is damaged, an image is missing, a class has no name, or a box is bad; it names file
            and object.

    >>> train = voc_boxes("VOCdevkit", "trainval")  # doctest: +SKIP
    """
    root = holding(root, "Annotations", "VOC2012")
    names = lines(root / "ImageSets" / "Main" / f"{split}.txt")
    files = [os.path.join(root, "JPEGImages", f"{item}.jpg") for item in names]
    name = name or f"voc/{split}"
    check_files(files, name)
    sizes, objects = zip(*(_parsed(root / "Annotations" / f"{item}.xml") for item in names), strict=True)
    class_names, found = _collected(objects, class_names or lists()["names"]["voc"], sizes, on_bad)
    fields = {"ids": names, "groups": group and [group(item) for item in names], "mirrored": mirrored, "name": name}
    return of_files(files, class_names, kind="boxes", boxes=found, **fields)


def bccd(root, split="train"):
    """364 microscope images of blood, 640 x 480, with boxes of red and white cells and platelets.

    Args:
        root: The folder `BCCD`, or one that holds it.
        split: "train" (205 images), "val" (87), "test" (72) or "trainval".

    >>> train = bccd("BCCD_Dataset", "train")  # doctest: +SKIP

    Reference: github.com/Shenggan/BCCD_Dataset
    """
    return voc_boxes(holding(root, "Annotations", "BCCD"), split, lists()["names"]["bccd"], f"bccd/{split}")


def _collected(objects, class_names, sizes, on_bad):
    """Class names, and `Boxes` of objects (corners, class name, crowd, place in messages), a list for each image."""
    if class_names is None:
        class_names = sorted({label for own in objects for _, label, _, _ in own})
    values = {item: value for value, item in enumerate(class_names)}
    for own in objects:
        for _, label, _, place in own:
            if label not in values:
                raise ValueError(f"{place}: {label!r} is no class name. The source has: {', '.join(values)}")
    corners, labels, crowd = ([[item[k] for item in own] for own in objects] for k in range(3))
    labels = [[values[label] for label in own] for own in labels]
    where = lambda image, box: objects[image][box][3]  # noqa: E731
    return list(class_names), collect(corners, labels, sizes, where, crowd=crowd, on_bad=on_bad)


def _parsed(path):
    """Height and width, and the objects of an xml file of VOC."""
    try:
        root = xml.parse(existing(path)).getroot()
        size = tuple(int(root.find(f"size/{side}").text) for side in ("height", "width"))
    except (xml.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no annotation of VOC with a size and objects: {error}") from error
    objects = []
    for number, item in enumerate(root.iter("object")):
        place = f"{path}, object {number}"
        try:
            left, top, right, bottom = (float(item.find(f"bndbox/{side}").text) for side in _SIDES)
            label = item.find("name").text.strip()
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{place}: needs a name and a bndbox of {', '.join(_SIDES)}: {error}") from error
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        objects.append(((left - 1, top - 1, right, bottom), label, difficult, place))
    return size, objects
