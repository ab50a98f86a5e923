"""Splits: nothing leaks, nothing is lost, and a seed gives one answer."""

import collections
import itertools
import string
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras.data import Protocol, Split, combine, protocols, sources, split
from cplus1_keras.labels import NEGATIVE, UNKNOWN

NAMES = ("train", "validation", "calibration", "test")


def each(splits):
    return [getattr(splits, name) for name in NAMES]


def origins(part):
    return [part.describe(index) for index in range(len(part))]


def made(count, classes="abcd", name="made", first=0):
    """Images whose pixels hold their own number, so that a mix-up is seen."""
    labels = np.arange(count) % len(classes)
    images = np.arange(first, first + count, dtype="uint16")[:, None, None] * np.ones([2, 2], "uint16")
    return sources.arrays(images, labels, list(classes), name=name)


def check_no_leak(splits, *given):
    places = [origins(part) for part in each(splits)]
    everything = collections.Counter(itertools.chain.from_iterable(places))
    assert max(everything.values()) == 1
    assert len(everything) + splits.dropped == sum(map(len, given))
    role = dict.fromkeys(splits.protocol.negative, NEGATIVE) | dict.fromkeys(splits.protocol.unknown, UNKNOWN)
    role |= {name: index for index, name in enumerate(splits.protocol.class_names)}
    for part in each(splits):
        names = [part.source.class_names[label] for label in part.source.labels]
        assert part.labels.tolist() == [role[name] for name in names]
        assert part.labels.dtype == np.int32
    for part in each(splits)[:3]:
        assert UNKNOWN not in part.labels


def test_digits_leak_nothing_and_suffice_for_calibration():
    source = sources.digits()
    splits = split(protocols.digits(), source)
    check_no_leak(splits, source)
    assert splits.dropped == 0
    counts = {part.name: collections.Counter(np.maximum(part.labels, -2).tolist()) for part in each(splits)}
    assert counts["test"][UNKNOWN] == np.isin(source.labels, [8, 9]).sum() == 354
    # No threshold at FPR 10 % has 95 % confidence below 29 negatives: 0.9 ** 29 < 0.05 < 0.9 ** 28.
    assert 0.9**29 < 0.05 < 0.9**28
    assert counts["calibration"][NEGATIVE] == 72
    assert counts["test"][NEGATIVE] == 72
    for digit in range(6):  # Stratified: each class in its parts, to within one image.
        total = int((source.labels == digit).sum())
        for name, part in zip(NAMES, (0.5, 0.1, 0.2, 0.2), strict=True):
            assert abs(counts[name][digit] - part * total) <= 1


def test_images_stay_with_their_labels():
    source = made(101, "abcde")
    splits = split(Protocol(["c", "a"], ["b"], ["d"], others="ignored"), source)
    check_no_leak(splits, source)
    assert splits.dropped == 20
    for part in each(splits):
        examples = list(part.dataset().as_numpy_iterator())
        assert [example["labels"] for example in examples] == part.labels.tolist()
        for index, (example, origin) in enumerate(zip(examples, origins(part), strict=True)):
            label, number = example["labels"], int(example["image"][0, 0, 0])
            again = part.example(tf.constant(index, tf.int64))
            assert (int(again["image"][0, 0, 0]), int(again["labels"])) == (number, label)
            assert origin == f"made[{number}]"
            assert label == {0: 1, 1: NEGATIVE, 2: 0, 3: UNKNOWN}[number % 5]


def test_a_seed_gives_one_answer_and_test_images_stay():
    source = sources.digits()
    first, again, other = (split(protocols.digits(), source, seed=seed) for seed in (0, 0, 1))
    assert [origins(part) for part in each(first)] == [origins(part) for part in each(again)]
    assert origins(first.train) != origins(other.train)
    assert len(first.train) == len(other.train)
    less = split(protocols.digits(), source, calibration_fraction=0.1, validation_fraction=0.3)
    assert origins(less.test) == origins(first.test)
    swapped = split(Protocol(list("012367"), list("45"), list("89")), source)
    assert origins(swapped.test) == origins(first.test)


def test_given_sources_are_kept_and_their_unknowns_go_to_test():
    given = [made(40, name="train"), made(24, name="test"), made(16, name="val"), made(8, name="cal")]
    protocol = Protocol(["a", "b"], ["c"], ["d"])
    splits = split(protocol, *given)
    check_no_leak(splits, *given)
    assert [len(part) for part in each(splits)] == [30, 12, 6, 24 + 10 + 4 + 2]
    assert (splits.test.labels == UNKNOWN).sum() == 22
    only = split(protocol, *given, unknown_from_test_only=True)
    check_no_leak(only, *given)
    assert origins(only.test) == [f"test[{index}]" for index in range(24)]
    assert only.dropped == 16
    with pytest.raises(ValueError, match="needs a `test` source"):
        split(protocol, given[0], unknown_from_test_only=True)


