"""From a protocol and sources to training, validation, calibration and test splits without leaks."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from cplus1_keras.data import outlines
from cplus1_keras.data.masks import require, to_labels
from cplus1_keras.data.protocol import Protocol, no_role
from cplus1_keras.data.reading import constants
from cplus1_keras.data.source import Source
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

PARTS = ("train", "validation", "calibration", "test")

_ROLES = (NEGATIVE, UNKNOWN, IGNORE)
_BAD = {"clipped": "clipped to their image", "dropped": "dropped, being bad"}


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some images and what their classes mean there, in one fixed order.

    An example is a dict: `image` (H, W, C) as stored, and `labels`, an int32 scalar or of masks (H, W), or of sets
    `multi_hot`, (C,) int32 of 1 present, 0 absent, -100 not annotated, or `boxes` (M, 4) float32, (x1, y1, x2, y2) in
    pixels, with `box_labels` (M,) int32.

    Args:
        name: "train", "validation", "calibration" or "test": they differ in what an unknown class is.
        source: A `Source`.
        protocol: A `Protocol`.

    >>> from cplus1_keras.data import protocols, sources
    >>> len(Split("test", sources.digits(), protocols.digits()))
    1797
    """

    name: str
    source: Source
    protocol: Protocol

    def __post_init__(self):
        if self.name not in PARTS:
            raise ValueError(f"`name` is one of {', '.join(PARTS)}. Received: name={self.name!r}")

    def __len__(self):
        return len(self.source)

    @functools.cached_property
    def labels(self):
        """(N,) int32 where each image has one class, else None."""
        if self.source.kind != "class":
            return None
        return self._table_of_names(self.source.labels, "test")[self.source.labels]

    @functools.cached_property
    def class_labels(self):
        """Of a source of boxes, the label here of each of its classes, int32; None of other sources."""
        boxes = self.source.boxes
        return None if boxes is None else self._table_of_names(boxes.values, self.name)

    @functools.cached_property
    def box_labels(self):
        """(n,) int32, the label of each row of `source.boxes`, crowds being ignored; None of other sources."""
        boxes = self.source.boxes
        return None if boxes is None else np.where(boxes.crowd, IGNORE, self.class_labels[boxes.values])

    def unjudged(self, index):
        """The known classes, ascending, of which image `index` may show objects without a box (LVIS)."""
        labels = self.class_labels
        found = labels[~self.source.boxes.is_complete(index, len(labels))]
        return np.unique(found[found >= 0])

    @property
    def max_boxes(self):
        """The most boxes that an image has, at least 1."""
        return int(self.source.boxes.counts.max(initial=1))

    @property
    def multi_hot(self):
        """(N, C) int32 where each image has a set of classes, else None."""
        return self._shown[0]

    @property
    def shows_known(self):
        """(N,) bool, whether an image shows a known class; None of masks, which are not in memory."""
        return self._shown[1]

    @property
    def shows_unknown(self):
        """(N,) bool, whether an image shows an unknown class; None of masks, which are not in memory."""
        return self._shown[2]

    @property
    def groups(self):
        """What each image was cut from, N texts; its own name where it is for itself."""
        return self.source.groups

    @property
    def mirror(self):
        """The known class that each known class becomes in a mirrored image, as `Protocol.mirror` has it."""
        return self.protocol.mirror(self.source.mirrored)

    @property
    def has_unknown(self):
        """True where this split has, or as masks can have, labels of unknown classes."""
        return UNKNOWN in self.table.values() if self.source.kind == "mask" else bool(self.shows_unknown.any())

    @property
    def has_negatives(self):
        """True where this split has negatives, or as masks can have them; images with boxes have background."""
        if self.source.kind == "mask":
            return NEGATIVE in self.table.values()
        if self.source.kind == "boxes":
            return True
        return bool((self.multi_hot == 0).any() if self.labels is None else (self.labels == NEGATIVE).any())

    @functools.cached_property
    def table(self):
        """Dict of mask value -> label."""
        return self.protocol.table(self.source.names, self.name)

    def describe(self, index):
        """A text that finds image `index` again: its path, or the name of its source and the index there."""
        return self.source.describe(index)

    def class_name(self, index):
        """The name of the class of image `index` in its source, where each image has one."""
        return self.source.class_names[self.source.labels[index]]

    def subset(self, indices):
        """A split of some of the images; `indices` ascend strictly."""
        return dataclasses.replace(self, source=self.source.subset(indices))

    def example(self, index):
        """Example `index`, a scalar int64 tensor, also in a graph; only where the source has random access."""
        return self._label(self.source.read(index), index)

    def dataset(self):
        """`tf.data.Dataset` of all examples, one by one, in order."""
        records = tf.data.Dataset.zip(self.source.stream(), tf.data.Dataset.range(len(self)))
        return records.map(self.decode, num_parallel_calls=tf.data.AUTOTUNE)

    def decode(self, record, index):
        """The example of a record of `source.stream`, which is number `index` of this split."""
        return self._label(self.source.decode(record), index)

    def _table_of_names(self, values, part):
        """The label of each class of the source, (n,) int32, once all that occur in `values` have one."""
        names = self.source.class_names
        labels = self.protocol.labels(names, part, partial=True)
        strange = sorted(names[value] for value in np.unique(values) if labels[value] is None)
        if strange:
            raise ValueError(no_role(self.protocol, strange))
        return np.array([IGNORE if label is None else label for label in labels], "int32")

    def _label(self, example, index):
        image = example["image"]
        if self.source.kind == "boxes":
            return self._with_boxes(image, index)
        if self.source.kind != "mask":
            return {"image": image} | {key: tf.gather(values, index) for key, values in self._constants.items()}
        mask = tf.squeeze(example["mask"], -1) if example["mask"].shape.rank == 3 else example["mask"]
        size, own = tf.shape(image)[:2], tf.shape(mask)

        def sentence():
            sizes = "image {} x {}, mask {} x {} (width x height) for "
            text = tf.strings.format(sizes, (size[1], size[0], own[1], own[0]))
            advice = ". Resize the mask to the image, by nearest neighbour, or the image to the mask."
            return tf.strings.join(["A mask has the size of its image. Received: ", text, self.where(index), advice])

        mask = require(tf.reduce_all(size == own), sentence, mask)
        labels = to_labels(mask, self.table, self.where(index), self.protocol.title)
        return {"image": image, "labels": tf.ensure_shape(labels, [None, None])}

    def _with_boxes(self, image, index):
        held = self._constants
        own, (height, width) = tf.shape(image)[:2], tf.unstack(tf.gather(held["sizes"], index))

        def sentence():
            sizes = " is {} x {} (width x height), its boxes are of an image of {} x {}"
            text = tf.strings.format(sizes, (own[1], own[0], width, height))
            return tf.strings.join([self.where(index), text, ". Was the image resized without its annotations?"])

        image = require((own[0] == height) & (own[1] == width), sentence, image)
        start = tf.gather(held["starts"], index)
        rows = slice(start, start + tf.gather(held["counts"], index))
        found = {"image": image, "boxes": held["boxes"][rows], "box_labels": held["box_labels"][rows]}
        if "masks" in held:
            found |= {"mask_boxes": found["boxes"], "masks": outlines.unpack(held["masks"][rows])}
        return found

    @functools.cached_property
    def _places(self):
        return constants({"places": [self.describe(index) for index in range(len(self))] or [""]})["places"]

    def where(self, index):
        """`describe(index)` for a tensor, a string tensor."""
        return tf.gather(self._places, index)

    @functools.cached_property
    def _shown(self):
        if self.source.kind == "classes":
            return self.protocol.multi_hot(self.source.labels, self.source.class_names, self.source.annotated)
        if self.source.kind == "boxes":
            shown = [self.box_labels >= 0, self.box_labels == UNKNOWN]
            images = self.source.boxes.images
            return None, *(np.bincount(images[rows], minlength=len(self)) > 0 for rows in shown)
        return (None, None, None) if self.labels is None else (None, self.labels >= 0, self.labels == UNKNOWN)

    @functools.cached_property
    def _constants(self):
        if self.source.kind == "boxes":
            boxes = self.source.boxes
            rows = {"starts": boxes.starts, "counts": boxes.counts, "sizes": boxes.sizes.astype("int32")}
            if boxes.outlines is not None:
                masks = [outline.mask for outline in boxes.outlines]
                rows["masks"] = np.array(masks, "uint8").reshape(-1, outlines.BYTES)
            return constants(rows | {"boxes": boxes.corners, "box_labels": self.box_labels})
        key = "labels" if self.source.kind == "class" else "multi_hot"
        return constants({key: getattr(self, key)})


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of a protocol, made by `split`; no image is in two of them.

    `train` is to fit, `validation` to watch and select by, `calibration` for the threshold alone, `test` has known,
    negative and all unknown classes. `dropped` counts images in no split: of ignored classes, or unknown ones that were
    not wanted. `noisy` counts training labels that are wrong on purpose, as `noise.spoil` makes them.

    >>> from cplus1_keras.data import protocols, sources, split
    >>> split(protocols.digits(), sources.digits()).num_classes
    6
    """

    train: Split
    validation: Split
    calibration: Split
    test: Split
    protocol: Protocol
    dropped: int = 0
    noisy: int = 0

    def __iter__(self):
        return (getattr(self, name) for name in PARTS)

    @property
    def class_names(self):
        """Names of the known classes in label order."""
        return self.protocol.class_names

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return self.protocol.num_classes

    def summary(self):
        """A text that says how many images, or boxes, each split has, and the classes' roles."""
        if self.train.source.kind == "mask":
            counts = ", ".join(f"{part.name} {len(part):,}" for part in self)
            unknown = ", ".join(self.protocol.unknown) or "none"
            return f"images: {counts}\nknown: {', '.join(self.class_names)}\nunknown: {unknown}"
        if self.train.source.kind == "boxes":
            return self._summary_of_boxes()
        lines = [f"{'':12}{'known':>9}{'negative':>10}{'unknown':>9}{'all':>9}"]
        for part in self:
            known, unknown = part.shows_known & ~part.shows_unknown, part.shows_unknown
            counts = known.sum(), (~known & ~unknown).sum(), unknown.sum()
            lines.append(f"{part.name:12}{counts[0]:9,}{counts[1]:10,}{counts[2]:9,}{len(part):9,}")
        dropped = f"; {self.dropped:,} images in no split" if self.dropped else ""
        noisy = f"; {self.noisy:,} training labels wrong on purpose" if self.noisy else ""
        return "\n".join([*lines, f"{self.num_classes} known classes{dropped}{noisy}"])

    def _summary_of_boxes(self):
        lines = [f"{'boxes':12}{'known':>9}{'negative':>10}{'unknown':>9}{'ignored':>9}{'images':>9}"]
        for part in self:
            known, (negative, unknown, ignored) = part.box_labels >= 0, (part.box_labels == role for role in _ROLES)
            counts = [rows.sum() for rows in (known, negative, unknown, ignored)]
            lines.append(f"{part.name:12}{counts[0]:9,}{counts[1]:10,}{counts[2]:9,}{counts[3]:9,}{len(part):9,}")
        bad = {what: sum(getattr(part.source.boxes, what).sum() for part in self) for what in ("clipped", "dropped")}
        texts = [f"; {count:,} boxes {_BAD[what]}" for what, count in bad.items() if count]
        return "\n".join([*lines, f"{self.num_classes} known classes{''.join(texts)}"])
