"""Sources whose images are files: folders of class folders or with masks beside, and csv lists."""

import csv as csv_format
import os
import pathlib

import numpy as np

from cplus1_keras.data import reading
from cplus1_keras.data.protocol import Protocol
from cplus1_keras.data.source import Source
from cplus1_keras.labels import NEGATIVE, UNKNOWN

_ENDINGS = reading.IMAGE_ENDINGS + reading.OTHER_ENDINGS
_UNREAD = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".tga", ".dng", ".cr2", ".nef", ".svg")
_CHECKED_AHEAD = 1000


def folder(
    path, masks=None, *, names=None, channels=3, image_suffix="", mask_suffix="", name=None, group=None, mirrored=()
):
    """A source from a folder with one folder for each class; or from a folder of images and one of masks.

    Images and masks belong together where their names are the same but for the suffixes and the ending. Deeper folders
    are searched too; classes and files are sorted. Files are decoded when asked for, save tif, ppm and masks that are
    no png, which are decoded here and held as png.

    Args:
        path: The folder; without `masks` it has one folder for each class, named as the class.
        masks: None, or the folder of masks (png, bmp, gif, tif, pgm), grey or with a palette; may be the same folder
            where the suffixes tell the two apart.
        names: With masks, dict of mask value -> class name, or names of 0, 1, ...; None: their numbers.
        channels: 1 or 3, for all images.
        image_suffix: What an image's file name has before its ending beyond the common name, such as "_leftImg8bit".
        mask_suffix: Likewise for masks, such as "_gtFine_labelIds".
        name: A short name; the folder's name where None.
        group: Function of an image's path below the folder, without ending, giving what it belongs to, such as its
            video: splits keep a group together, and a threshold's evidence counts it once. None takes each for itself.
        mirrored: As in `Source`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no class folders or images, an image lacks its mask or a mask its image, or two files
            have one name.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for file in ("cat/1.png", "dog/1.png"):
    ...         tf.io.write_file(f"{root}/{file}", tf.io.encode_png(tf.zeros([2, 2, 3], tf.uint8)))
    ...     folder(root).class_names
    ('cat', 'dog')
    """
    path = reading.existing(path, "folder")
    given = {"channels": channels, "name": name or path.name, "mirrored": mirrored}
    if masks is not None:
        stems, files, masks = _pairs(path, pathlib.Path(masks), image_suffix, mask_suffix, group)
        given |= {"masks": masks, "ids": stems, "groups": None if group is None else [group(stem) for stem in stems]}
        return of_files(files, {value: str(value) for value in range(256)} if names is None else names, **given)
    class_names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise ValueError(f"{path} needs one folder for each class, with the images in it. It has no folders.")
    loose = [entry.name for entry in path.iterdir() if entry.name.lower().endswith(_ENDINGS) and entry.is_file()]
    if loose:
        came = f"{len(loose)} images beside the class folders of {path}, such as {min(loose)}"
        raise ValueError(f"An image's class is its folder. Received: {came}. Move them into one, or elsewhere.")
    files, labels = [], []
    for label, class_name in enumerate(class_names):
        own = sorted(_files(path / class_name, _ENDINGS))
        if not own:
            raise ValueError(f"{path / class_name} has no image ({', '.join(_ENDINGS)}). Add some or remove it.")
        files += own
        labels += [label] * len(own)
    groups = None if group is None else [group(os.path.splitext(os.path.relpath(file, path))[0]) for file in files]
    return of_files(files, class_names, labels, groups=groups, **given)


def csv(path, root=None, class_names=None, channels=3, name=None):
    """A source from a csv file with lines `path,label`, as the protocols of AIML-IfI/openset-imagenet.

    A label >= 0 is a known class, -1 negative, -2 unknown. The classes of the source are "0", "1", ..., or
    `class_names`, and then "negative" and "unknown"; `csv_protocol` gives the protocol that says so.

    Args:
        path: The csv file, without a header line.
        root: Folder that the paths in the file are relative to; the csv file's own folder where None.
        class_names: Names of label 0, 1, ...; None: their numbers.
        channels: 1 or 3, for all images.
        name: A short name; the file name where None.

    Raises:
        FileNotFoundError: If the csv file or an image is missing (1,000 images, evenly spread, are checked ahead).
        ValueError: If a line is not `path,label`, or a label has no name; the message names file and line.

    >>> train = csv("protocols/p1_train.csv", root="imagenet")  # doctest: +SKIP
    """
    path = reading.existing(path)
    rows = [(number, row) for number, row in rows_of_csv(path) if row]
    if not rows:
        raise ValueError(f"{path} is empty: it needs lines `path,label`.")
    labels = np.array([_label(row, f"{path}, line {number}") for number, row in rows], "int64")
    files = _listed(path, root, rows)
    class_names = list(range(labels.max() + 1) if class_names is None else class_names)
    count, most = len(class_names), labels.max()
    if most >= count:
        raise ValueError(f"{path}: label {most} of {files[labels.argmax()]} has no name, there are {count} names.")
    labels = np.where(labels == NEGATIVE, count, np.where(labels == UNKNOWN, count + 1, labels))
    return of_files(files, [*class_names, "negative", "unknown"], labels, channels=channels, name=name or path.stem)


