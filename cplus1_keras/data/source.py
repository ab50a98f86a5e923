"""A source: images with what is annotated in them, by class names, read only when asked for."""

import copy
import functools

import numpy as np
import tensorflow as tf

from cplus1_keras.data.reading import constants
from cplus1_keras.images import preprocess
from cplus1_keras.layers.resizing import size_pair

KINDS = ("class", "mask", "classes", "boxes")


class Source:
    """Images, each with a class, a mask of its size, a set of classes, or boxes. What classes mean is the protocol's.

    Use the functions of `cplus1_keras.data.sources`; build one by hand only for a format they lack, with exactly one of
    `arrays`, `read` and `stream`. An example is a dict with `image` (H, W, C), and of masks `mask` (H, W), integers.

    Args:
        names: Class names: a sequence, or for masks also a dict of mask value -> name.
        labels: Of classes (N,) ints, indices into the names; of sets (N, n) bool, which classes an image shows; else
            None.
        kind: "class", "mask", "classes" or "boxes".
        boxes: `cplus1_keras.data.boxes.Boxes` of the images, of boxes only.
        name: A short name for reports.
        arrays: Dict of numpy arrays of N rows, where all is in memory.
        read: Function of a scalar int64 tensor, an index, giving an example; runs inside tf.data.
        stream: Function of an ascending (M,) int64 array of indices, giving a `tf.data.Dataset` of records, for files
            that can be read from the beginning only.
        decode: Function from a record to an example; None where a record is one.
        count: N, where neither labels, arrays nor ids say it.
        annotated: (N, n) bool, whether a class was looked for in an image; None: all were. Sets only.
        shape: (H, W, C) of all images, None where it differs or is not known.
        dtype: Type of the images.
        files, mask_files: One path for each image and mask, where they are files.
        ids: A name for each image, all different; None: its file, or the source's name and a number.
        groups: What each image was cut from, such as its video: splits keep it together. None: each is for itself.
        mirrored: Pairs of class names that a mirrored image swaps.

    Raises:
        ValueError: If labels do not fit the names, names are repeated, or there is not one way to read.

    >>> source = Source(["cat", "dog"], [0, 1, 1], name="pets", arrays={"image": np.zeros([3, 4, 4, 1], "uint8")})
    >>> len(source), source.describe(2)
    (3, 'pets[2]')
    """

    def __init__(
        self,
        names,
        labels=None,
        *,
        kind="class",
        boxes=None,
        name,
        arrays=None,
        read=None,
        stream=None,
        decode=None,
        count=None,
        annotated=None,
        shape=(None, None, None),
        dtype="uint8",
        files=(),
        mask_files=(),
        ids=None,
        groups=None,
        mirrored=(),
    ):
        if kind not in KINDS or sum(way is not None for way in (arrays, read, stream)) != 1:
            raise ValueError(f"{name}: a source needs a kind of {KINDS} and exactly one of `arrays`, `read`, `stream`.")
        self.kind, self.name, self.mirrored = kind, name, tuple(mirrored)
        self.names = _named(names, name, kind)
        self.labels = _labels(labels, self.class_names, kind, name)
        self.boxes = _objects(boxes, self.class_names, kind, name)
        self.annotated = None if annotated is None else np.asarray(annotated, bool)
        self._arrays, self._read, self._stream, self._decode = arrays, read, stream, decode
        image = None if arrays is None else arrays["image"]
        self.shape = tuple(shape) if image is None else image.shape[1:]
        self.dtype = tf.as_dtype(dtype if image is None else image.dtype)
        self.files, self.mask_files = (tuple(map(str, items)) for items in (files, mask_files))
        self._ids, self._groups = (None if items is None else tuple(map(str, items)) for items in (ids, groups))
        sizes = {
            len(items) for items in (self.labels, self.boxes, self.annotated, image, self._ids) if items is not None
        }
        sizes |= {len(items) for items in (self.files, self.mask_files, self._groups) if items}
        sizes |= set() if count is None else {count}
        if len(sizes) != 1:
            raise ValueError(f"{name}: labels, images, files, ids and groups are one each. Received: {sorted(sizes)}")
        self._indices = np.arange(*sizes)
        if self._ids is not None and len(set(self._ids)) != len(self._ids):
            raise ValueError(f"{name}: the names of images must differ, or splits could share one.")

    def __len__(self):
        return len(self._indices)

    def __repr__(self):
        return f"Source({self.name!r}, {self.kind}, {len(self)} images {self.shape}, {len(self.class_names)} classes)"

    @property
    def class_names(self):
        """Tuple of class names, each once."""
        return tuple(dict.fromkeys(self.names.values()))

    @property
    def random_access(self):
        """True where images can be read in any order at no extra cost."""
        return self._stream is None

    @property
    def array(self):
        """(N, H, W, C) array of the images where they are in memory, else None."""
        return None if self._arrays is None else self._arrays["image"][self._indices]

    @property
    def ids(self):
        """A name for each image, all different."""
        if self._ids is not None:
            return tuple(self._ids[index] for index in self._indices)
        return self.files or tuple(f"{self.name}[{index}]" for index in self._indices)

    @property
    def groups(self):
        """What each image was cut from; its own name where it is for itself."""
        return self.ids if self._groups is None else self._groups

    @property
    def grouped(self):
        """True where groups were given."""
        return self._groups is not None

    def describe(self, index):
        """A text that finds example `index` again: the path of its mask or image, or its source and number."""
        files = self.mask_files or self.files
        if files:
            return files[index]
        return f"{self.name}[{self._indices[index]}]" if self._ids is None else self._ids[self._indices[index]]

    def read(self, index):
        """Example `index`, a scalar int64 tensor, as it is stored; for `random_access` only, also in a graph."""
        index = tf.gather(self._constants["index"], index)
        if self._read is not None:
            return self._read(index)
        return {key: tf.gather(self._constants[key], index) for key in self._arrays}

    def stream(self, indices=None):
        """Records of some examples in ascending order, all where None; `decode` makes examples of them."""
        indices = np.arange(len(self)) if indices is None else np.asarray(indices)
        if not self.random_access:
            return self._stream(self._indices[indices])
        return tf.data.Dataset.from_tensor_slices(indices)

    def decode(self, record):
        """The example of a record of `stream`."""
        if self.random_access:
            return self.read(record)
        return record if self._decode is None else self._decode(record)

    def examples(self):
        """`tf.data.Dataset` of all examples as they are stored, in order."""
        return self.stream().map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)

    def subset(self, indices):
        """A source of some of the examples, by strictly ascending indices, with the same class names."""
        indices = np.asarray(indices, "int64").reshape(-1)
        if len(indices) and (indices[0] < 0 or indices[-1] >= len(self) or np.any(np.diff(indices) <= 0)):
            raise ValueError(f"`indices` must ascend strictly within 0 to {len(self) - 1} for {self!r}")
        if len(indices) == len(self):
            return self
        part = copy.copy(self)
        part.__dict__.pop("_constants", None)
        part._indices = self._indices[indices]
        for field in ("labels", "boxes", "annotated"):
            rows = getattr(self, field)
            setattr(part, field, rows if rows is None else rows[indices])
        for field in ("files", "mask_files", "_groups"):
            rows = getattr(self, field)
            setattr(part, field, tuple(rows[index] for index in indices) if rows else rows)
        return part

    def with_boxes(self, boxes):
        """A source of the same images with other `Boxes`."""
        other = copy.copy(self)
        other.boxes = _objects(boxes, self.class_names, self.kind, self.name)
        return other

    def converted(self, size=None, channels=None):
        """The same source with each image passed through `preprocess`: one size (not of masks, boxes), channels."""
        if size and self.kind in ("mask", "boxes"):
            came = {"mask": "masks", "boxes": "boxes"}[self.kind]
            raise ValueError(f"{self.name}: `image_size` of training resizes images with {came}; `converted` does not.")
        shape = (*(size_pair(size) if size else self.shape[:2]), channels or self.shape[2])
        return self._with_images(lambda image: preprocess(image, size, channels), shape)

    def centered(self, short_side, size):
        """The same source, each image resized to a shorter side of so many pixels and cut to `size` in the middle."""
        shape = (*size_pair(size), self.shape[2])
        return self._with_images(lambda image: preprocess(image, size, short_side=short_side), shape)

    def _with_images(self, change, shape):
        def decode(record):
            example = self.decode(record)
            return example | {"image": tf.ensure_shape(tf.cast(change(example["image"]), tf.float32), shape)}

        way = {"read": decode} if self.random_access else {"stream": self.stream, "decode": decode}
        fields = ("labels", "boxes", "kind", "name", "annotated", "files", "mask_files", "ids", "groups", "mirrored")
        names = self.names if self.kind == "mask" else self.class_names
        return Source(names, **{key: getattr(self, key) for key in fields}, shape=shape, dtype="float32", **way)

    @functools.cached_property
    def _constants(self):
        return constants((self._arrays or {}) | {"index": self._indices.astype("int64")})


