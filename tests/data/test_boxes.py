"""Readers of boxes against the files themselves, and what happens to bad boxes."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras.data import Split, protocols, sources
from cplus1_keras.data.boxes import collect, concatenate
from cplus1_keras.labels import IGNORE

GREY = np.full([8, 10, 3], 90, "uint8")


def objects(source):
    """[(image, corners, class name, crowd)] of a source."""
    rows = source.boxes
    return [
        (int(image), tuple(corners.tolist()), source.class_names[value], bool(crowd))
        for image, corners, value, crowd in zip(rows.images, rows.corners, rows.values, rows.crowd, strict=True)
    ]


def voc(root, *items, size=(10, 8), name="a", image=GREY):
    """VOC's layout with one image; items are (name, corners, difficult) as the xml file has them."""
    text = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for label, box, difficult in items
    )
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    head = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    (root / f"Annotations/{name}.xml").write_text(f"<annotation>{head}{text}</annotation>")
    (root / "ImageSets/Main/train.txt").write_text(f"{name}\n")
    Image.fromarray(image).save(root / f"JPEGImages/{name}.jpg")
    return root


def coco(root, *items, image=None, categories=((3, "cat"), (5, "dog")), **record):
    """A COCO json with one image; items are dicts."""
    (root / "images").mkdir(exist_ok=True)
    Image.fromarray(GREY if image is None else image).save(root / "images/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 10} | record],
        "annotations": [{"id": 7 + k, "image_id": 1, "category_id": 3} | item for k, item in enumerate(items)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "a.json").write_text(json.dumps(content))
    return root / "a.json", root / "images"


def listed(root, *lines):
    """A csv file with these lines beside its image."""
    Image.fromarray(GREY).save(root / "a.png")
    (root / "a.csv").write_text("".join(f"{line}\n" for line in lines))
    return root / "a.csv"


def test_bccd_is_what_its_xml_files_say(bccd_files):
    counts = np.zeros(3, int)
    for part, number in {"train": 205, "val": 87, "test": 72}.items():
        source = sources.bccd(bccd_files, part)
        assert (len(source), source.boxes.clipped.sum(), source.boxes.crowd.sum()) == (number, 0, 0)
        counts += np.bincount(source.boxes.values)
        own = np.split(np.arange(len(source.boxes.values)), np.cumsum(source.boxes.counts)[:-1])
        for name, rows in zip(source.ids, own, strict=True):
            text = (bccd_files / f"BCCD/Annotations/{name}.xml").read_text()
            sides = [
                [int(n) for n in re.findall(rf"<{side}>(\d+)<", text)] for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            expected = np.array(sides).T - [1, 1, 0, 0]
            np.testing.assert_array_equal(source.boxes.corners[rows], expected)
            assert [source.class_names[value] for value in source.boxes.values[rows]] == re.findall(
                r"<name>(\w+)<", text
            )
    # The README of the data counts RBC, WBC, platelets.
    assert counts.tolist() == [4155, 372, 361]
    with Image.open(source.files[3]) as image:
        np.testing.assert_array_equal(source.read(tf.constant(3, tf.int64))["image"], np.asarray(image))


def test_coco_s_boxes_are_those_of_pycocotools(coco_files):
    tool = pytest.importorskip("pycocotools.coco")
    source, found = sources.coco_mini(coco_files, "val", kind="boxes"), 0
    truth = tool.COCO(coco_files / "annotations/instances_val.json")
    assert (len(source), len(source.boxes.values), source.boxes.crowd.sum()) == (66, 608, 5)
    assert source.ids == tuple(truth.imgs[k]["file_name"].removesuffix(".jpg") for k in sorted(truth.imgs))
    for place, number in enumerate(sorted(truth.imgs)):
        own, items = source.boxes[[place]], truth.loadAnns(truth.getAnnIds(number))
        left, top, wide, high = np.array([item["bbox"] for item in items]).reshape(-1, 4).T
        np.testing.assert_allclose(own.corners, np.stack([left, top, left + wide, top + high], 1), atol=1e-4)
        np.testing.assert_allclose(own.areas, [item["area"] for item in items], rtol=1e-6)
        np.testing.assert_array_equal(own.crowd, [item["iscrowd"] == 1 for item in items])
        names = [truth.cats[item["category_id"]]["name"] for item in items]
        assert [source.class_names[value] for value in own.values] == names
        assert own.sizes.tolist() == [[truth.imgs[number]["height"], truth.imgs[number]["width"]]]
        found += len(items)
    assert found == 608


def test_voc_counts_from_one_and_difficult_counts_for_nothing(tmp_path):
    voc(tmp_path / "VOC2012", ("cat", (1, 1, 1, 1), 0), ("dog", (2, 3, 10, 8), 1))
    source = sources.voc_boxes(tmp_path, "train", group=lambda name: name + "-video", mirrored=[("cat", "dog")])
    assert objects(source) == [(0, (0, 0, 1, 1), "cat", False), (0, (1, 2, 10, 8), "dog", True)]
    assert (source.groups, source.ids, source.mirrored) == (("a-video",), ("a",), (("cat", "dog"),))
    part = Split("train", source, protocols.voc(masks=False))
    assert part.box_labels.tolist() == [part.protocol.class_names.index("cat"), IGNORE]
    only = sources.voc_boxes(voc(tmp_path / "own", ("x", (1, 1, 4, 4), 0)), class_names=["y", "x"], name="own")
    assert (only.class_names, only.boxes.values.tolist(), only.name) == (("y", "x"), [1], "own")
    assert len(sources.voc_boxes(voc(tmp_path / "none"), class_names=["x"]).boxes.values) == 0


def test_what_coco_leaves_out(tmp_path):
    pytest.importorskip("pycocotools")
    outline = {"segmentation": [[2, 2, 6, 2, 6, 5, 2, 5]]}
    source = sources.coco_boxes(*coco(tmp_path, outline, {"bbox": [1, 2, 3, 4], "iscrowd": 1, "category_id": 5}))
    assert objects(source) == [(0, (2, 2, 6, 5), "cat", False), (0, (1, 2, 4, 6), "dog", True)]
    assert source.boxes.areas.tolist() == [12, 12]
    grouped = sources.coco_boxes(
        *coco(tmp_path, {"bbox": [1, 2, 3, 4], "area": 5}), name="b", group=lambda name: name * 2
    )
    assert (grouped.boxes.areas.tolist(), grouped.groups, grouped.name) == ([5], ("aa",), "b")


@pytest.mark.parametrize("version", ["v1", "v0.5"])
def test_lvis_says_what_was_looked_for(tmp_path, version):
    record = {"neg_category_ids": [5], "not_exhaustive_category_ids": [3]}
    files = coco(tmp_path, {"bbox": [1, 2, 3, 4], "area": 7.5}, **record)
    content = json.loads(files[0].read_text())
    if version == "v1":
        del content["images"][0]["file_name"]
        content["images"][0]["coco_url"] = "http://images.cocodataset.org/images/a.png"
        folder = tmp_path
    else:
        content["images"][0]["file_name"] = "COCO_val2014_a.png"
        folder = files[1]
    content["categories"] += [{"id": 100 + k, "name": f"rare {k}"} for k in range(1200)]  # more than a mask can tell
    files[0].write_text(json.dumps(content))
    source = sources.coco_boxes(files[0], folder)
    assert (source.boxes.neg_categories, source.boxes.not_exhaustive) == (((1,),), ((0,),))
    assert len(source.class_names) == 1202
    assert source.read(tf.constant(0, tf.int64))["image"].shape == (8, 10, 3)
    with pytest.raises(ValueError, match="1202 categories: at most 254 fit into a mask"):
        sources.coco(files[0], folder)
    content["images"][0]["neg_category_ids"] = [4]
    files[0].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json: neg_category_ids or .* unknown: 4"):
        sources.coco_boxes(files[0], folder)


def test_csv_and_lists_agree(tmp_path):
    lines = "path,x1,y1,x2,y2,class", "a.png,1,2,3.5,4,dog", "b.png,,,,,", "a.png,0,0,10,8,cat"
    Image.fromarray(np.zeros([20, 30, 3], "uint8")).save(tmp_path / "b.png")
    path = listed(tmp_path, *lines)
    expected = [(0, (1, 2, 3.5, 4), "dog", False), (0, (0, 0, 10, 8), "cat", False)]
    for own in (lines, lines[1:]):
        source = sources.csv_boxes(listed(tmp_path, *own))
        assert (objects(source), len(source), source.class_names, source.name) == (expected, 2, ("cat", "dog"), "a")
        assert source.boxes.sizes.tolist() == [[8, 10], [20, 30]]
    moved = tmp_path / "lists"
    moved.mkdir()
    path.rename(moved / "b.csv")
    own = sources.csv_boxes(moved / "b.csv", tmp_path, ["dog", "cow", "cat"], channels=1)
    assert (objects(own), own.class_names, own.shape) == (expected, ("dog", "cow", "cat"), (None, None, 1))
    items = [[(1, 2, 3.5, 4, "dog"), (0, 0, 10, 8, "cat")], []]
    for images in ([tmp_path / "a.png", tmp_path / "b.png"], [GREY, np.zeros([20, 30, 3], "uint8")]):
        given = sources.boxes(images, items, name="own", groups=["x", "x"])
        assert (objects(given), given.groups, given.name) == (expected, ("x", "x"), "own")
        assert [example["image"].shape for example in given.examples()] == [(8, 10, 3), (20, 30, 3)]


def test_tfds_boxes_are_relative_there_and_pixels_here(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20, 10 * k, 3), "uint8") for k in (1, 2, 3)]
    boxes = [[(0.1, 0.2, 0.5, 1.0)], [], [(0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.75, 0.6)]]

    class TinyBoxes(tfds.core.GeneratorBasedBuilder):
        """Three images with objects, the last of which is a crowd."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            own = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=["a", "b"])}
            objects = tfds.features.Sequence(own | {"is_crowd": np.bool_})
            faces = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()})
            image = tfds.features.Image(encoding_format="jpeg")
            features = {"image": image, "objects": objects, "faces": faces}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k, (image, own) in enumerate(zip(images, boxes, strict=True)):
                rows = [tfds.features.BBox(*box) for box in own]
                items = [{"bbox": row, "label": number, "is_crowd": number == 1} for number, row in enumerate(rows)]
                yield k, {"image": image, "objects": items, "faces": [{"bbox": row} for row in rows]}

    TinyBoxes(data_dir=tmp_path).download_and_prepare()
    source = sources.tfds_boxes("tiny_boxes", data_dir=tmp_path)
    assert (source.kind, source.class_names, source.random_access) == ("boxes", ("a", "b"), False)
    for example, size, count in zip(source.examples(), source.boxes.sizes, source.boxes.counts, strict=True):
        assert example["image"].shape[:2] == tuple(size)
        own = boxes[size[1] // 10 - 1]
        assert count == len(own)
    wide = int(np.flatnonzero(source.boxes.counts == 2)[0])
    rows = source.boxes[[wide]]
    np.testing.assert_allclose(rows.corners, [[0, 0, 30, 20], [15, 10, 18, 15]], rtol=1e-6)
    assert (rows.values.tolist(), rows.crowd.tolist()) == ([0, 1], [False, True])
    faces = sources.tfds_boxes("tiny_boxes", data_dir=tmp_path, keys=("image", "faces"))
    assert (faces.class_names, faces.boxes.values.tolist()) == (("object",), [0, 0, 0])
    with pytest.raises(ValueError, match=r"with a `bbox`\. Received: .* has: image, objects, faces"):
        sources.tfds_boxes("tiny_boxes", data_dir=tmp_path, keys=("image", "image"))


BAD = {
    "outside": ((12, 1, 14, 3), "the box (12, 1, 14, 3) lies outside its image. The image is 10 x 8 (width x height)"),
    "above": ((1, -5, 4, 0), "the box (1, -5, 4, 0) lies outside its image"),
    "no width": ((4, 1, 4, 3), "the box (4, 1, 4, 3) has no area: needs x1 < x2 and y1 < y2"),
    "negative": ((4, 6, 5, 3), "the box (4, 6, 5, 3) has no area"),
    "no number": ((float("nan"), 1, 4, 3), "the box (nan, 1, 4, 3) is not finite"),
    "infinite": ((0, 1, float("inf"), 3), "the box (0, 1, inf, 3) is not finite"),
}
READERS = {
    "list": lambda root, box, **how: sources.boxes([GREY], [[(0, 0, 1, 1, "cat"), (*box, "cat")]], **how),
    "csv": lambda root, box, **how: sources.csv_boxes(
        listed(root, "a.png,0,0,1,1,cat", f"a.png,{','.join(map(str, box))},cat"), **how
    ),
    "voc": lambda root, box, **how: sources.voc_boxes(
        voc(root, ("cat", (1, 1, 1, 1), 0), ("cat", (box[0] + 1, box[1] + 1, box[2], box[3]), 0)), **how
    ),
    "coco": lambda root, box, **how: sources.coco_boxes(
        *coco(root, {"bbox": [0, 0, 1, 1]}, {"bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}), **how
    ),
}
PLACES = {
    "list": "boxes[0], box 1",
    "csv": "a.csv, line 2, a.png",
    "voc": "Annotations/a.xml, object 1",
    "coco": "object 8",
}


@pytest.mark.parametrize("flaw", BAD)
@pytest.mark.parametrize("reader", READERS)
def test_bad_boxes_are_named_or_dropped_and_counted(tmp_path, reader, flaw):
    box, sentence = BAD[flaw]
    with pytest.raises(ValueError, match=re.escape(PLACES[reader])) as caught:
        READERS[reader](tmp_path, box)
    if reader == "coco" and "finite" in sentence:  # a width is what is not finite there
        sentence = "the box ("
    assert f"{PLACES[reader]}: {sentence}" in str(caught.value)
    assert 'on_bad="drop"' in str(caught.value)
    source = READERS[reader](tmp_path, box, on_bad="drop")
    assert objects(source) == [(0, (0, 0, 1, 1), "cat", False)]
    assert (source.boxes.dropped.tolist(), source.boxes.clipped.tolist()) == ([1], [0])


@pytest.mark.parametrize("reader", READERS)
def test_what_reaches_out_is_clipped_and_counted(tmp_path, reader):
    source = READERS[reader](tmp_path, (-2, 3, 12, 9.5))
    assert objects(source)[1] == (0, (0, 3, 10, 8), "cat", False)
    assert (source.boxes.dropped.tolist(), source.boxes.clipped.tolist()) == ([0], [1])


HOSTILE = {
    "no such class in a list": (
        lambda root: sources.boxes([GREY], [[(0, 0, 1, 1, "cow")]], ["cat"]),
        "boxes[0], box 0: 'cow' is no class name. The source has: cat",
    ),
    "no list for an image": (lambda root: sources.boxes([GREY], []), "Received: 1 images, 0 lists"),
    "no class": (
        lambda root: sources.boxes([GREY], [[(0, 0, 1, 1)]]),
        "boxes[0]: an object is (x1, y1, x2, y2, class name). Received: (0, 0, 1, 1)",
    ),
    "corners that are texts": (
        lambda root: sources.boxes([GREY], [[("0", 0, 1, 1, "cat")]]),
        "boxes[0], box 0: a box is four numbers, x1, y1, x2, y2. Received: ['0', 0, 1, 1]",
    ),
    "another choice": (lambda root: sources.boxes([GREY], [[]], on_bad="clip"), "`on_bad` is one of error, drop."),
    "csv with words": (
        lambda root: sources.csv_boxes(listed(root, "a.png,0,0,1,1,cat", "a.png,0,zero,1,1,cat")),
        "a.csv, line 2: needs path,x1,y1,x2,y2,class. Received: 'a.png,0,zero,1,1,cat'",
    ),
    "csv of four": (
        lambda root: sources.csv_boxes(listed(root, "a.png,0,0,1,cat")),
        "a.csv, line 1: needs path,x1,y1,x2,y2,class. Received: 'a.png,0,0,1,cat'",
    ),
    "csv that is empty": (lambda root: sources.csv_boxes(listed(root)), "a.csv is empty"),
    "csv of an image that is missing": (
        lambda root: sources.csv_boxes(listed(root, "b.png,0,0,1,1,cat")),
        "b.png (looked from",
    ),
    "no such class in xml": (
        lambda root: sources.voc_boxes(voc(root, ("cow", (1, 1, 2, 2), 0)), class_names=["cat"]),
        "Annotations/a.xml, object 0: 'cow' is no class name. The source has: cat",
    ),
    "xml without a corner": (
        lambda root: sources.voc_boxes(voc(root, ("cat", (1, "", 2, 2), 0))),
        "Annotations/a.xml, object 0: needs a name and a bndbox of xmin, ymin, xmax, ymax",
    ),
    "xml without a size": (
        lambda root: sources.voc_boxes(voc(root, size=("", 3))),
        "Annotations/a.xml is no annotation of VOC with a size and objects",
    ),
    "an image of VOC that is missing": (
        lambda root: (voc(root).joinpath("JPEGImages/a.jpg").unlink(), sources.voc_boxes(root)),
        "voc/train: 1 of 1 listed names have no image. The first: ",
    ),
    "no such category": (
        lambda root: sources.coco_boxes(*coco(root, {"bbox": [0, 0, 1, 1], "category_id": 9})),
        "a.json: object 7 has category 9, which the file does not list.",
    ),
    "no such image": (
        lambda root: sources.coco_boxes(*coco(root, {"bbox": [0, 0, 1, 1], "image_id": 9})),
        "a.json: object 7 is in image 9, which the file does not list.",
    ),
    "an image of COCO that is missing": (
        lambda root: sources.coco_boxes(*coco(root, file_name="b.png")),
        "1 of 1 listed names have no image. The first: ",
    ),
    "three numbers": (
        lambda root: sources.coco_boxes(*coco(root, {"bbox": [0, 0, 1]})),
        "a.json, image a.png, object 7: a box is four numbers, x1, y1, x2, y2. Received: [0, 0, 1]",
    ),
    "none": (
        lambda root: sources.coco_boxes(*coco(root, {"bbox": None})),
        "a.json, image a.png, object 7: a box is four numbers",
    ),
    "an image without a size": (
        lambda root: sources.coco_boxes(*coco(root, {"bbox": [0, 0, 1, 1]}, height=None)),
        "a.json, image a.png: needs `height` and `width`.",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_damaged_annotations_are_named(tmp_path, case):
    attempt, sentence = HOSTILE[case]
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(sentence)):
        attempt(tmp_path)


def test_some_images_of_all_and_all_of_some():
    corners = [[(0, 0, 1 + k, 1) for k in range(number)] for number in (2, 0, 3, 1)]
    values = [[10 * image + k for k in range(len(own))] for image, own in enumerate(corners)]
    lists = {"neg_categories": ((1,), (), (2, 3), ()), "not_exhaustive": ((), (), (1,), ())}
    sizes = [(4, 10 + k) for k in range(4)]
    whole = collect(corners, values, sizes, "{} {}".format, crowd=[[True] * len(own) for own in values], **lists)
    assert (whole.starts.tolist(), whole.images.tolist()) == ([0, 2, 2, 5], [0, 0, 2, 2, 2, 3])
    part = whole[[1, 2, 3]]
    assert (part.values.tolist(), part.counts.tolist()) == ([20, 21, 22, 30], [0, 3, 1])
    assert (part.sizes[:, 1].tolist(), part.neg_categories, part.images.tolist()) == (
        [11, 12, 13], ((), (2, 3), ()), [1, 1, 1, 2])  # fmt: skip
    assert len(whole[[]].values) == 0
    both = concatenate([whole[[0]], part])
    assert (both.values.tolist(), both.counts.tolist(), both.not_exhaustive) == (
        whole.values.tolist(), [2, 0, 3, 1], lists["not_exhaustive"])  # fmt: skip
    table = np.arange(40)[::-1]
    moved = whole.relabel(table)
    assert (moved.values.tolist(), moved.neg_categories[2]) == (table[whole.values].tolist(), (37, 36))


def test_which_classes_were_looked_for_in_full():
    corners = [[(0, 0, 2, 2), (1, 1, 3, 3)], [], [(0, 0, 1, 1)]]
    lists = {"neg_categories": ((1,), (0, 3), ()), "not_exhaustive": ((2,), (), (4,))}
    sizes = [(9, 9)] * 3
    found = collect(corners, [[0, 2], [], [4]], sizes, "{} {}".format, **lists)
    whole = [found.is_complete(index, 5).tolist() for index in range(3)]
    assert whole == [[True, True, False, False, False], [True, False, False, True, False], [False] * 5]
    assert found[[1, 2]].is_complete(0, 5).tolist() == whole[1]
    some = collect(corners, [[0, 2], [], [4]], sizes, "{} {}".format, not_exhaustive=lists["not_exhaustive"])
    assert some.is_complete(0, 5).tolist() == [True, True, False, True, True]
    plain = collect(corners, [[0, 2], [], [4]], sizes, "{} {}".format)
    assert plain.is_complete(1, 5).all()
