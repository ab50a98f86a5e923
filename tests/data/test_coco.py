"""COCO's annotations: drawn as COCO's own tools draw them, cropped, as sets of labels, and damaged."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras.data import Protocol, Split, protocols, sources, split


def read(source):
    return list(source.examples().as_numpy_iterator())


def polygon(*corners, size=(60, 60), **changes):
    """A COCO json of one image with one object."""
    item = {"id": 7, "image_id": 1, "category_id": 3, "segmentation": [list(corners)], "iscrowd": 0, **changes}
    image = {"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}
    return {"images": [image], "annotations": [item], "categories": [{"id": 3, "name": "cat"}]}


@pytest.fixture
def one(tmp_path):
    """Function from a json's content to the arguments of `coco`."""
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros([60, 60, 3], "uint8")).save(tmp_path / "images/a.png")

    def write(content):
        (tmp_path / "one.json").write_text(json.dumps(content))
        return tmp_path / "one.json", tmp_path / "images"

    return write


def test_a_box_has_the_pixels_of_coco_s_tools(one):
    # From 10 to 20 is ten pixels, 10 to 19: pycocotools' raster; drawing corners included gives 121.
    mask = read(sources.coco(*one(polygon(10, 10, 20, 10, 20, 20, 10, 20))))[0]["mask"]
    expected = np.zeros([60, 60], int)
    expected[10:20, 10:20] = 1
    np.testing.assert_array_equal(mask, expected)


def test_polygons_and_run_lengths_equal_pycocotools(one):
    tool = pytest.importorskip("pycocotools.mask")
    angles = np.linspace(0, 2 * np.pi, 40)[:-1]
    circle = (30 + np.stack([4 * np.cos(angles), 4 * np.sin(angles)], 1)).reshape(-1).tolist()
    expected = tool.decode(tool.merge(tool.frPyObjects([circle], 60, 60)))
    mask = read(sources.coco(*one(polygon(*circle))))[0]["mask"]
    np.testing.assert_array_equal(mask, expected)
    packed = tool.encode(np.asfortranarray(expected))
    for counts in (
        packed["counts"].decode(),
        np.diff(np.flatnonzero(np.diff(expected.T.reshape(-1), prepend=2, append=2))),
    ):
        runs = counts if isinstance(counts, str) else counts.tolist()
        item = {"segmentation": {"size": [60, 60], "counts": runs}, "iscrowd": 1}
        crowd = read(sources.coco(*one(polygon(**item))))[0]["mask"]
        np.testing.assert_array_equal(crowd, expected * 255)


