"""Sources whose images are in memory: arrays, the digits of scikit-learn, idx and npz files."""

import gzip
import math
import pathlib
import zipfile
import zlib

import numpy as np

from cplus1_keras.data.reading import common_shape, existing, ragged, together
from cplus1_keras.data.source import Source


def arrays(
    images, labels=None, class_names=None, name="arrays", *, masks=None, annotated=None, groups=None, mirrored=()
):
    """A source of images in memory, with a class, a set of classes or a mask each.

    Args:
        images: (N, H, W) or (N, H, W, C), uint8 or another real dtype with values in 0..255; or a sequence of N images
            of several sizes.
        labels: (N,) ints, or for sets (N, n) bool, a column for each class.
        class_names: Names of label, column or mask value 0, 1, ...; or a dict of value -> name; None: their numbers.
        name: A short name for reports.
        masks: (N, H, W) ints, or a sequence of N masks (H, W), instead of labels.
        annotated, groups, mirrored: As in `Source`.

    Raises:
        ValueError: If shapes do not fit, channels come first, floats lie in 0..1, pixels outside 0..255 (uint16 is
            scaled), or labels outside the class names. Of several sizes, masks unlike their image raise when read.

    >>> arrays(np.zeros([2, 4, 4], "uint8"), [1, 2], {1: "a", 2: "b"}).class_names
    ('a', 'b')
    >>> arrays(np.zeros([2, 4, 4], "uint8"), masks=np.zeros([2, 4, 4], int), class_names=["road"])
    Source('arrays', mask, 2 images (4, 4, 1), 1 classes)
    """
    if (labels is None) == (masks is None):
        raise ValueError(f"{name}: needs either `labels` or `masks`.")
    labels = None if labels is None else np.asarray(labels)
    kind = "mask" if labels is None else "classes" if labels.ndim == 2 else "class"
    found = masks if labels is None else labels
    if len(images) != len(found) or not len(images):
        what = "mask" if labels is None else "label"
        came = f"{len(images)} images, {len(found)} {what}s"
        raise ValueError(f"{name}: one {what} for each image, and at least one. Received: {came}")
    if kind == "class":
        labels, class_names = _named(labels, class_names, name)
    elif class_names is None:
        class_names = {value: str(value) for value in range(256)} if kind == "mask" else range(labels.shape[1])
    rows = {"image": images} if labels is not None else {"image": images, "mask": masks}
    given = {"kind": kind, "annotated": annotated, "groups": groups, "mirrored": mirrored, "name": name}
    return Source(class_names, labels, **given, **stored(rows, name))


def stored(given, name):
    """How a `Source` reads arrays: as they are, or of several sizes from one flat tensor each."""
    checks = {"image": _checked, "mask": _integers}
    if all(len({np.shape(item) for item in items}) == 1 for items in given.values()):
        held = {key: checks[key](np.asarray(items), name) for key, items in given.items()}
        image, *mask = (items.shape[1:3] for items in held.values())
        if mask and mask != [image]:
            raise ValueError(f"{name}: a mask has the size of its image, {image}. Received: masks of {mask[0]}")
        return {"arrays": held}
    # One at a time has an axis of examples too.
    rows = {key: [checks[key](np.asarray(item)[np.newaxis], name)[0] for item in given[key]] for key in given}
    images = rows["image"]
    way = {"read": together({key: ragged(items) for key, items in rows.items()}), "count": len(images)}
    return way | {"shape": common_shape(images), "dtype": images[0].dtype}


def _checked(images, name):
    images = images[..., np.newaxis] if images.ndim == 3 else images
    if images.ndim != 4 or images.dtype.kind not in "uifb" or images.size == 0:
        raise ValueError(
            f"{name}: images must be numbers of shape (N, H, W) or (N, H, W, C), and at least one. "
            f"Received: shape {images.shape}, dtype {images.dtype}"
        )
    if images.shape[1] in (1, 3) and images.shape[3] > 4:
        advice = "np.moveaxis(images, 1, -1)"
        raise ValueError(f"{name}: channels come last, (N, H, W, C). Received: shape {images.shape}. Use {advice}.")
    if images.dtype in (np.uint8, np.uint16, np.bool_):
        return images
    low, high, floats = float(images.min()), float(images.max()), images.dtype.kind == "f"
    if not (low >= 0 and (1 if floats else -1) < high <= 255):
        advice = "Multiply by 255." if 0 <= low <= high <= 1 else "Undo the normalisation."
        advice = "There is NaN among them." if np.isnan(low) else advice if floats else "Give 16 bits as uint16."
        kind = "float images" if floats else f"images of {images.dtype}"
        raise ValueError(f"{name}: {kind} must lie in 0..255. Received: {low:g} to {high:g}. {advice}")
    return images.astype("float32", copy=False) if floats else images


