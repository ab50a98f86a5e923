"""Protocols: labels, errors, JSON, and the shipped lists against the fixed facts of their publications."""

import csv
import json

import numpy as np
import pytest

from cplus1_keras.data import Protocol, protocols
from cplus1_keras.data.names import LIP_MIRRORED, mask_names
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

MASKS = ["voc", "context", "lip", "camvid", "camvid_open", "coco", "coco_mini", "cityscapes", "oxford_iiit_pet"]


def merged(**changes):
    fields = {"known": {"pet": ("cat", "dog"), "person": ("person",), "car": ("car",)}, "negative": ("tree",)}
    return Protocol(**(fields | {"ignored": ("outline",)} | changes))


NAMES = {17: "cat", 18: "dog", 1: "person", 3: "car", 0: "tree", 255: "outline"}


def test_labels_follow_the_order_of_the_protocol():
    protocol = Protocol(known=["dog", "cat"], negative=["car"], unknown=["owl"], others="ignored")
    assert protocol.labels(["car", "cat", "dog", "owl", "tree"]) == (NEGATIVE, 1, 0, UNKNOWN, IGNORE)
    assert (protocol.class_names, protocol.num_classes) == (("dog", "cat"), 2)


@pytest.mark.parametrize(("others", "label"), [("error", None), ("ignored", IGNORE), ("negative", NEGATIVE)])
def test_others_get_their_role_and_values_without_one_are_absent(others, label):
    protocol = Protocol(["a"], ["b"], others=others)
    assert protocol.labels(["a", "b", "c"]) == (0, NEGATIVE, label)
    table = protocol.table({4: "a", 9: "b", 1: "c", 2: "a"})  # two values of one name
    assert table == {4: 0, 9: NEGATIVE, 2: 0} | ({} if label is None else {1: label})


def test_known_classes_keep_their_order_and_merge_values():
    protocol = merged()
    assert protocol.class_names == ("pet", "person", "car")
    expected = {17: 0, 18: 0, 1: 1, 3: 2, 0: NEGATIVE, 255: IGNORE}
    assert all(protocol.table(NAMES, part) == expected for part in ("train", "validation", "calibration", "test"))


@pytest.mark.parametrize(("choice", "label"), [("ignored", IGNORE), ("negative", NEGATIVE)])
def test_unknown_classes_are_held_out_and_close_the_gap(choice, label):
    protocol = merged().hold_out("person", unknown_in_training=choice)
    assert protocol.class_names == ("pet", "car")
    table = {part: protocol.table(NAMES, part) for part in ("train", "validation", "calibration", "test")}
    assert (table["train"][1], table["train"][3]) == (label, 1)
    assert table["calibration"][1] == table["validation"][1] == IGNORE
    assert table["test"] == table["train"] | {1: UNKNOWN}
    assert protocol.hold_out("car").unknown_in_training == choice
    assert protocol.hold_out("pet").unknown == ("person", "cat", "dog")


def test_multi_hot_by_hand():
    protocol = merged(unknown=("owl",), others="ignored")
    names = ["dog", "owl", "car", "cat", "tree", "person", "kite"]
    #                    dog owl car cat tree person kite
    present = np.array([[1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0]])
    hot, known, unknown = protocol.multi_hot(present, names)
    assert hot.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]  # pet, person, car
    assert hot.dtype == np.int32
    assert known.tolist() == [True, True, False, False]
    assert unknown.tolist() == [False, True, False, True]
    annotated = np.ones_like(present)
    annotated[:, [0, 5]] = 0  # nobody looked for dogs and persons
    annotated[0, 0] = 1
    hot, *_ = protocol.multi_hot(present, names, annotated)
    assert hot.tolist() == [[1, IGNORE, 0], [1, IGNORE, 0], [IGNORE, IGNORE, 0], [IGNORE, IGNORE, 0]]
    with pytest.raises(ValueError, match="no role to classes that occur: kite"):
        merged(unknown=("owl",)).multi_hot(present, names)


