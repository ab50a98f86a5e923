"""From a protocol and sources to training, validation, calibration and test splits of whole images."""

import dataclasses

import numpy as np
import tensorflow as tf

from cplus1_keras.data.segmentation.protocol import SegmentationProtocol
from cplus1_keras.data.segmentation.sources.source import MaskSource
from cplus1_keras.labels import UNKNOWN


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationSplit:
    """Some images, and what their mask values mean there.

    Args:
        name: "train", "validation", "calibration" or "test".
        source: the images and masks.
        label_of: dict of mask value -> label in the package's convention.
        protocol: the protocol.

    Example:

    >>> from cplus1_keras.data.segmentation import protocols, sources
    >>> source = sources.arrays(np.zeros([10, 4, 4, 3], "uint8"), np.zeros([10, 4, 4], "uint8"))
    >>> images, labels = next(iter(split(protocols.voc(), source).test.dataset()))
    >>> images.shape, int(labels[0, 0])  # value 0 is the background
    (TensorShape([4, 4, 3]), -1)
    """

    name: str
    source: MaskSource
    label_of: dict
    protocol: SegmentationProtocol

    def __len__(self):
        return len(self.source)

    def dataset(self):
        """All images and labels, one by one, in the order of `source.names`.

        Returns:
            tf.data.Dataset of (image (H, W, 3) float32 in 0..255, labels (H, W) int32). A mask value outside the
            protocol raises an error that names the values, the file and how many pixels.
        """
        pairs = tf.data.Dataset.zip(self.source.dataset(), tf.data.Dataset.range(len(self)))
        return pairs.map(
            lambda pair, index: (pair[0], self.labels(pair[1], index)), num_parallel_calls=tf.data.AUTOTUNE
        )

    def labels(self, mask, index):
        """Labels of mask tensor `index`, for use inside tf.data: (H, W) int32."""

        @tf.autograph.experimental.do_not_convert
        def convert(mask, index):
            return to_labels(mask, self.label_of, self.source.describe(int(index)), self.protocol.name)

        return tf.ensure_shape(tf.numpy_function(convert, [mask, index], tf.int32), [None, None])


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationSplits:
    """The four splits of a protocol, made by `split`; no image is in two of them.

    Args:
        train: images to fit. Pixels of unknown classes are ignored or background, as the protocol says.
        validation: images to watch and select by; pixels of unknown classes are ignored.
        calibration: images for the threshold alone; pixels of unknown classes are ignored.
        test: images with all labels.
        protocol: the protocol.

    Example:

    >>> from cplus1_keras.data.segmentation import protocols, sources
    >>> source = sources.arrays(np.zeros([10, 4, 4, 3], "uint8"), np.zeros([10, 4, 4], "uint8"))
    >>> split(protocols.voc(), source).num_classes
    20
    """

    train: SegmentationSplit
    validation: SegmentationSplit
    calibration: SegmentationSplit
    test: SegmentationSplit
    protocol: SegmentationProtocol

    @property
    def class_names(self):
        """Names of the known classes in label order."""
        return self.protocol.class_names

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return self.protocol.num_classes

    def summary(self):
        """A text that says how many images each split has and which classes have which role."""
        parts = (self.train, self.validation, self.calibration, self.test)
        counts = ", ".join(f"{part.name} {len(part):,}" for part in parts)
        unknown = ", ".join(self.protocol.unknown) or "none"
        return f"images: {counts}\nknown: {', '.join(self.class_names)}\nunknown: {unknown}"