def test_a_missing_tool_is_named(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    files = one(polygon(10, 10, 20, 10, 20, 20, 10, 20))
    with pytest.raises(ImportError, match=r"cplus1-keras\[coco\]"):
        sources.coco(*files)
    assert len(sources.coco_labels(*files)) == 1


def test_coco_masks_are_close_to_the_shipped_ones(coco_files):
    # The shipped ones were drawn with PIL, one pixel larger.
    source = sources.coco_mini(coco_files, "val")
    assert len(source) == 66
    equal, crowds = [], 0
    for name, example in zip(source.ids, read(source), strict=True):
        shipped = np.asarray(Image.open(coco_files / f"val_masks/{name}.png"))
        equal.append((example["mask"] == shipped).mean())
        crowds += (shipped == 255).any()
    assert np.mean(equal) > 0.98
    assert crowds > 0


def test_coco_layers_and_files(layouts, tmp_path):
    root = layouts.coco(tmp_path)
    source = sources.coco(root / "instances.json", root / "images")
    mask = read(source)[0]["mask"]
    assert (mask[6, 5], mask[10, 10], mask[10, 20], mask[0, 0]) == (1, 2, 1, 0)
    assert (mask[:, -2:] == 255).all()
    names = sources.coco_masks(root / "instances.json", root / "images", root / "masks")
    assert names == {0: "background", 1: "person", 2: "dog", 255: "crowd"}
    written = sources.folder(root / "images", root / "masks", names=names)
    assert (written.ids, written.names) == (source.ids, source.names)
    np.testing.assert_array_equal(read(written)[0]["mask"], mask)


def test_coco_crops_hold_their_object_and_stay_with_their_image(layouts, tmp_path):
    root = layouts.coco(tmp_path, images=10)
    files = root / "instances.json", root / "images"
    source = sources.coco_objects(*files, ["dog"], context=0.5, min_side=6)
    assert (len(source), source.groups[1], source.ids[1]) == (10, "000000000001", "000000000001#4")
    crop, whole = read(source)[1], read(sources.coco(*files))[1]
    np.testing.assert_array_equal(crop["image"], whole["image"][5:16, 5:17])
    np.testing.assert_array_equal(crop["mask"], whole["mask"][5:16, 5:17])
    assert len(sources.coco_objects(*files, min_side=7)) == 10
    with pytest.raises(ValueError, match="no object"):
        sources.coco_objects(*files, min_side=1000)
    with pytest.raises(ValueError, match=r"categories person, dog\. Received in `classes`: cat"):
        sources.coco_objects(*files, ["dog", "cat"])
    protocol = Protocol(["person", "dog"], ["background"], ignored=["crowd"])
    parts = split(protocol, sources.coco_objects(*files, min_side=1), calibration_fraction=0.3, test_fraction=0.3)
    groups = [set(part.groups) for part in (parts.train, parts.calibration, parts.test)]
    assert [len(group) for group in groups] == [4, 3, 3]
    assert len(set.union(*groups)) == 10
    assert len(parts.train) == 8


def test_sets_of_labels_are_the_categories_of_the_objects(coco_files):
    source = sources.coco_mini(coco_files, "val", kind="classes")
    content = json.loads((coco_files / "annotations/instances_val.json").read_text())
    names = {item["id"]: item["name"] for item in content["categories"]}
    for record, row in zip(sorted(content["images"], key=lambda item: item["id"]), source.labels, strict=True):
        own = {names[item["category_id"]] for item in content["annotations"] if item["image_id"] == record["id"]}
        assert {source.class_names[k] for k in np.flatnonzero(row)} == own
    part = Split("test", source, protocols.coco_mini(masks=False))
    chairs = [source.class_names.index(name) for name in part.protocol.unknown]
    np.testing.assert_array_equal(part.shows_unknown, source.labels[:, chairs].any(1))
    np.testing.assert_array_equal(part.multi_hot[:, 0], source.labels[:, source.class_names.index("person")])
    with pytest.raises(ValueError, match="`kind` is one of mask, objects, classes, boxes"):
        sources.coco_mini(coco_files, "val", kind="sets")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_id": 4}, "object 7 has category 4, which the file does not list"),
        ({"image_id": 2}, "object 7 is in image 2, which the file does not list"),
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, r"object 7 has .*run lengths are of an image \[5, 5\]"),
        ({"segmentation": {"size": [60, 60], "counts": [1, 2]}}, "object 7 has .*add up to 3, not to 60 x 60"),
        ({"segmentation": None}, "object 7 has no valid segmentation"),
    ],
)
def test_bad_objects_are_named(one, change, message):
    with pytest.raises(ValueError, match=rf"one\.json: {message}"):
        sources.coco(*one(polygon(1, 1, 9, 1, 9, 9, **change)))


def test_what_can_be_missing_and_what_not(one):
    content = polygon(10, 10, 20, 10, 20, 20, 10, 20)  # has neither area nor bbox
    assert read(sources.coco_objects(*one(content), context=0, min_side=5))[0]["mask"].tolist() == [[1] * 10] * 10
    del content["images"][0]["height"]
    with pytest.raises(ValueError, match=r"image a\.png: needs `height` and `width`"):
        sources.coco(*one(content))
    assert len(sources.coco_labels(*one(content))) == 1
    del content["annotations"][0]["category_id"]
    with pytest.raises(ValueError, match="object 7 needs `image_id` and `category_id`"):
        sources.coco_labels(*one(content))


def test_files_that_do_not_fit_the_json(layouts, tmp_path):
    root = layouts.coco(tmp_path)
    layouts.write_image(root / "images/000000000002.jpg", np.zeros([8, 9, 3], "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"000000000002\.jpg is 9 x 8 .* says 40 x 32"):
        read(sources.coco(root / "instances.json", root / "images"))
    (root / "images/000000000003.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 listed names have no image\. The first: .*000000000003\.jpg"):
        sources.coco(root / "instances.json", root / "images")
    content = json.loads((root / "instances.json").read_text())
    (root / "instances.json").write_text(json.dumps({"images": content["images"]}))
    with pytest.raises(ValueError, match=r"instances\.json is no COCO json"):
        sources.coco(root / "instances.json", root / "images")