def _named(names, name, kind):
    if not hasattr(names, "items"):
        names = {value: str(item) for value, item in enumerate(names)}
        if len(set(names.values())) != len(names):
            raise ValueError(f"{name}: class names must differ. Received: {tuple(names.values())}")
    elif kind != "mask":
        raise ValueError(f"{name}: a dict of value -> name is for masks only. Received: {names}")
    if not all(0 <= value < 2**16 for value in names):
        raise ValueError(f"{name}: mask values lie in 0 to 65535. Received: {sorted(names)}")
    return {int(value): str(item) for value, item in names.items()}


def _labels(labels, class_names, kind, name):
    if kind in ("mask", "boxes"):
        return None
    labels, count = np.asarray(labels), len(class_names)
    came = f"Received: shape {labels.shape}, dtype {labels.dtype}"
    if kind == "classes":
        if labels.ndim != 2 or labels.shape[1] != count or not np.isin(labels, (0, 1)).all():
            raise ValueError(f"{name}: needs (N, {count}) of 0 and 1, a column for each class. {came}")
        return labels.astype(bool)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: needs one integer label for each example. {came}")
    outside = sorted(set(labels[(labels < 0) | (labels >= count)].tolist()))
    if outside:
        raise ValueError(f"{name}: labels must lie in 0 to {count - 1}, by the class names. Received: {outside[:10]}")
    return labels.astype("int64")


def _objects(boxes, class_names, kind, name):
    if (boxes is None) == (kind == "boxes"):
        raise ValueError(f"{name}: `boxes` belong to a source of the kind boxes, and to no other. Received: {kind=}")
    if boxes is not None and len(boxes.values) and not 0 <= boxes.values.min() <= boxes.values.max() < len(class_names):
        came = sorted(set(boxes.values.tolist()) - set(range(len(class_names))))[:10]
        raise ValueError(f"{name}: values of boxes lie in 0 to {len(class_names) - 1}, by the names. Received: {came}")
    return boxes