def test_toy_protocol_on_real_files(shared):
    letters = dict(enumerate(string.ascii_lowercase, 1))
    path = shared / "data/nist_letters/nist_letters_28x28.npz"
    halves = {}
    for half, part in (("train", "train[:2000]"), ("test", "test[:1000]")):
        alphabet = sources.npz(path, f"x_{half}", f"y_{half}", class_names=letters, name=f"letters-{half}")
        halves[half] = sources.combine(sources.tfds("mnist", part, shared / "tfds"), alphabet)
    splits = split(protocols.toy(), halves["train"], halves["test"])
    check_no_leak(splits, *halves.values())
    assert (splits.test.labels == UNKNOWN).sum() == 2260
    assert (splits.test.labels >= 0).sum() == 1000
    assert splits.class_names == tuple("0123456789")
    assert "2,260" in splits.summary()
    assert str(splits.dropped) in splits.summary()


def test_cifar_plus_tests_on_a_class_that_training_lacks(shared):
    ten = {half: sources.tfds("cifar10", f"{half}[:600]", shared / "tfds") for half in ("train", "test")}
    hundred = sources.tfds("cifar100", "test", shared / "tfds")
    splits = split(protocols.cifar_plus(10, 2), ten["train"], sources.combine(ten["test"], hundred))
    check_no_leak(splits, ten["train"], ten["test"], hundred)
    assert (splits.test.labels == UNKNOWN).sum() == np.isin(
        hundred.labels, [8, 9, 49, 40, 73, 60, 48, 95, 30, 71]
    ).sum()
    assert splits.train.source.class_names != splits.test.source.class_names


def test_csv_protocol_with_a_file_for_each_split(shared, tmp_path):
    folder = shared / "data/tiny_imagenet_openset"
    given = {}
    for half, step in (("train", 40), ("val", 20), ("test", 60)):
        lines = (folder / f"p1_{half}.csv").read_text().split()[::step]
        with zipfile.ZipFile(folder / "tiny_imagenet_openset.zip") as archive:
            archive.extractall(tmp_path, [line.split(",")[0] for line in lines])
        (tmp_path / f"{half}.csv").write_text("\n".join(lines))
        given[half] = sources.csv(tmp_path / f"{half}.csv", class_names=map(str, range(6)))
    splits = split(sources.csv_protocol(*given.values()), given["train"], given["test"], given["val"])
    check_no_leak(splits, *given.values())
    assert origins(splits.validation) == list(given["val"].files)
    with pytest.raises(ValueError, match=r"files, such as .*JPEG, in both `train` and `test`"):
        split(sources.csv_protocol(given["train"]), given["train"], sources.concatenate(given["train"], given["val"]))


def test_errors():
    source, protocol = made(40), Protocol(["a", "b"], ["c"], ["d"])
    with pytest.raises(ValueError, match="one source in both `train` and `test`"):
        split(protocol, source, source)
    with pytest.raises(ValueError, match="lacks: 'z'"):
        split(Protocol(["a", "z"]), source)
    with pytest.raises(ValueError, match="No training image of known classes: z"):
        split(Protocol(["a", "z"], others="ignored"), source, made(8, "az"))
    with pytest.raises(ValueError, match="no role to classes that occur: c, d"):
        split(Protocol(["a", "b"]), source)
    sets = sources.arrays(np.zeros([4, 2, 2], "uint8"), np.eye(4, dtype=bool), "abcd")
    with pytest.raises(ValueError, match=r"one kind of annotation\. Received: train: class, test: classes"):
        split(protocol, source, sets)
    with pytest.raises(ValueError, match="`test_fraction` must lie"):
        split(protocol, source, test_fraction=1.5)
    with pytest.raises(ValueError, match="sum be below 1"):
        split(protocol, source, test_fraction=0.5, calibration_fraction=0.5, validation_fraction=0)


def test_a_part_may_be_empty():
    splits = split(
        Protocol(["a", "b"], ["c"], others="ignored"), made(40), validation_fraction=0, calibration_fraction=0
    )
    assert len(splits.validation) == len(splits.calibration) == 0
    assert list(splits.validation.dataset()) == []
    assert len(splits.train) + len(splits.test) == 30


def test_calibration_classes_never_train_or_watch_and_alone_calibrate():
    source = sources.digits()
    usual = split(protocols.digits(), source)
    splits = split(protocols.digits(), source, calibration_classes=("7",))
    check_no_leak(splits, source)
    classes = {part.name: set(part.source.labels[part.labels == NEGATIVE]) for part in each(splits)}
    assert classes == {"train": {6}, "validation": {6}, "calibration": {7}, "test": {6, 7}}
    assert origins(splits.test) == origins(usual.test)
    # A fifth of the 7s is test; the rest, 143 of 179, calibrates.
    assert (splits.calibration.labels == NEGATIVE).sum() == (source.labels == 7).sum() - 36 == 143
    assert (splits.train.labels >= 0).sum() == (usual.train.labels >= 0).sum()
    with pytest.raises(ValueError, match="must be negative classes"):
        split(protocols.digits(), source, calibration_classes=("3",))
    with pytest.raises(ValueError, match=r"did you mean \('7',\)"):
        split(protocols.digits(), source, calibration_classes="7")


