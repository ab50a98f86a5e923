"""Sources whose images are files: folders of class folders, and csv lists."""

import csv as csv_format
import os
import pathlib

import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import decode
from cplus1_keras.data.protocols import Protocol
from cplus1_keras.data.sources.arrays import existing
from cplus1_keras.data.sources.source import Source
from cplus1_keras.labels import NEGATIVE, UNKNOWN

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_CHECKED_AHEAD = 1000


def folder(path, channels=3, name=None):
    """A source from a folder with one folder for each class, named as the class; deeper folders are searched too.

    Classes and files are taken in sorted order. Only names are read here; images are decoded when asked for.

    Args:
        path: the folder.
        channels: 1 or 3, for all images.
        name: a short name; the folder's name where None.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class folders, or a class folder has no images (jpg, png, bmp, gif).

    Example:

    >>> folder("my_images").class_names  # doctest: +SKIP
    ('cat', 'dog')
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"No folder at {path} (looked from {pathlib.Path.cwd()}). Check the path.")
    class_names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not class_names:
        raise ValueError(f"{path} needs one folder for each class, with the images in it. It has no folders.")
    files, labels = [], []
    for label, class_name in enumerate(class_names):
        own = sorted(
            os.path.join(parent, file)
            for parent, _, names in os.walk(path / class_name, followlinks=True)
            for file in names
            if file.lower().endswith(_ENDINGS) and not file.startswith(".")
        )
        if not own:
            raise ValueError(
                f"{path / class_name} has no image ({', '.join(_ENDINGS)}). Add some or remove the folder."
            )
        files += own
        labels += [label] * len(own)
    return _of_files(files, labels, class_names, channels, name or path.name)


def csv(path, root=None, class_names=None, channels=3, name=None):
    """A source from a csv file with lines `path,label`, the format of the openset-imagenet protocols.

    A label >= 0 is a known class, -1 negative, -2 unknown. The classes of the source are "0", "1", ..., or
    `class_names`, and then "negative" and "unknown"; `csv_protocol` gives the protocol that says so.

    Args:
        path: the csv file, without a header line.
        root: folder that the paths in the file are relative to; the csv file's own folder where None.
        class_names: names of label 0, 1, ...; None names each by its number.
        channels: 1 or 3, for all images.
        name: a short name; the file name where None.

    Raises:
        FileNotFoundError: the csv file or an image is missing (1,000 images, evenly spread, are checked ahead).
        ValueError: a line is not `path,label`, or a label has no name; the message names file and line.

    Example:

    >>> train = csv("protocols/p1_train.csv", root="imagenet")  # doctest: +SKIP

    Reference: AIML-IfI/openset-imagenet, protocols
    """
    path = existing(path)
    root = pathlib.Path(root) if root is not None else path.parent
    files, labels = [], []
    with path.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv_format.reader(lines), 1):
            if not row:
                continue
            label = _label(row, f"{path}, line {number}")
            files.append(os.path.join(root, row[0].strip()))
            labels.append(label)
    if not files:
        raise ValueError(f"{path} is empty: it needs lines `path,label`.")
    labels = np.array(labels, "int64")
    class_names = list(range(labels.max() + 1) if class_names is None else class_names)
    count = len(class_names)
    if labels.max() >= count:
        raise ValueError(
            f"{path}: label {labels.max()} of {files[labels.argmax()]} has no name, there are {count} names."
        )
    labels = np.where(labels == NEGATIVE, count, np.where(labels == UNKNOWN, count + 1, labels))
    class_names = [*class_names, "negative", "unknown"]
    for index in np.unique(np.linspace(0, len(files) - 1, _CHECKED_AHEAD).astype(int)):
        if not os.path.isfile(files[index]):
            raise FileNotFoundError(
                f"{path} lists {files[index]}, which does not exist. Its paths are relative to `root`, here {root}."
            )
    return _of_files(files, labels, class_names, channels, name or path.stem)


def csv_protocol(*sources):
    """The protocol of sources that `csv` made: "negative" and "unknown" are that, all other classes known.

    Raises:
        ValueError: the sources' class names differ, or were not made by `csv`.

    Example: `split(csv_protocol(train), train, test, validation=val)`.
    """
    names = {source.class_names for source in sources}
    if len(names) != 1 or next(iter(names))[-2:] != ("negative", "unknown"):
        raise ValueError(
            'Needs sources made by `csv`, with the same classes, the last two "negative" and "unknown". Received: '
            + "; ".join(f"{source.name}: {len(source.class_names)} classes" for source in sources)
            + ". Give `class_names` to each `csv` where a file lacks some class."
        )
    return Protocol(next(iter(names))[:-2], ("negative",), ("unknown",), sources[0].name)


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


def _of_files(files, labels, class_names, channels, name):
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    paths = tf.constant(files)

    def read(index):
        return _decoded(tf.gather(paths, index), channels)

    return Source(
        np.asarray(labels, "int64"), class_names, name=name, read=read, shape=(None, None, channels), files=files
    )


def _decoded(path, channels):
    # A graph cannot catch the decoder's error, which does not say which file it read; a data set can. It costs
    # 0.1 ms an image.
    attempt = tf.data.Dataset.from_tensors(tf.io.read_file(path)).map(lambda contents: decode(contents, channels))
    nothing = tf.data.Dataset.from_tensors(tf.zeros([0, 0, channels], tf.uint8))
    image = attempt.ignore_errors().concatenate(nothing).take(1).get_single_element()
    whole = tf.debugging.Assert(tf.size(image) > 0, ["Damaged, or no jpg, png, bmp or gif image:", path])
    with tf.control_dependencies([whole] if whole is not None else []):
        return tf.identity(image)
