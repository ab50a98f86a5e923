"""Cutting sources into training, validation, calibration and test splits without leaks."""

import itertools

import numpy as np

from cplus1_keras.data.joining import join
from cplus1_keras.data.splits import PARTS, Split, Splits
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

_FRACTIONS = {"mask": (0.2, 0.1, 0.0), "class": (0.2, 0.2, 0.1), "classes": (0.2, 0.2, 0.1), "boxes": (0.2, 0.2, 0.1)}


def split(
    protocol,
    train,
    test=None,
    validation=None,
    calibration=None,
    *,
    validation_fraction=None,
    calibration_fraction=None,
    test_fraction=None,
    calibration_classes=(),
    unknown_from_test_only=False,
    seed=0,
):
    """Cut sources into four splits by a protocol.

    What has no source of its own is cut from `train` by a seeded shuffle; the rest trains. Images with one class are
    cut class by class, each by a shuffle that depends on `seed` and the class alone, test first: another protocol or
    validation fraction keeps each test image. Masks, sets of labels, boxes and sources with groups are cut group by
    group, so that crops of one image and frames of one video stay together.

    Images of unknown classes, and sets of labels with one, are tests whichever source they are in; images of ignored
    classes go nowhere. Of masks and boxes, unknown pixels and objects are in every split and have another label in
    each; see `Protocol`.

    Args:
        protocol: A `Protocol`.
        train: Source of training images.
        test, validation, calibration: Sources of these images, or None: cut from `train`.
        validation_fraction: Part of `train`, in [0, 1), where `validation` is None; None: 0.1, of masks 0.
        test_fraction: Likewise for test; None: 0.2.
        calibration_fraction: Likewise for calibration; None: 0.2, of masks 0.1. It is much, and meant: a threshold at
            FPR 10 % with 95 % confidence needs 29 negatives without an error, at a good threshold's errors two to three
            times as many.
        calibration_classes: Names of negative classes that only calibrate and test, while the other negatives don't
            calibrate. A network learns to refuse the classes that it trains on, so a threshold calibrated on them
            accepts most of what is truly new; one calibrated on classes that it never saw is an honest guess for the
            unknown. Of images with one class only.
        unknown_from_test_only: Drop the unknown images of sources other than `test`, as the field's CIFAR protocols do.
        seed: int >= 0.

    Returns:
        `Splits`.

    Raises:
        ValueError: If the sources lack a class, a known class has no training image, splits share an image, fractions
            leave nothing to train on, or a calibration class is no negative.

    >>> from cplus1_keras.data import protocols, sources
    >>> splits = split(protocols.digits(), sources.digits())
    >>> len(splits.train), len(splits.validation), len(splits.calibration), len(splits.test)
    (719, 147, 289, 642)
    """
    given = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    given = {name: source for name, source in given.items() if source is not None}
    _check_given(given)
    if unknown_from_test_only and test is None:
        raise ValueError("`unknown_from_test_only` needs a `test` source, or no unknown would be left.")
    _check_calibration_classes(calibration_classes, protocol, train)
    fractions = {"test": test_fraction, "calibration": calibration_fraction, "validation": validation_fraction}
    usual = dict(zip(fractions, _FRACTIONS[train.kind], strict=True))
    fractions = {n: usual[n] if part is None else part for n, part in fractions.items() if n not in given}
    _check_fractions(fractions)
    protocol.labels(dict.fromkeys(item for source in given.values() for item in source.class_names))

    parts = {name: [] for name in PARTS}
    dropped = 0
    for name, source in given.items():
        labels = _labels(protocol, source)
        homes = _cut(source, fractions, seed) if name == "train" else np.full(len(source), name, "U12")
        if calibration_classes:
            held = np.isin(source.labels, [k for k, n in enumerate(source.class_names) if n in calibration_classes])
            homes[held & (homes != "test")] = "calibration"
            homes[(labels == NEGATIVE) & ~held & (homes == "calibration")] = "train"
        homes[labels == UNKNOWN] = "" if unknown_from_test_only and name != "test" else "test"
        homes[labels == IGNORE] = ""
        dropped += int((homes == "").sum())
        for home in PARTS:
            parts[home].append(source.subset(np.flatnonzero(homes == home)))
    splits = {name: Split(name, _joined(parts[name]), protocol) for name in PARTS}
    _check_train(splits["train"])
    return Splits(**splits, protocol=protocol, dropped=dropped)


