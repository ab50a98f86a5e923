"""Protocols over mask values: roles, what each split is told, JSON, the shipped lists."""

import json
import subprocess
import sys

import pytest

from cplus1_keras.data.segmentation import protocols
from cplus1_keras.data.segmentation.protocol import SegmentationProtocol
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

SHIPPED = ["voc", "context", "lip", "camvid", "camvid_open", "coco", "coco_mini", "cityscapes", "oxford_iiit_pet"]


def merged(**changes):
    fields = {"classes": {"pet": (17, 18), "person": 1, "car": 3}, "background": (0, 2), "ignored": (255,)}
    return SegmentationProtocol(**(fields | changes))


def test_known_classes_keep_their_order_and_merge_values():
    protocol = merged()
    assert protocol.class_names == ("pet", "person", "car")
    expected = {17: 0, 18: 0, 1: 1, 3: 2, 0: NEGATIVE, 2: NEGATIVE, 255: IGNORE}
    assert protocol.training_labels() == protocol.evaluation_labels() == expected


@pytest.mark.parametrize(("choice", "label"), [("ignore", IGNORE), ("background", NEGATIVE)])
def test_unknown_classes_are_held_out_and_close_the_gap(choice, label):
    protocol = merged(unknown=("person",), unknown_in_training=choice)
    assert protocol.class_names == ("pet", "car")
    assert (protocol.training_labels()[1], protocol.training_labels()[3]) == (label, 1)
    assert protocol.calibration_labels()[1] == IGNORE
    assert protocol.evaluation_labels() == protocol.training_labels() | {1: UNKNOWN}


@pytest.mark.parametrize("name", SHIPPED)
def test_unknown_never_is_a_label_of_training(name):
    protocol = getattr(protocols, name)()
    for labels in (protocol.training_labels(), protocol.calibration_labels()):
        assert UNKNOWN not in labels.values()
        assert set(range(protocol.num_classes)) <= set(labels.values())
    assert (UNKNOWN in protocol.evaluation_labels().values()) == bool(protocol.unknown)


@pytest.mark.parametrize("name", SHIPPED)
def test_json_round_trip(name, tmp_path):
    protocol = getattr(protocols, name)()
    protocol.save(tmp_path / "p.json")
    assert SegmentationProtocol.load(tmp_path / "p.json") == protocol


def test_shipped_counts():
    counts = {name: getattr(protocols, name)().num_classes for name in SHIPPED}
    assert counts == {
        "voc": 20, "context": 59, "lip": 19, "camvid": 11, "camvid_open": 8, "coco": 80, "coco_mini": 4,
        "cityscapes": 19, "oxford_iiit_pet": 1,
    }  # fmt: skip
    assert not protocols.camvid().has_background
    assert all(
        getattr(protocols, name)().has_background for name in ("voc", "context", "lip", "camvid_open", "coco_mini")
    )
    assert merged(background=(), unknown=("car",), unknown_in_training="background").has_background


def test_names_of_the_real_data_sets(shared):
    camvid = json.loads((shared / "data/camvid_seg/class_names.json").read_text())
    values = {value: name for name, (value,) in protocols.camvid().classes}
    assert {str(value): name for value, name in values.items()} == {
        value: {"SignSymbol": "sign"}.get(name, name.lower()) for value, name in camvid.items() if value != "11"
    }
    coco = json.loads((shared / "data/coco_mini/mask_class_names.json").read_text())
    assert {str(value): name for name, (value,) in protocols.coco().classes} == {
        value: name for value, name in coco.items() if value not in ("0", "255")
    }


def test_coco_mini_merges_by_supercategory(coco_files):
    categories = json.loads((coco_files / "annotations/instances_val.json").read_text())["categories"]
    group = {item["name"]: item["supercategory"] for item in categories}
    name_of = {value: name for name, (value,) in protocols.coco().classes}
    for name, values in protocols.coco_mini().classes:
        assert {group[name_of[value]] for value in values} == {"kitchen" if name == "tableware" else name}
    assert set(protocols.coco_mini().evaluation_labels()) == {*range(81), 255}
    assert set(protocols.coco_mini().class_values) < set(range(1, 81))


def test_lip_mirror_swaps_pairs_only():
    protocol = protocols.lip()
    mirror = protocol.mirror()
    swapped = {protocol.class_names[k]: protocol.class_names[m] for k, m in enumerate(mirror) if k != m}
    assert swapped == {
        f"{a} {part}": f"{b} {part}"
        for part in ("arm", "leg", "shoe")
        for a, b in (("left", "right"), ("right", "left"))
    }
    assert [mirror[k] for k in mirror] == list(range(19))
    without = protocol.with_unknown("left arm", "right arm").mirror()
    assert without[13:] == (14, 13, 16, 15)
    seen = protocol.with_unknown("hat", in_training="background")
    assert seen.with_unknown("skirt").unknown_in_training == "background"
    assert protocol.with_background("left arm", "right arm").num_classes == 17


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"background": (1,)}, ValueError, "1 in class 'person' and in `background`"),
        ({"unknown": ("dog",)}, ValueError, "`unknown` names classes that `classes` lacks: 'dog'"),
        ({"unknown": ("pet", "person", "car")}, ValueError, "At least one class must be known"),
        ({"unknown": "pet"}, TypeError, "did you mean"),
        ({"unknown_in_training": "drop"}, ValueError, '"ignore" or "background"'),
        ({"ignored": (-1,)}, ValueError, "must lie in 0 to 65535"),
        ({"ignored": (0.5,)}, TypeError, "is an integer"),
        ({"classes": {"pet": ()}}, ValueError, "at least one mask value"),
        ({"classes": [("a", 1), ("a", 3)]}, ValueError, "more than once: a"),
        ({"mirrored": [("pet", "person")], "unknown": ("pet",)}, ValueError, "pairs two classes of one role"),
        ({"mirrored": [("pet", "person"), ("pet", "car")]}, ValueError, "one pair"),
    ],
)
def test_errors_say_what_came(change, error, message):
    with pytest.raises(error, match=message):
        merged(**change)


def test_errors_of_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="No protocol file"):
        SegmentationProtocol.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"known": []}')
    with pytest.raises(ValueError, match=r"bad\.json.*Received: \['known'\]"):
        SegmentationProtocol.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="lacks: 'moon'"):
        merged().with_background("moon")


def test_protocols_need_neither_numpy_nor_tensorflow():
    code = (
        "import sys, importlib.util as u, types\n"
        "for name in ('tensorflow', 'keras', 'numpy'): sys.modules[name] = None\n"
        "root = types.ModuleType('cplus1_keras'); root.__path__ = [sys.argv[1]]; sys.modules['cplus1_keras'] = root\n"
        "data = types.ModuleType('cplus1_keras.data'); data.__path__ = [sys.argv[1] + '/data']\n"
        "sys.modules['cplus1_keras.data'] = data\n"
        "from cplus1_keras.data.segmentation import protocols\n"
        "print(protocols.voc().num_classes)"
    )
    import cplus1_keras

    run = subprocess.run([sys.executable, "-c", code, cplus1_keras.__path__[0]], capture_output=True, text=True)
    assert run.stdout.strip() == "20", run.stderr