def split(
    protocol,
    train,
    test=None,
    validation=None,
    calibration=None,
    *,
    validation_fraction=0.0,
    calibration_fraction=0.1,
    test_fraction=0.2,
    seed=0,
):
    """Cut sources into four splits, image by image.

    What has no source of its own is cut from `train` by a seeded shuffle of its groups, as the fractions say; the rest
    trains. Crops of one image stay together. Pixels of one image are not independent, so a threshold's evidence counts
    images: calibrate on images that training has not seen.

    Args:
        protocol: a `SegmentationProtocol`.
        train: source of training images.
        test: source of test images, or None.
        validation: source of validation images, or None.
        calibration: source of calibration images, or None.
        validation_fraction: part of the images of `train`, in [0, 1), where `validation` is None.
        calibration_fraction: likewise for calibration.
        test_fraction: likewise for test.
        seed: int >= 0.

    Returns:
        `SegmentationSplits`.

    Raises:
        ValueError: the file of an image or mask is in two sources, or fractions that leave nothing to train on.

    Example:

    >>> from cplus1_keras.data.segmentation import protocols, sources
    >>> source = sources.arrays(np.zeros([10, 4, 4, 3], "uint8"), np.zeros([10, 4, 4], "uint8"))
    >>> splits = split(protocols.voc(), source)
    >>> len(splits.train), len(splits.validation), len(splits.calibration), len(splits.test)
    (7, 0, 1, 2)
    """
    given = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    given = {name: source for name, source in given.items() if source is not None}
    _check_distinct(given)
    fractions = {"test": test_fraction, "calibration": calibration_fraction, "validation": validation_fraction}
    fractions = {name: part for name, part in fractions.items() if name not in given}
    given |= _cut(train, fractions, seed)
    label_of = {
        "train": protocol.training_labels(),
        "validation": protocol.calibration_labels(),
        "calibration": protocol.calibration_labels(),
        "test": protocol.evaluation_labels(),
    }
    return SegmentationSplits(
        **{name: SegmentationSplit(name, given[name], label_of[name], protocol) for name in label_of}, protocol=protocol
    )


def to_labels(mask, label_of, where, protocol_name=""):
    """Labels of a mask.

    Args:
        mask: (H, W) integers.
        label_of: dict of mask value -> label.
        where: text that finds the mask again, for the error.
        protocol_name: for the error.

    Returns:
        (H, W) int32.

    Raises:
        ValueError: values that `label_of` lacks; the message names them, the file, and how many pixels.

    Example:

    >>> to_labels(np.array([[0, 7]]), {0: -1, 7: 2}, "a.png")
    array([[-1,  2]], dtype=int32)
    """
    outside = np.iinfo("int32").min
    table = np.full(max(label_of) + 2, outside, "int32")
    table[list(label_of)] = list(label_of.values())
    mask = np.asarray(mask)
    labels = table[np.where((mask < 0) | (mask >= len(table)), len(table) - 1, mask)]
    wrong = labels == outside
    if wrong.any():
        values, counts = np.unique(mask[wrong], return_counts=True)
        listed = ", ".join(f"{value} ({count:,} pixels)" for value, count in zip(values[:10], counts[:10], strict=True))
        raise ValueError(
            f"Mask values outside the protocol {protocol_name!r} in {where}: {listed}"
            + (f" and {len(values) - 10} more values" if len(values) > 10 else "")
            + f", {wrong.sum():,} of {mask.size:,} pixels. Name them in `classes`, `background` or `ignored` of the "
            "protocol, or correct the mask."
        )
    return labels


def _cut(source, fractions, seed):
    for name, part in fractions.items():
        if not 0 <= part < 1:
            raise ValueError(f"`{name}_fraction` must lie in [0, 1). Received: {part!r}")
    groups = sorted(set(source.groups))
    cuts = np.floor(np.cumsum([0.0, *fractions.values()]) * len(groups) + 0.5).astype(int)
    if cuts[-1] >= len(groups):
        raise ValueError(f"Fractions must leave something to train on. Received: {fractions} of {len(groups)} images")
    order = np.random.default_rng(seed).permutation(len(groups))
    home = dict.fromkeys(groups, "train")
    for name, start, stop in zip(fractions, cuts[:-1], cuts[1:], strict=True):
        home |= {groups[position]: name for position in order[start:stop]}
    homes = np.array([home[group] for group in source.groups])
    return {name: source.subset(np.flatnonzero(homes == name)) for name in ("train", *fractions)}


def _check_distinct(given):
    items = list(given.items())
    for position, (name, source) in enumerate(items):
        for other_name, other in items[:position]:
            shared = set(source.image_files) & set(other.image_files) or set(source.files) & set(other.files)
            if source is other or shared:
                what = f"{len(shared)} files, such as {min(shared)}," if shared else "One source"
                raise ValueError(f"{what} in both `{other_name}` and `{name}`: test figures would be worthless.")


def has_unknown(split):
    """True where a split has labels of unknown classes."""
    return UNKNOWN in split.label_of.values()