def test_calibration_classes_leave_separately_given_sources_too():
    given = {name: made(40, "abcd", name) for name in NAMES}
    splits = split(Protocol(["a", "b"], ["c", "d"]), **given, calibration_classes=("d",))
    check_no_leak(splits, *given.values())
    shown = {part.name: {part.source.class_names[k] for k in part.source.labels} for part in each(splits)}
    assert shown == {"train": set("abc"), "validation": set("abc"), "calibration": set("abd"), "test": set("abcd")}
    assert (splits.calibration.labels == NEGATIVE).sum() == 30  # its own, and those of train and validation
    assert (splits.train.labels == NEGATIVE).sum() == 20  # its own, and those that do not calibrate


def sets(count, seed=0, groups=None, name="sets"):
    """Images with random sets of the classes a, b, c, n, u; pixels hold the image's number."""
    rng = np.random.default_rng(seed)
    images = np.arange(count, dtype="uint16")[:, None, None] * np.ones([2, 2], "uint16")
    return sources.arrays(images, rng.random([count, 5]) < 0.3, list("abcnu"), name=name, groups=groups)


def test_sets_that_show_the_unknown_are_tests_and_nothing_else():
    source, protocol = sets(200), Protocol({"x": ["b", "c"], "a": ["a"]}, ["n"], ["u"])
    splits = split(protocol, source)
    places = [set(origins(part)) for part in each(splits)]
    assert sum(map(len, places)) == len(set.union(*places)) == 200
    assert not any(part.shows_unknown.any() for part in each(splits)[:3])
    assert splits.test.shows_unknown.sum() == source.labels[:, 4].sum()
    present = {f"sets[{k}]": row for k, row in enumerate(source.labels)}
    for part in each(splits):
        for origin, row, known, unknown in zip(
            origins(part), part.multi_hot, part.shows_known, part.shows_unknown, strict=True
        ):
            a, b, c, _, u = present[origin]
            assert (row.tolist(), known, unknown) == ([b or c, a], a or b or c, u)
    example = next(splits.test.dataset().as_numpy_iterator())
    assert set(example) == {"image", "multi_hot"}
    np.testing.assert_array_equal(example["multi_hot"], splits.test.multi_hot[0])
    assert splits.train.labels is None
    assert str(splits.test.shows_unknown.sum()) in splits.summary()
    given = split(protocol, source, sets(50, 1, name="test"), unknown_from_test_only=True)
    assert given.dropped == source.labels[:, 4].sum()
    assert given.test.source.name == "test"
    moved = split(protocol, source, sets(50, 1, name="test"))
    assert len(moved.test) == 50 + source.labels[:, 4].sum()
    with pytest.raises(ValueError, match="for images with one class each"):
        split(protocol, source, calibration_classes=("n",))


@pytest.mark.parametrize("kind", ["class", "classes"])
def test_groups_stay_together(kind):
    groups = [f"video {k // 10}" for k in range(100)]
    images = np.zeros([100, 2, 2], "uint8")
    if kind == "class":
        source = sources.arrays(images, np.arange(100) % 4, list("abcd"), groups=groups)
    else:
        source = sources.arrays(images, np.eye(4, dtype=bool)[np.arange(100) % 4], list("abcd"), groups=groups)
    splits = split(Protocol(list("abcd")), source)
    own = [set(part.groups) for part in each(splits)]
    assert [len(found) for found in own] == [5, 1, 2, 2]
    assert len(set.union(*own)) == 10


def test_masks_have_other_labels_in_each_split():
    masks = np.array([[[0, 1], [2, 3]]] * 8)
    source = sources.arrays(np.zeros([8, 2, 2], "uint8"), masks=masks, class_names=list("anui"))
    for choice, label in (("ignored", -100), ("negative", -1)):
        protocol = Protocol(["a"], ["n"], ["u"], ["i"], unknown_in_training=choice)
        splits = split(protocol, source, validation_fraction=0.25, calibration_fraction=0.25)
        found = [next(part.dataset().as_numpy_iterator())["labels"].reshape(-1).tolist() for part in each(splits)]
        assert found == [[0, -1, label, -100], [0, -1, -100, -100], [0, -1, -100, -100], [0, -1, -2, -100]]
        assert [part.has_unknown for part in each(splits)] == [False, False, False, True]


def test_parts_of_two_sources_keep_their_images():
    one, other = made(40, "ab", "one"), made(40, "cd", "two", first=100)
    splits = split(Protocol(["a", "c"], ["b"], ["d"]), combine(one, other))
    check_no_leak(splits, one, other)
    for part in each(splits):
        for example, origin in zip(part.dataset().as_numpy_iterator(), origins(part), strict=True):
            number = int(example["image"][0, 0, 0])
            assert origin == (f"one[{number}]" if number < 100 else f"two[{number - 100}]")


def test_a_split_of_ones_own_reads_its_labels_from_the_protocol():
    part = Split("test", made(8), Protocol(["b"], ["a"], ["d"], others="ignored"))
    assert part.labels.tolist() == [NEGATIVE, 0, -100, UNKNOWN] * 2
    assert part.subset([1, 3]).labels.tolist() == [0, UNKNOWN]