def test_mirror_swaps_pairs_only():
    protocol, pairs = protocols.lip(), LIP_MIRRORED
    mirror = protocol.mirror(pairs)
    swapped = {protocol.class_names[k]: protocol.class_names[m] for k, m in enumerate(mirror) if k != m}
    assert swapped == {
        f"{a} {part}": f"{b} {part}"
        for part in ("arm", "leg", "shoe")
        for a, b in (("left", "right"), ("right", "left"))
    }
    assert [mirror[k] for k in mirror] == list(range(19))
    assert protocol.hold_out("left arm", "right arm").mirror(pairs)[13:] == (14, 13, 16, 15)
    assert protocol.as_negative("left arm", "right arm").num_classes == 17
    both = Protocol({"arm": ["left arm", "right arm"], "hat": ["hat"]})
    assert both.mirror(pairs) == (0, 1)
    for half in (protocol.hold_out("left arm"), protocol.as_negative("right arm"), Protocol(["left arm", "hat"])):
        with pytest.raises(ValueError, match="hold out both, or merge both into one"):
            half.mirror(pairs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"known": ["a"], "negative": ["a"]}, ValueError, "in `known` and in `negative`"),
        ({"known": {"x": ["a", "b"]}, "ignored": ["b"]}, ValueError, "in `known` and in `ignored`"),
        ({"known": ["a"], "unknown": ["b", "b"]}, ValueError, "in `unknown` and in `unknown`"),
        (
            {"known": [("a", ["b"]), ("a", ["c"])]},
            ValueError,
            r"differ from each other.*Received: \['a', 'a'\] among 2 names",
        ),
        ({"known": []}, ValueError, "at least one class"),
        ({"known": ["a"], "negative": [1]}, TypeError, "is a name"),
        ({"known": "abc"}, TypeError, r"did you mean \('abc',\)"),
        ({"known": ["a"], "unknown": "abc"}, TypeError, r"did you mean \('abc',\)"),
        ({"known": [True]}, TypeError, "a name or"),
        ({"known": {"a": ()}}, TypeError, "a name or"),
        ({"known": ["a", "unknown"]}, ValueError, "the name of what is rejected. Received: .'unknown'"),
        ({"known": ["a"], "unknown_in_training": "drop"}, ValueError, "`unknown_in_training` is one of ignored, neg"),
        (
            {"known": ["a"], "negative": ["n"], "unknown": ["b"], "far": ["b", "n", "a"]},
            ValueError,
            r"in `far` and not in `unknown`: \['n', 'a'\]",
        ),
        ({"known": ["a"], "unknown": ["b"], "far": "b"}, TypeError, r"`far`.*did you mean \('b',\)"),
        ({"known": ["a"], "others": "known"}, ValueError, "`others` is one of error, ignored, negative"),
    ],
)
def test_bad_protocols_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Protocol(**arguments)


def test_a_class_that_the_source_lacks_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match=r"'automobil' \(did you mean 'automobile'\?\)"):
        Protocol(known=["automobil"], name="mine").labels(["automobile", "truck"])
    with pytest.raises(ValueError, match="lacks: 'moon'"):
        merged().as_negative("moon")
    with pytest.raises(ValueError, match="`part` is one of train"):
        merged().labels(NAMES.values(), "tset")
    assert Protocol(known=["a"], unknown=["z"]).labels(["a", "b"], partial=True) == (0, None)


