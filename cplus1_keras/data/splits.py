"""From a protocol and sources to training, validation, calibration and test splits without leaks."""

import dataclasses

import numpy as np
import tensorflow as tf

from cplus1_keras.data.protocols import Protocol
from cplus1_keras.data.sources.source import Source, join
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

_NAMES = ("train", "validation", "calibration", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Some images and their open-set labels, in one fixed order.

    Args:
        name: "train", "validation", "calibration" or "test".
        source: the images; `source.class_names[source.labels[k]]` is the name of the class that image k came from.
        labels: (N,) int32: index of a known class, or -1 negative, -2 unknown.

    Example:

    >>> from cplus1_keras.data import protocols, sources
    >>> test = split(protocols.digits(), sources.digits()).test
    >>> test.name, len(test), test.labels.dtype
    ('test', 642, dtype('int32'))
    """

    name: str
    source: Source
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def dataset(self):
        """tf.data.Dataset of (image as stored, int32 label), one by one, in the order of `labels`."""
        return tf.data.Dataset.zip(self.source.images(), tf.data.Dataset.from_tensor_slices(self.labels))

    def describe(self, index):
        """A text that finds image `index` again: its path, or the name of its source and the index there."""
        return self.source.describe(index)


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """The four splits of a protocol, made by `split`.

    Args:
        train: known and negative images to fit.
        validation: known and negative images to watch and select by.
        calibration: known and negative images for the threshold alone.
        test: known, negative and all unknown images.
        protocol: the protocol.
        class_names: names of the known classes, in label order.
        dropped: how many images of classes that the protocol does not name, or of unknown classes that were not
            wanted, are in no split.

    Example:

    >>> from cplus1_keras.data import protocols, sources
    >>> splits = split(protocols.digits(), sources.digits())
    >>> splits.num_classes, splits.class_names[:2]
    (6, ('0', '1'))
    """

    train: Split
    validation: Split
    calibration: Split
    test: Split
    protocol: Protocol
    class_names: tuple
    dropped: int = 0

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return self.protocol.num_classes

    def summary(self):
        """A table of how many known, negative and unknown images each split has."""
        lines = [f"{'':12}{'known':>9}{'negative':>10}{'unknown':>9}{'all':>9}"]
        for name in _NAMES:
            labels = getattr(self, name).labels
            counts = (labels >= 0).sum(), (labels == -1).sum(), (labels == UNKNOWN).sum()
            lines.append(f"{name:12}{counts[0]:9,}{counts[1]:10,}{counts[2]:9,}{len(labels):9,}")
        dropped = f"; {self.dropped:,} images in no split" if self.dropped else ""
        return "\n".join([*lines, f"{self.num_classes} known classes{dropped}"])


def split(
    protocol,
    train,
    test=None,
    validation=None,
    calibration=None,
    *,
    validation_fraction=0.1,
    calibration_fraction=0.2,
    test_fraction=0.2,
    calibration_classes=(),
    unknown_from_test_only=False,
    seed=0,
):
    """Cut sources into four splits by a protocol.

    What has no source of its own is cut from `train`, class by class and by a seeded shuffle, as the fractions say;
    the rest trains. Images of unknown classes, whichever source they are in, go to the test split and nowhere else;
    classes that the protocol does not name go nowhere. A class's shuffle depends on `seed` and on the class alone, and
    test is cut first: another protocol or another validation fraction keeps each test image where it was.

    The defaults leave half for training where all is cut from one source. A fifth for calibration is much, and meant:
    a threshold at FPR 10 % with 95 % confidence needs 29 negatives without an error, and at the errors that a good
    threshold makes two to three times as many. Two of ten classes of scikit-learn's digits give 72 then. Take less
    where there are many images.

    Args:
        protocol: a `Protocol`.
        train: source of training images.
        test: source of test images, or None.
        validation: source of validation images, or None.
        calibration: source of calibration images, or None.
        validation_fraction: part of each class of `train`, in [0, 1), where `validation` is None.
        calibration_fraction: likewise for calibration.
        test_fraction: likewise for test.
        calibration_classes: negative classes, as the protocol names them, that neither train nor watch: they only
            calibrate and test, and the other negatives don't calibrate. A network learns to refuse the very classes
            that it trains on, so a threshold calibrated on them accepts most of what is truly new; one calibrated on
            classes that it never saw is an honest guess for the unknown.
        unknown_from_test_only: with a `test` source, drop the unknown images of the other sources. The field's CIFAR
            protocols do so.
        seed: int >= 0.

    Returns:
        `Splits`.

    Raises:
        ValueError: no source has some class of the protocol, a known class has no training image, a source or a file
            is given twice, fractions that leave nothing to train on, or a calibration class that is no negative.

    Example:

    >>> from cplus1_keras.data import protocols, sources
    >>> splits = split(protocols.digits(), sources.digits())
    >>> len(splits.train), len(splits.validation), len(splits.calibration), len(splits.test)
    (719, 147, 289, 642)
    """
    given = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    given = {name: source for name, source in given.items() if source is not None}
    _check_distinct(given)
    if unknown_from_test_only and test is None:
        raise ValueError("`unknown_from_test_only` needs a `test` source, or no unknown would be left.")
    fractions = {"test": test_fraction, "calibration": calibration_fraction, "validation": validation_fraction}
    fractions = {name: part for name, part in fractions.items() if name not in given}
    _check_fractions(fractions)
    class_labels = _labels_of_classes(protocol, given)
    strangers = [item for item in calibration_classes if item not in protocol.negative]
    if strangers:
        raise ValueError(
            f"`calibration_classes` must be negative classes of the protocol, {protocol.negative}. "
            f"Received: {strangers}"
        )

    parts = {name: [] for name in _NAMES}
    dropped = 0
    for name, source in given.items():
        labels = np.array(class_labels[name], "int32")[source.labels]
        homes = _cut(source, fractions, seed) if name == "train" else np.full(len(source), name, "U12")
        if calibration_classes:
            held = np.isin(source.labels, [_index(item, source.class_names) for item in calibration_classes])
            homes[held & (homes != "test")] = "calibration"
            homes[(labels == NEGATIVE) & ~held & (homes == "calibration")] = "train"
        homes[labels == UNKNOWN] = "" if unknown_from_test_only and name != "test" else "test"
        homes[labels == IGNORE] = ""
        dropped += int((homes == "").sum())
        for home in _NAMES:
            indices = np.flatnonzero(homes == home)
            parts[home].append((source, indices, labels[indices]))
    splits = {name: _joined(name, parts[name]) for name in _NAMES}
    class_names = protocol.known_names(train.class_names)
    empty = sorted(set(range(protocol.num_classes)) - set(splits["train"].labels.tolist()))
    if empty:
        raise ValueError(f"No training image of known classes: {', '.join(class_names[index] for index in empty[:10])}")
    return Splits(**splits, protocol=protocol, class_names=class_names, dropped=dropped)


def _joined(name, parts):
    parts = [part for part in parts if len(part[1])] or parts[:1]
    class_names = list(dict.fromkeys(item for source, _, _ in parts for item in source.class_names))
    source = join([source.subset(indices) for source, indices, _ in parts], class_names)
    return Split(name, source, np.concatenate([labels for _, _, labels in parts]))


def _labels_of_classes(protocol, given):
    """Labels of the classes of each source, once all sources together have every class of the protocol."""
    class_names = {source.class_names for source in given.values()}
    if protocol.by_index and len(class_names) > 1:
        raise ValueError(
            "A protocol by index needs sources with equal class names, for an index means nothing else. Received: "
            + "; ".join(f"{name}: {len(source.class_names)} classes" for name, source in given.items())
            + ". Name the protocol's classes instead."
        )
    protocol.labels(dict.fromkeys(item for names in class_names for item in names))
    return {name: protocol.labels(source.class_names, partial=True) for name, source in given.items()}


def _index(item, class_names):
    """Index of a class, given as a protocol gives it; -1 where the source lacks it."""
    if isinstance(item, int):
        return item
    return class_names.index(item) if item in class_names else -1


def _cut(source, fractions, seed):
    homes = np.full(len(source), "train", "U12")
    edges = np.cumsum([0.0, *fractions.values()])
    for label in range(len(source.class_names)):
        indices = np.flatnonzero(source.labels == label)
        np.random.default_rng([seed, label]).shuffle(indices)
        cuts = np.floor(edges * len(indices) + 0.5).astype(int)
        for name, start, stop in zip(fractions, cuts[:-1], cuts[1:], strict=True):
            homes[indices[start:stop]] = name
    return homes


def _check_distinct(given):
    items = list(given.items())
    for position, (name, source) in enumerate(items):
        for other_name, other in items[:position]:
            shared = set(source.files) & set(other.files)
            if source is other or shared:
                what = f"{len(shared)} files, such as {min(shared)}," if shared else "one source"
                raise ValueError(f"{what} in both `{other_name}` and `{name}`: test figures would be worthless.")


def _check_fractions(fractions):
    for name, part in fractions.items():
        if not 0 <= part < 1:
            raise ValueError(f"`{name}_fraction` must lie in [0, 1). Received: {part!r}")
    if sum(fractions.values()) >= 1:
        raise ValueError(f"Fractions must leave something to train on, their sum be below 1. Received: {fractions}")