def csv_protocol(*sources):
    """The protocol of sources that `csv` made, of the same classes: "negative", "unknown" and the known.

    >>> listed = Source(["0", "negative", "unknown"], [0, 1], name="list", read=dict)
    >>> csv_protocol(listed).negative
    ('negative',)
    """
    names = {source.class_names for source in sources}
    if len(names) != 1 or next(iter(names))[-2:] != ("negative", "unknown"):
        came = "; ".join(f"{source.name}: {len(source.class_names)} classes" for source in sources)
        raise ValueError(
            'Needs sources made by `csv`, with the same classes, the last two "negative" and "unknown". Received: '
            f"{came}. Give `class_names` to each `csv` where a file lacks some class."
        )
    return Protocol(next(iter(names))[:-2], ("negative",), ("unknown",), name=sources[0].name)


def csv_labels(path, root=None, class_names=None, separator=";", channels=3, name=None):
    """A source of sets of labels from a csv file.

    Either the header is `file,labels` and a line `a.jpg,cat;dog` lists what an image shows, nothing being allowed; or
    the header names the classes, `file,cat,dog,...`, and a cell is 1, 0, or empty where nobody looked.

    Args:
        path: The csv file, with a header.
        root, channels, name: As in `csv`.
        class_names: For `file,labels`, the classes in their order; None takes all that occur, sorted.
        separator: What separates labels.

    Raises:
        FileNotFoundError: As `csv`.
        ValueError: If the header, a line or a cell is not so, or a label not in `class_names`; it names file and line.

    >>> pictures = csv_labels("pictures.csv")  # doctest: +SKIP
    """
    path = reading.existing(path)
    (_, head), *rows = list(rows_of_csv(path)) or [(1, [])]
    rows = [(number, row) for number, row in rows if row]
    if len(head) < 2 or head[0].strip().lower() not in ("file", "path", "image") or not rows:
        raise ValueError(f"{path} needs a header `file,labels` or `file,` and names of classes, and lines below it.")
    for number, row in rows:
        if len(row) != len(head):
            raise ValueError(f"{path}, line {number}: needs {len(head)} cells. Received: {','.join(row)!r}")
    annotated = None
    if len(head) == 2 and head[1].strip().lower() == "labels":
        sets = [{item.strip() for item in row[1].split(separator)} - {""} for _, row in rows]
        class_names = sorted(set().union(*sets)) if class_names is None else list(class_names)
        for (number, _), own in zip(rows, sets, strict=True):
            strange = ", ".join(sorted(own - set(class_names)))
            if strange:
                raise ValueError(f"{path}, line {number}: {strange} is in no class name.")
        present = np.array([[item in own for item in class_names] for own in sets], bool).reshape(len(rows), -1)
    else:
        class_names = [item.strip() for item in head[1:]]
        cells = np.array([[cell.strip() for cell in row[1:]] for _, row in rows])
        for (number, row), bad in zip(rows, ~np.isin(cells, ["1", "0", ""]), strict=True):
            if bad.any():
                raise ValueError(f"{path}, line {number}: a cell is 1, 0 or empty. Received: {','.join(row)!r}")
        present, annotated = cells == "1", cells != ""
    given = {"kind": "classes", "annotated": annotated, "channels": channels, "name": name or path.stem}
    return of_files(_listed(path, root, rows), class_names, present, **given)


def of_files(files, names, labels=None, *, masks=None, channels=3, **fields):
    """A source from lists of image files and, with masks, of mask files; `fields` are those of `Source`.

    Images with masks or boxes are not turned by their EXIF orientation, as tools for annotation do not turn them.
    """
    upright = masks is None and fields.get("kind") != "boxes"
    readers = {"image": reading.image_reader(files, channels, upright)}
    if masks is not None:
        readers["mask"] = reading.mask_reader(masks)
        fields |= {"kind": "mask", "mask_files": masks}
    return Source(names, labels, read=reading.together(readers), shape=(None, None, channels), files=files, **fields)


