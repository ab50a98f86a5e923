"""Protocols: labels, errors, JSON, and the shipped lists against the fixed facts of their publications."""

import csv
import json
import subprocess
import sys

import pytest

from cplus1_keras.data import protocols
from cplus1_keras.data.protocols import Protocol
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN


def test_labels_by_name_and_by_index_agree():
    names = ["car", "cat", "dog", "owl", "tree"]
    by_name = Protocol(known=["dog", "cat"], negative=["car"], unknown=["owl"])
    by_index = Protocol(known=[2, 1], negative=[0], unknown=[3])
    assert by_name.labels(names) == by_index.labels(names) == (NEGATIVE, 1, 0, UNKNOWN, IGNORE)
    assert by_name.known_names(names) == by_index.known_names(names) == ("dog", "cat")
    assert by_name.num_classes == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"known": ["a"], "negative": ["a"]}, ValueError, "in `known` and in `negative`"),
        ({"known": ["a"], "unknown": ["b", "b"]}, ValueError, "in `unknown` and in `unknown`"),
        ({"known": []}, ValueError, "at least one class"),
        ({"known": ["a"], "negative": [1]}, TypeError, "all by name"),
        ({"known": "abc"}, TypeError, r"did you mean \('abc',\)"),
        ({"known": [True]}, TypeError, "name .str. or an index .int."),
        ({"known": [1.0]}, TypeError, "name .str. or an index .int."),
        ({"known": [-1]}, ValueError, ">= 0"),
    ],
)
def test_bad_protocols_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Protocol(**arguments)


def test_a_class_that_the_source_lacks_is_named_with_its_neighbours():
    with pytest.raises(ValueError, match=r"'automobil' \(did you mean 'automobile'\?\)"):
        Protocol(known=["automobil"], name="mine").labels(["automobile", "truck"])
    with pytest.raises(ValueError, match=r"indices up to 7, but the source has 2 classes"):
        Protocol(known=[0], unknown=[7]).labels(["a", "b"])
    assert Protocol(known=["a"], unknown=["z"]).labels(["a", "b"], partial=True) == (0, IGNORE)


def test_json_round_trip(tmp_path):
    for protocol in (protocols.toy(), Protocol(known=(3, 1), unknown=(2,), name="índices")):
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


def test_no_numpy_and_no_tensorflow_is_imported():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'tensorflow', 'keras']));"
        "from cplus1_keras.data import protocols; print(protocols.imagenet(1).num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # The package itself may need Keras; then this cannot be asked.
    if "import of keras halted" in done.stderr or "import of numpy halted" in done.stderr:
        assert "cplus1_keras/data" not in done.stderr
        return
    assert done.stdout.strip() == "116", done.stderr


@pytest.mark.parametrize("split", range(5))
def test_cifar_splits_have_the_sizes_of_the_field(split):
    ten = protocols.cifar10(split)
    assert (len(ten.known), len(ten.negative), len(ten.unknown)) == (6, 0, 4)
    assert len(set(ten.classes)) == 10
    digits = protocols.mnist(split)
    assert sorted(digits.classes) == list("0123456789")
    some = protocols.cifar10(split, negatives=2)
    assert some.known == ten.known
    assert some.negative + some.unknown == ten.unknown
    narrow, wide = protocols.cifar_plus(10, split), protocols.cifar_plus(50, split)
    assert narrow.known == wide.known
    assert (len(narrow.known), len(narrow.unknown), len(wide.unknown)) == (4, 10, 50)
    # In the publication the 10 are a part of the 50; a copying slip would break this.
    assert set(narrow.unknown) < set(wide.unknown)
    ours = protocols.cifar_plus(10, split, negatives=True)
    assert set(ours.negative) == set(wide.unknown) - set(narrow.unknown)
    assert ours.unknown == narrow.unknown


def test_cifar_lists_name_the_published_classes():
    # Known vehicles and animals of ARPL's first splits, by hand from its indices 0 6 4 9 1 7 and 4 7 9 1.
    assert protocols.cifar10(0).known == ("airplane", "frog", "deer", "truck", "automobile", "horse")
    assert protocols.cifar_plus(50).known == ("deer", "horse", "truck", "automobile")
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
    assert set(protocol.classes) <= set(protocols.imagenet_names())


def test_imagenet_equals_the_recomputed_lists(shared):
    with open(shared / "data/imagenet_protocols/openset_imagenet_classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for number in (1, 2, 3):
        protocol = protocols.imagenet(number)
        own = [row for row in rows if row["protocol"] == f"P{number}"]
        for role in ("known", "negative", "unknown"):
            assert list(getattr(protocol, role)) == [row["wnid"] for row in own if row["role"] == role]
        known = {row["wnid"]: int(row["label"]) for row in own if row["role"] == "known"}
        assert dict(zip(protocol.known, protocol.labels(protocol.known, partial=True), strict=True)) == known


def test_toy_equals_the_thesis_code(shared):
    theirs = json.loads((shared / "data/toy_protocol.json").read_text())
    ours = protocols.toy()
    assert list(ours.negative) == theirs["negative_letters"]
    assert list(ours.unknown) == theirs["unknown_letters"]
    assert ours.known == tuple(map(str, theirs["known"]))


def test_fashion_names_are_those_of_tfds(shared):
    names = (shared / "tfds/fashion_mnist/3.0.1/label.labels.txt").read_text().strip().split("\n")
    assert protocols.fashion_mnist().labels(names) == (0, 1, 2, 3, 4, 5, NEGATIVE, NEGATIVE, UNKNOWN, UNKNOWN)