def _labels(protocol, source):
    """What decides where an image may go: its label, of sets UNKNOWN where it shows an unknown, else 0."""
    if source.kind == "mask":
        return np.zeros(len(source), "int32")
    whole = Split("test", source, protocol)
    if source.kind == "class":
        return whole.labels
    # Asked of boxes too, so that classes without a role are told before anything is cut.
    return np.where(whole.shows_unknown & (source.kind == "classes"), UNKNOWN, 0)


def _joined(sources):
    sources = [source for source in sources if len(source)] or sources[:1]
    return join(sources, list(dict.fromkeys(item for source in sources for item in source.class_names)))


def _cut(source, fractions, seed):
    homes = np.full(len(source), "train", "U12")
    if source.kind == "class" and not source.grouped:
        for label in range(len(source.class_names)):
            own = np.flatnonzero(source.labels == label)
            homes[own] = _deal(len(own), fractions, np.random.default_rng([seed, label]))
        return homes
    groups, number = np.unique(np.array(source.groups), return_inverse=True)
    dealt = _deal(len(groups), fractions, np.random.default_rng(seed))
    if "train" not in dealt:
        raise ValueError(f"Fractions must leave something to train on. Received: {fractions} of {len(groups)} images")
    return dealt[number]


def _deal(count, fractions, generator):
    homes = np.full(count, "train", "U12")
    cuts = np.floor(np.cumsum([0.0, *fractions.values()]) * count + 0.5).astype(int)
    order = generator.permutation(count)
    for name, start, stop in zip(fractions, cuts[:-1], cuts[1:], strict=True):
        homes[order[start:stop]] = name
    return homes


def _check_given(given):
    if len({source.kind for source in given.values()}) > 1:
        kinds = ", ".join(f"{name}: {source.kind}" for name, source in given.items())
        raise ValueError(f"All sources have one kind of annotation. Received: {kinds}")
    for (name, source), (other_name, other) in itertools.combinations(given.items(), 2):
        shared = set(source.files) & set(other.files) or set(source.mask_files) & set(other.mask_files)
        if source is other or shared:
            what = f"{len(shared)} files, such as {min(shared)}," if shared else "one source"
            raise ValueError(f"{what} in both `{name}` and `{other_name}`: test figures would be worthless.")


def _check_calibration_classes(names, protocol, train):
    if isinstance(names, str):
        raise ValueError(f"`calibration_classes` is a sequence. Received: {names!r}; did you mean ({names!r},)?")
    if names and train.kind != "class":
        raise ValueError(f"`calibration_classes` are for images with one class each. Received: {train!r}")
    strange, has = [item for item in names if item not in protocol.negative], protocol.negative
    if strange:
        raise ValueError(f"`calibration_classes` must be negative classes of the protocol, {has}. Received: {strange}")


def _check_fractions(fractions):
    for name, part in fractions.items():
        if not 0 <= part < 1:
            raise ValueError(f"`{name}_fraction` must lie in [0, 1). Received: {part!r}")
    if sum(fractions.values()) >= 1:
        raise ValueError(f"Fractions must leave something to train on, their sum be below 1. Received: {fractions}")


def _check_train(part):
    if part.source.kind == "mask":
        return
    if part.source.kind == "classes":
        seen = np.flatnonzero((part.multi_hot == 1).any(0))
    else:
        seen = part.labels if part.source.kind == "class" else part.box_labels
    empty = [name for index, name in enumerate(part.protocol.class_names) if index not in seen]
    if empty:
        raise ValueError(f"No training image of known classes: {', '.join(empty[:10])}")