def listed(names, images, masks, name, classes, mirrored=()):
    """A source from names without ending, the folder of the jpg images and that of the png masks, or one for each."""
    folders = masks if isinstance(masks, list) else [masks] * len(names)
    image_files = [os.path.join(images, item + ".jpg") for item in names]
    mask_files = [os.path.join(where, item + ".png") for where, item in zip(folders, names, strict=True)]
    for kind, files in (("image", image_files), ("mask", mask_files)):
        check_files(files, name, kind)
    return of_files(image_files, classes, masks=mask_files, name=name, ids=names, mirrored=mirrored)


def check_files(files, name, kind="image"):
    """Raises FileNotFoundError for a folder and ValueError for files that are missing; it lists each folder once."""
    folders = {os.path.dirname(file) for file in files}
    there = {where: set(os.listdir(reading.existing(where, "folder"))) for where in folders}
    missing = [file for file in files if os.path.basename(file) not in there[os.path.dirname(file)]]
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} of {len(files)} listed names have no {kind}. The first: {missing[0]}. Is the "
            "data set complete, and are the list and the files of one release?"
        )


def lines(path):
    """The lines of a list file, stripped, without empty ones."""
    found = [line.strip() for line in reading.existing(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not found or len(set(found)) != len(found):
        came = f"{len(found)} lines, {len(set(found))} names"
        raise ValueError(f"{path} needs one name a line, each once. Received: {came}")
    return found


def _pairs(images, masks, image_suffix, mask_suffix, group):
    """What the names have in common, the image files and the mask files."""
    image_of, mask_of = _by_stem(images, image_suffix, _ENDINGS), _by_stem(masks, mask_suffix, reading.MASK_ENDINGS)
    if not image_of:
        raise ValueError(f"{images} has no images that end in {image_suffix or 'any name'} + {_ENDINGS}.")
    sides = ("image", images, image_of, image_suffix), ("mask", masks, mask_of, mask_suffix)
    for (what, where, own, _), (other, needed, others, suffix) in (sides, sides[::-1])[: 1 + (images != masks)]:
        alone = sorted(set(own) - set(others))
        if alone:
            raise ValueError(
                f"{len(alone)} of {len(own)} {what}s in {where} have no {other}, such as {own[alone[0]]}: needs "
                f"{needed / (alone[0] + suffix)} with an ending. Add the {other}s, or remove the {what}s."
            )
    stems = sorted(image_of, key=lambda stem: (group(stem), stem) if group else stem)
    return stems, [image_of[stem] for stem in stems], [mask_of[stem] for stem in stems]


def _files(path, endings):
    for parent, _, files in os.walk(reading.existing(path, "folder"), followlinks=True):
        for file in files:
            if file.lower().endswith(_UNREAD):
                came = f"Received: {os.path.join(parent, file)}"
                raise ValueError(
                    f"Images are read from {', '.join(endings)}. {came}. Convert it, or move it elsewhere."
                )
            if file.lower().endswith(endings) and not file.startswith("."):
                yield os.path.join(parent, file)


def _by_stem(path, suffix, endings):
    result = {}
    for file in _files(path, endings):
        stem = os.path.splitext(file)[0]
        key = os.path.relpath(stem.removesuffix(suffix), path)
        if stem.endswith(suffix) and result.setdefault(key, file) != file:
            raise ValueError(f"Two files of one name: {result[key]} and {file}")
    return result


def rows_of_csv(path):
    """(number of the line, cells) of each line of a csv file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as text:
            yield from enumerate(csv_format.reader(text), 1)
    except (UnicodeDecodeError, csv_format.Error) as error:
        raise ValueError(f"{path} is no csv file in UTF-8: {error}. Save it as one.") from error


def _listed(path, root, rows):
    root = path.parent if root is None else root
    files = [os.path.join(root, row[0].strip()) for _, row in rows]
    for index in np.unique(np.linspace(0, len(files) - 1, _CHECKED_AHEAD).astype(int)):
        if not os.path.isfile(files[index]):
            raise FileNotFoundError(
                f"{path} lists {files[index]}, which is absent. Paths are relative to `root`, {root}."
            )
    return files


def _label(row, where):
    try:
        label = int(row[1]) if len(row) == 2 else None
    except ValueError:
        label = None
    if label is None or label < UNKNOWN:
        raise ValueError(
            f"{where}: needs `path,label` with an integer label, >= 0 known, -1 negative, -2 unknown. "
            f"Received: {','.join(row)!r}. (A header line? Remove it.)"
        )
    return label