def test_json_round_trip(tmp_path):
    own = Protocol(["b"], name="índices"), Protocol(["b"], unknown=["c", "d"], far=["d"])
    for protocol in (*(getattr(protocols, name)() for name in MASKS), protocols.toy(), *own):
        path = tmp_path / "protocol.json"
        protocol.save(path)
        assert Protocol.load(path) == protocol
        assert Protocol.from_json(protocol.to_json()) == protocol


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        Protocol.load(tmp_path / "absent.json")
    path = tmp_path / "p.json"
    for text in ("{", "[]", '{"negative": ["a"]}', '{"known": ["a"], "negatives": ["b"]}', '{"known": "a"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"p\.json"):
            Protocol.load(path)


@pytest.mark.parametrize("split", range(5))
def test_cifar_splits_have_the_sizes_of_the_field(split):
    ten = protocols.cifar10(split)
    assert (ten.num_classes, len(ten.negative), len(ten.unknown)) == (6, 0, 4)
    assert len({*ten.class_names, *ten.unknown}) == 10
    digits = protocols.mnist(split)
    assert sorted(digits.class_names + digits.unknown) == list("0123456789")
    some = protocols.cifar10(split, negatives=2)
    assert some.known == ten.known
    assert some.negative + some.unknown == ten.unknown
    narrow, wide = protocols.cifar_plus(10, split), protocols.cifar_plus(50, split)
    assert narrow.known == wide.known
    assert (narrow.num_classes, len(narrow.unknown), len(wide.unknown)) == (4, 10, 50)
    # In the publication the 10 are a part of the 50; a copying slip would break this.
    assert set(narrow.unknown) < set(wide.unknown)
    ours = protocols.cifar_plus(10, split, negatives=True)
    assert set(ours.negative) == set(wide.unknown) - set(narrow.unknown)
    assert ours.unknown == narrow.unknown


def test_cifar_lists_name_the_published_classes():
    # Known vehicles and animals of ARPL's first splits, by hand from its indices 0 6 4 9 1 7 and 4 7 9 1.
    assert protocols.cifar10(0).class_names == ("airplane", "frog", "deer", "truck", "automobile", "horse")
    assert protocols.cifar_plus(50).class_names == ("deer", "horse", "truck", "automobile")
    # CIFAR-100: 0 apple, 1 aquarium_fish, 8 bicycle, 9 bottle, 71 sea.
    assert {"apple", "aquarium_fish", "bicycle", "bottle", "sea"} <= set(protocols.cifar_plus(10).unknown)


def test_bad_splits_are_refused():
    for call in (
        lambda: protocols.cifar10(5),
        lambda: protocols.cifar10(0, negatives=4),
        lambda: protocols.cifar_plus(20),
        lambda: protocols.cifar_plus(50, negatives=True),
        lambda: protocols.imagenet("P1"),
    ):
        with pytest.raises(ValueError, match="Received"):
            call()


@pytest.mark.parametrize(("number", "sizes"), [(1, (116, 67, 166)), (2, (30, 31, 55)), (3, (151, 97, 164))])
def test_imagenet_has_the_published_sizes(number, sizes):
    protocol = protocols.imagenet(number)
    assert tuple(map(len, (protocol.known, protocol.negative, protocol.unknown))) == sizes
    everything = {*protocol.class_names, *protocol.negative, *protocol.unknown}
    assert everything <= set(protocols.imagenet_names())
    assert len(everything) == sum(sizes)


def test_imagenet_equals_the_recomputed_lists(shared):
    with open(shared / "data/imagenet_protocols/openset_imagenet_classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for number in (1, 2, 3):
        protocol = protocols.imagenet(number)
        own = [row for row in rows if row["protocol"] == f"P{number}"]
        for role, field in (("known", "class_names"), ("negative", "negative"), ("unknown", "unknown")):
            assert list(getattr(protocol, field)) == [row["wnid"] for row in own if row["role"] == role]
        known = {row["wnid"]: int(row["label"]) for row in own if row["role"] == "known"}
        labels = protocol.labels(protocol.class_names, partial=True)
        assert dict(zip(protocol.class_names, labels, strict=True)) == known


def test_toy_equals_the_thesis_code(shared):
    theirs = json.loads((shared / "data/toy_protocol.json").read_text())
    ours = protocols.toy()
    assert list(ours.negative) == theirs["negative_letters"]
    assert list(ours.unknown) == theirs["unknown_letters"]
    assert ours.class_names == tuple(map(str, theirs["known"]))


def test_fashion_names_are_those_of_tfds(shared):
    names = (shared / "tfds/fashion_mnist/3.0.1/label.labels.txt").read_text().strip().split("\n")
    assert protocols.fashion_mnist().labels(names) == (0, 1, 2, 3, 4, 5, NEGATIVE, NEGATIVE, UNKNOWN, UNKNOWN)


def values(name):
    return mask_names({"camvid_open": "camvid", "coco_mini": "coco"}.get(name, name))


@pytest.mark.parametrize("name", MASKS)
def test_unknown_never_is_a_label_of_training(name):
    protocol = getattr(protocols, name)()
    for part in ("train", "validation", "calibration"):
        labels = protocol.table(values(name), part)
        assert UNKNOWN not in labels.values()
        assert set(range(protocol.num_classes)) <= set(labels.values())
        assert set(labels) == set(values(name))
    assert (UNKNOWN in protocol.table(values(name)).values()) == bool(protocol.unknown)


def test_shipped_counts_and_fixed_values():
    counts = {name: getattr(protocols, name)().num_classes for name in MASKS}
    assert counts == {
        "voc": 20, "context": 59, "lip": 19, "camvid": 11, "camvid_open": 8, "coco": 80, "coco_mini": 4,
        "cityscapes": 19, "oxford_iiit_pet": 1,
    }  # fmt: skip
    assert [name for name in MASKS if not getattr(protocols, name)().has_negatives] == ["camvid", "cityscapes"]
    assert protocols.camvid().hold_out("car", unknown_in_training="negative").has_negatives
    assert protocols.voc().table(values("voc")) == {0: NEGATIVE, **{k: k - 1 for k in range(1, 21)}, 255: IGNORE}
    assert protocols.camvid().table(values("camvid")) == {**{k: k for k in range(11)}, 11: IGNORE}
    # The ids of the benchmark's 19 classes, from the data set's labels.py.
    ids = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    expected = dict.fromkeys((*range(34), 255), IGNORE) | {value: label for label, value in enumerate(ids)}
    assert protocols.cityscapes().table(values("cityscapes")) == expected
    assert protocols.oxford_iiit_pet().table(values("oxford_iiit_pet")) == {1: 0, 2: NEGATIVE, 3: IGNORE}


def test_names_of_the_real_data_sets(shared):
    camvid = json.loads((shared / "data/camvid_seg/class_names.json").read_text())
    assert {str(value): name for value, name in values("camvid").items() if value != 11} == {
        value: {"SignSymbol": "sign"}.get(name, name.lower()) for value, name in camvid.items() if value != "11"
    }
    coco = json.loads((shared / "data/coco_mini/mask_class_names.json").read_text())
    assert {str(value): name for value, name in values("coco").items()} == coco | {"255": "crowd"}


def test_coco_mini_merges_by_supercategory(coco_files):
    categories = json.loads((coco_files / "annotations/instances_val.json").read_text())["categories"]
    group = {item["name"]: item["supercategory"] for item in categories}
    protocol = protocols.coco_mini()
    for name, members in (*protocol.known, ("furniture", protocol.unknown)):
        wanted = {"tableware": "kitchen"}.get(name, name)
        assert [item for item in members if group[item] != wanted] == []
    assert protocols.coco_mini(masks=False).labels(protocols.coco().class_names).count(UNKNOWN) == 6
    assert set(protocol.table(values("coco"))) == {*range(81), 255}