def _integers(masks, name):
    if masks.ndim != 3 or masks.dtype.kind not in "bui":
        shape = masks.shape[1:]
        raise ValueError(f"{name}: a mask is (H, W) of integers. Received: shape {shape}, dtype {masks.dtype}")
    return masks if masks.dtype == np.uint8 else masks.astype("int32")


def _named(labels, class_names, name):
    if class_names is None:
        class_names = {int(value): str(value) for value in np.unique(labels)}
    if not isinstance(class_names, dict):
        return labels, class_names
    values = sorted(class_names)
    outside = sorted(set(np.unique(labels).tolist()) - set(values))
    if outside:
        raise ValueError(f"{name}: labels {outside[:10]} have no name. Received names for: {values[:30]}")
    return np.searchsorted(values, labels), [class_names[value] for value in values]


def digits():
    """The 1,797 handwritten digits of scikit-learn, 8x8 grey, classes "0" to "9"; they need no download.

    >>> digits().shape
    (8, 8, 1)

    Reference: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return arrays((bunch.images * (255 / 16)).astype("float32"), bunch.target, list("0123456789"), name="digits")


def idx(images, labels, class_names=None, name=None):
    """A source from a pair of idx files, the format of MNIST, of unsigned bytes, plain or gzip.

    Args:
        images: Path of the images, (N, H, W) or (N, H, W, C).
        labels: Path of the labels, (N,).
        class_names: As in `arrays`; letters of EMNIST: `dict(enumerate("abcdefghijklmnopqrstuvwxyz", 1))`.
        name: A short name; the images' file name where None.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or no idx file, or the counts differ; the message names the file.

    >>> train = idx("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")  # doctest: +SKIP
    """
    data, values = _read_idx(images), _read_idx(labels)
    if data.ndim not in (3, 4) or values.ndim != 1:
        raise ValueError(
            f"Needs images of 3 or 4 axes and labels of 1. Received: {data.ndim} axes in {images}, "
            f"{values.ndim} in {labels}" + (". Are the two files exchanged?" if data.ndim == 1 else "")
        )
    if len(data) != len(values):
        came = f"{len(data)} images in {images}, {len(values)} in {labels}"
        raise ValueError(f"One label for each image. Received: {came}")
    return arrays(data, values.astype("int64"), class_names, name or pathlib.Path(images).name.split(".")[0])


def _read_idx(path):
    raw = existing(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged: {error}. Fetch the file again.") from error
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no idx file of unsigned bytes: it begins with {raw[:4].hex() or 'nothing'}")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise ValueError(f"{path} is damaged: it ends within its header.")
    shape, count = tuple(np.frombuffer(raw[4:start], ">u4").tolist()), len(raw) - start
    if count != math.prod(shape):
        raise ValueError(f"{path} is damaged: shape {shape} needs {math.prod(shape)} bytes, there are {count}")
    return np.frombuffer(raw, "uint8", offset=start).reshape(shape)


def npz(path, images="images", labels="labels", class_names=None, labels_path=None, name=None):
    """A source from the arrays `images` and `labels` of an npz file; these and `class_names` as in `arrays`.

    Args:
        path: The npz file.
        images, labels: Names of the arrays in it.
        labels_path: A second npz file that holds the labels, where they are apart.
        name: A short name; the file name where None.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or lacks the array; the message names the file.

    >>> train = npz("letters.npz", "x_train", "y_train")  # doctest: +SKIP
    """
    name = name or pathlib.Path(path).stem
    return arrays(_read_npz(path, images), _read_npz(labels_path or path, labels), class_names, name)


def _read_npz(path, key):
    path = existing(path)
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            if key in file:
                return file[key]
            keys = ", ".join(file)
    except (ValueError, EOFError, OSError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no npz file: {error}") from error
    raise ValueError(f"{path} has no array {key!r}. It has: {keys}")
