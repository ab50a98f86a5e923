"""Bad input as a table: each row is one mistake, the sentence that it gets, and nothing left on the disk."""

import dataclasses
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.text import Text
from PIL import Image

from cplus1_keras import (
    calibration,
    checks,
    configs,
    data,
    export,
    heads,
    judge,
    layers,
    losses,
    metrics,
    models,
    plots,
    run,
    serving,
    train,
)
from cplus1_keras.data import Protocol, Split, sources
from cplus1_keras.tasks import Classification, MultiLabel, Segmentation

ROOT = pathlib.Path(__file__).parent.parent
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (40, 8, 8, 1), "uint8")
LABELS = np.arange(40) % 5
NAMES = ["a", "b", "c", "d", "e"]
ROLES = Protocol(("a", "b", "c"), ("d",), ("e",))


# What the rows ask.


def command(at, *arguments):
    """`python train.py`, with runs in a folder that is not there yet."""
    train.main(["--workdir", str(at / "runs"), *arguments])


def setting(*settings, config="digits"):
    """A start of a run with some settings, up to its first epoch."""
    return lambda at: command(at, "--config", config, *(word for item in settings for word in ("--set", item)))


def look(source, protocol=None):
    """What a run does with files before it trains."""
    protocol = protocol or Protocol(source.class_names)
    Classification().check_files([Split("test", source, protocol)])


def folder(name, **given):
    return lambda at: look(sources.folder(at / name, **given))


def pairs(masks, values=None):
    """A folder of images with one of masks, looked at as a run does."""
    return lambda at: look(sources.folder(at / "pictures", at / masks, names=values or ["road", "tree"]))


def splits(source=None, protocol=ROLES, **given):
    return data.split(protocol, source or sources.arrays(PIXELS, LABELS, NAMES), **given)


def experiment(**changes):
    return dataclasses.replace(configs.resolve("digits"), **changes)


def prepared(**changes):
    """All that is checked before a run makes its folder."""
    return lambda at: run.prepare(experiment(**changes))


def compiled(loss=None, size=(8, 8, 1), head=None):
    images = keras.Input(size)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(images))
    model = models.OpenSetModel(images, (head or heads.LinearHead(3))(features))
    model.compile("sgd", loss or losses.CrossEntropyLoss())
    return model


def fit(labels=LABELS % 3, images=PIXELS, **given):
    return lambda at: compiled().fit(images, labels, verbose=0, **given)


def fit_with(loss):
    return lambda at: compiled(loss).fit(PIXELS, LABELS % 3, verbose=0)


def fit_sets(sets):
    def call(at):
        images = keras.Input((8, 8, 1))
        model = models.OpenSetModel(images, heads.CAMHead(3)(keras.layers.Conv2D(4, 3)(images)))
        model.compile("sgd", losses.MultiLabelCrossEntropyLoss())
        model.fit(PIXELS, {"multi_hot": sets}, verbose=0)

    return call


def plain_logits(at):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", losses.CrossEntropyLoss())
    model.fit(np.zeros((8, 4), "float32"), np.zeros(8, "int32"), verbose=0)


def loaded(at, name="run"):
    return serving.load(at / "runs_there" / name)


def ask(images, **given):
    return lambda at: loaded(at).predict(images, **given)


# What they are asked of.


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder of files that are damaged, of another kind, or strangely named."""
    at = tmp_path_factory.mktemp("zoo")
    _pictures(at)
    _tables(at)
    _runs(at)
    return at


def _save(path, pixels, **given):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **given)
    return path


def _copy(path, to, size=None):
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(path.read_bytes()[:size])


def _pictures(at):
    colour = RANDOM.integers(0, 256, (16, 12, 3), "uint8")
    photo, drawing = _save(at / "good/cat/1.jpg", colour), _save(at / "good/dog/1.png", colour)
    for name, file, size in (
        ("cut/jpeg/1.jpg", photo, 300),
        ("cut/png/1.png", drawing, 200),
        ("header/png/1.png", drawing, 40),
        ("none/empty/1.png", drawing, 0),
    ):
        _copy(file, at / name, size)
    for name, content in (("text/a/1.jpg", "<html>404</html>"), ("notes/a/read.me", "no image"), ("a file", "no")):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_text(content)
    (at / "hollow/cat").mkdir(parents=True)
    (at / "empty").mkdir()
    (at / "inside/cat/1.png").mkdir(parents=True)
    (at / "gone/cat").mkdir(parents=True)
    (at / "gone/cat/1.png").symlink_to(at / "nowhere.png")
    _copy(drawing, at / "loose/cat/1.png")
    _copy(drawing, at / "loose/2.png")
    _copy(drawing, at / "phone/cat/1.png")
    _copy(drawing, at / "phone/cat/1.HEIC")
    _copy(drawing, at / "locked/cat/1.png")
    (at / "locked/cat/1.png").chmod(0)
    grey = np.zeros((16, 12), "uint8")
    for name in ("pictures/1.png", "pictures/2.png", "one_picture/1.png"):
        _copy(drawing, at / name)
    for name, first in (
        ("masks", grey),
        ("masks_colour", colour),
        ("masks_turned", grey.T),
        ("masks_small", grey[::2, ::2]),
        ("masks_beyond", grey + 7),
    ):
        _save(at / name / "1.png", first)
        _save(at / name / "2.png", grey)
    _copy(at / "masks/1.png", at / "masks_cut/1.png", 60)
    _copy(at / "masks/1.png", at / "masks_cut/2.png")
    _copy(at / "masks/1.png", at / "masks_fewer/1.png")
    _save(at / "masks_float/1.tif", grey.astype("float32"))
    _save(at / "masks_float/2.tif", grey.astype("float32"))
    _save(at / "masks_photo/1.jpg", grey)
    _save(at / "masks_photo/2.jpg", grey)


def _tables(at):
    for name, text in (
        ("none.csv", ""),
        ("head.csv", "path,label\ngood/cat/1.jpg,0\n"),
        ("float.csv", "good/cat/1.jpg,0.5\n"),
        ("below.csv", "good/cat/1.jpg,-3\n"),
        ("three.csv", "good/cat/1.jpg,0,cat\n"),
        ("absent.csv", "good/cat/9.jpg,0\n"),
        ("beyond.csv", "good/cat/1.jpg,7\n"),
        ("nul.csv", "good/c\0at/1.jpg,0\n"),
        ("sets_head.csv", "1.jpg,cat\n"),
        ("sets_cell.csv", "file,cat,dog\ngood/cat/1.jpg,1,2\n"),
        ("sets_short.csv", "file,cat,dog\ngood/cat/1.jpg,1\n"),
        ("cut.json", '{"known": ["a"'),
        ("list.json", '["a", "b"]'),
        ("other.json", '{"knowns": ["a"]}'),
        ("twice.json", '{"known": ["a"], "negative": ["a"]}'),
        ("no_coco.json", '{"info": {}}'),
    ):
        (at / name).write_text(text)
    (at / "latin.csv").write_bytes("good/cät/1.jpg,0\n".encode("latin-1"))
    (at / "binary.csv").write_bytes(bytes(range(256)))
    (at / "utf16.json").write_bytes('{"known": ["a"]}'.encode("utf-16"))
    images = [{"id": 1, "file_name": "1.png", "height": 16, "width": 12}]
    shape = {"id": 5, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    for name, changes in (
        ("coco_class", {"category_id": 9}),
        ("coco_image", {"image_id": 9}),
        ("coco_size", {"segmentation": {"size": [4, 4], "counts": [16]}}),
        ("coco_shape", {"segmentation": 7}),
    ):
        content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": [{**shape, **changes}]}
        (at / f"{name}.json").write_text(json.dumps(content))
    content = {"images": [{"id": 1, "file_name": "9.png"}], "categories": [], "annotations": []}
    (at / "coco_file.json").write_text(json.dumps(content))
    np.savez(at / "good.npz", images=PIXELS, labels=LABELS)
    _copy(at / "good.npz", at / "cut.npz", 900)
    (at / "none.npz").write_bytes(b"")
    (at / "text.npz").write_text("no arrays")
    np.save(at / "one.npy", PIXELS)
    np.savez(at / "objects.npz", images=np.array([PIXELS[0], None], object), labels=LABELS[:2])
    np.savez(at / "fewer.npz", images=PIXELS, labels=LABELS[:7])
    head, bytes_ = b"\x00\x00\x08\x03" + np.array([40, 8, 8], ">u4").tobytes(), PIXELS.tobytes()
    names = b"\x00\x00\x08\x01" + np.array([40], ">u4").tobytes() + LABELS.astype("uint8").tobytes()
    for name, content in (
        ("images.idx", head + bytes_),
        ("labels.idx", names),
        ("cut.idx", head + bytes_[:100]),
        ("none.idx", b""),
        ("floats.idx", b"\x00\x00\x0d" + head[3:] + bytes_),
        ("cut.idx.gz", gzip.compress(head + bytes_)[:200]),
        ("seven.idx", names[:4] + np.array([7], ">u4").tobytes() + names[8:15]),
    ):
        (at / name).write_bytes(content)


def _runs(at):
    """A finished run, and what may become of one."""
    keras.utils.set_random_seed(0)
    model = compiled()
    found = calibration.threshold_at_fpr(np.linspace(-1, 1, 100), 0.2, score="log_odds")
    whole = at / "runs_there/run"
    serving.save(whole, serving.Predictor(model, layers.Reject(3, found.threshold), NAMES[:3], calibration=found))
    (whole / "config.json").write_text(json.dumps({"command": {"config": "digits", "set": []}}))
    (whole / "metrics.json").write_text("{}")
    record = json.loads((whole / "calibration.json").read_text())
    other = {**record["decision"], "score": "max_logit"}
    for name, file, content in (
        ("no_config", "config.json", None),
        ("bad_config", "config.json", "{"),
        ("list_config", "config.json", "[]"),
        ("no_command", "config.json", '{"name": "digits"}'),
        ("no_metrics", "metrics.json", None),
        ("no_model", "model.keras", None),
        ("cut_model", "model.keras", (whole / "model.keras").read_bytes()[:500]),
        ("zero_model", "model.keras", b""),
        ("no_calibration", "calibration.json", None),
        ("cut_calibration", "calibration.json", "{"),
        ("a_class_fewer", "calibration.json", json.dumps({**record, "class_names": NAMES[:2]})),
        ("another_score", "calibration.json", json.dumps({**record, "decision": other})),
        ("another_run", "calibration.json", json.dumps({**record, "model": "sha256:0"})),
    ):
        shutil.copytree(whole, at / "runs_there" / name)
        path = at / "runs_there" / name / file
        if file == "config.json":
            (path.parent / "metrics.json").unlink()  # such a run can be resumed
        path.unlink()
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (at / "runs_there/a_file").write_text("no run")
    (at / "runs_there/nothing").mkdir()


FILES = [
    ("an image cut short, jpeg", folder("cut"), "cut/jpeg/1.jpg is damaged, or no image.*cut/png/1.png is damaged"),
    ("an image with its header alone", folder("header"), "1.png is damaged, or no image"),
    ("an image of 0 bytes", folder("none"), "1.png is damaged, or no image"),
    ("a web page for an image", folder("text"), "text/a/1.jpg is damaged, or no image"),
    ("a folder that is named as an image", folder("inside"), r"inside/cat has no image \("),
    ("a link to nowhere", folder("gone"), "gone/cat/1.png cannot be read: No such file"),
    ("no such folder", folder("nowhere"), "No folder at .*nowhere .looked from .*Check the path"),
    ("a file for a folder", folder("a file"), "No folder at .*a file"),
    ("an empty folder", folder("empty"), "needs one folder for each class.*It has no folders"),
    ("a class without images", folder("hollow"), r"hollow/cat has no image \(.jpg.*Add some or remove it"),
    ("a class of other files", folder("notes"), r"notes/a has no image \("),
    (
        "images beside the class folders",
        folder("loose"),
        "Received: 1 images beside the class folders of .*loose, such as 2.png. Move",
    ),
    ("an image of a kind that is not read", folder("phone"), "Images are read from .jpg.*phone/cat/1.HEIC. Convert it"),
    ("four channels", folder("good", channels=4), "`channels` must be 1 or 3. Received: channels=4"),
    ("no masks folder", pairs("nowhere"), "No folder at .*nowhere"),
    ("a mask fewer", pairs("masks_fewer"), "1 of 2 images in .*pictures have no mask, such as .*2.png"),
    ("a mask in colour", pairs("masks_colour"), "1.png: a mask is a grey image.*Received: an image in colour"),
    ("a turned mask", pairs("masks_turned"), "Received: image 12 x 16, mask 16 x 12 .*1.png. Resize"),
    ("a mask of half the size", pairs("masks_small"), "Received: image 12 x 16, mask 6 x 8 .*1.png. Resize"),
    ("a mask value beyond the names", pairs("masks_beyond"), "Mask values outside.*1.png: 7 .192 pixels.; 192 of 192"),
    ("a mask cut short", pairs("masks_cut"), "masks_cut/1.png is damaged, or no png image"),
    ("a mask of floats", pairs("masks_float"), "1.tif: a mask is a grey image.*Received: an image of mode F"),
    ("masks as jpeg", pairs("masks_photo"), "2 of 2 images in .*pictures have no mask"),
    ("mask names beyond 16 bits", pairs("masks", {70000: "a"}), "mask values lie in 0 to 65535. Received: .70000."),
    ("no csv", lambda at: sources.csv(at / "x.csv"), "No file at .*x.csv"),
    ("a folder for a csv", lambda at: sources.csv(at / "good"), "No file at .*good"),
    ("an empty csv", lambda at: sources.csv(at / "none.csv"), "none.csv is empty: it needs lines `path,label`"),
    ("a header in a csv", lambda at: sources.csv(at / "head.csv"), "line 1: needs `path,label`.*'path,label'.*header"),
    ("a csv with half a label", lambda at: sources.csv(at / "float.csv"), "integer label.*Received: '.*,0.5'"),
    ("a csv with a label of -3", lambda at: sources.csv(at / "below.csv"), "-2 unknown. Received: '.*,-3'"),
    ("a csv of three columns", lambda at: sources.csv(at / "three.csv"), "`path,label`.*Received: '.*,0,cat'"),
    ("a csv that lists what is not there", lambda at: sources.csv(at / "absent.csv"), "9.jpg, which is absent.*`root`"),
    ("a csv label without a name", lambda at: sources.csv(at / "beyond.csv", class_names=["a"]), "label 7 .*1 names"),
    ("a csv in latin-1", lambda at: sources.csv(at / "latin.csv"), "latin.csv.*UTF-8.*0xe4"),
    ("a csv that is none", lambda at: sources.csv(at / "binary.csv"), "binary.csv.*UTF-8"),
    ("a NUL in a csv", lambda at: sources.csv(at / "nul.csv"), r"nul.csv.*NUL|nul.csv lists .*absent"),
    ("sets without a header", lambda at: sources.csv_labels(at / "sets_head.csv"), "needs a header `file,labels`"),
    ("sets with a 2", lambda at: sources.csv_labels(at / "sets_cell.csv"), "line 2: a cell is 1, 0 or empty.*1,2"),
    (
        "sets with a cell fewer",
        lambda at: sources.csv_labels(at / "sets_short.csv"),
        "line 2: needs 3 cells. Rec.*jpg,1",
    ),
    ("an empty csv of sets", lambda at: sources.csv_labels(at / "none.csv"), "needs a header"),
    ("no npz", lambda at: sources.npz(at / "x.npz"), "No file at"),
    ("an npz cut short", lambda at: sources.npz(at / "cut.npz"), "cut.npz is damaged or no npz file"),
    ("an empty npz", lambda at: sources.npz(at / "none.npz"), "none.npz is damaged or no npz file"),
    ("a text for an npz", lambda at: sources.npz(at / "text.npz"), "text.npz is damaged or no npz file"),
    ("an npy for an npz", lambda at: sources.npz(at / "one.npy"), "one.npy is damaged or no npz file"),
    ("objects in an npz", lambda at: sources.npz(at / "objects.npz"), "objects.npz is damaged or no npz.*[Oo]bject"),
    ("an npz without the array", lambda at: sources.npz(at / "good.npz", "x"), "no array 'x'. It has: images, labels"),
    (
        "an npz with fewer labels",
        lambda at: sources.npz(at / "fewer.npz"),
        "one label for each image.*40 images, 7 lab",
    ),
    ("an idx cut short", lambda at: sources.idx(at / "cut.idx", at / "labels.idx"), "needs 2560 bytes, there are 100"),
    ("an empty idx", lambda at: sources.idx(at / "none.idx", at / "labels.idx"), "no idx file.*begins with nothing"),
    ("an idx of floats", lambda at: sources.idx(at / "floats.idx", at / "labels.idx"), "unsigned bytes.*00000d03"),
    ("a gzip cut short", lambda at: sources.idx(at / "cut.idx.gz", at / "labels.idx"), "gz is damaged.*Fetch"),
    (
        "idx files exchanged",
        lambda at: sources.idx(at / "labels.idx", at / "images.idx"),
        "Are the two files exchanged",
    ),
    ("an idx with fewer labels", lambda at: sources.idx(at / "images.idx", at / "seven.idx"), "40 images in .*, 7 in"),
    ("a protocol cut short", lambda at: Protocol.load(at / "cut.json"), "cut.json: A protocol is.*This is no JSON"),
    ("a protocol that is a list", lambda at: Protocol.load(at / "list.json"), "with `known`.*Received: list"),
    ("a protocol of other keys", lambda at: Protocol.load(at / "other.json"), r"with `known`.*Received: \['knowns'\]"),
    ("a protocol in UTF-16", lambda at: Protocol.load(at / "utf16.json"), "utf16.json.*UTF-8"),
    (
        "a protocol with two roles",
        lambda at: Protocol.load(at / "twice.json"),
        "one role. Received: 'a' in `known` and",
    ),
    ("a folder for a protocol", lambda at: Protocol.load(at / "good"), "No protocol file at .*good"),
    (
        "a COCO json cut short",
        lambda at: sources.coco(at / "cut.json", at / "pictures"),
        "no COCO json with images, cat",
    ),
    ("a json that is no COCO", lambda at: sources.coco(at / "no_coco.json", at / "pictures"), "no COCO json.*'images'"),
    (
        "a COCO class",
        lambda at: sources.coco(at / "coco_class.json", at / "pictures"),
        "object 5 has category 9, which",
    ),
    ("a COCO image", lambda at: sources.coco(at / "coco_image.json", at / "pictures"), "object 5 is in image 9, which"),
    (
        "a COCO file",
        lambda at: sources.coco(at / "coco_file.json", at / "pictures"),
        "1 of 1 listed names have no image. The first: .*9.png",
    ),
    (
        "a COCO mask's size",
        lambda at: sources.coco(at / "coco_size.json", at / "pictures"),
        r"object 5.*\[4, 4\].*16, 12",
    ),
    (
        "a COCO mask's shape",
        lambda at: sources.coco(at / "coco_shape.json", at / "pictures"),
        "object 5 has no valid seg",
    ),
    ("a TFDS set that is none", lambda at: sources.tfds("mnistt"), "has no set 'mnistt'. Did you mean mnist"),
    (
        "a TFDS set elsewhere",
        lambda at: sources.tfds("mnist", data_dir=at / "empty"),
        "'mnist' is not prepared.*absent",
    ),
    ("a layout that is not there", lambda at: sources.camvid(at / "empty"), "No folder at .*empty/train"),
    (
        "a split that is not there",
        lambda at: sources.camvid(at, "eval"),
        "`split` of CamVid is one of train, val, test.*eval",
    ),
]


def arrays(images, labels=LABELS, names=NAMES, **given):
    return lambda at: sources.arrays(images, labels, names, **given)


def masked(masks, images=PIXELS):
    return lambda at: look(sources.arrays(images, masks=masks, class_names=["road"]), Protocol(["road"]))


FLOATS = PIXELS.astype("float32")
ARRAYS = [
    ("NaN", arrays(np.where(PIXELS == 7, np.nan, FLOATS)), r"0\.\.255. Received: nan to nan. There is NaN"),
    ("infinity", arrays(np.where(PIXELS == 7, np.inf, FLOATS)), r"0\.\.255. Received: 0 to inf"),
    ("0..1", arrays(FLOATS / 255), r"0\.\.255. Received: 0 to 1. Multiply by 255"),
    ("-1..1", arrays(FLOATS / 127.5 - 1), "Received: -1 to 1. Undo the normalisation"),
    ("above 255", arrays(FLOATS * 200), "Received: 0 to 51000"),
    ("integers above 255", arrays(PIXELS.astype("int32") * 200), r"0\.\.255.*Received: 0 to 51000"),
    ("negative integers", arrays(PIXELS.astype("int16") - 200), r"0\.\.255.*Received: -200 to 55"),
    ("channels first", arrays(np.zeros((40, 3, 32, 32), "uint8")), r"\(40, 3, 32, 32\).*moveaxis"),
    ("one axis", arrays(np.zeros(40)), r"\(N, H, W\) or .*Received: shape \(40,\), dtype float64"),
    ("five axes", arrays(np.zeros((40, 2, 4, 4, 3), "uint8")), r"Received: shape \(40, 2, 4, 4, 3\)"),
    ("none", arrays(PIXELS[:0], LABELS[:0]), "at least one. Received: 0 images, 0 labels"),
    ("objects", arrays(PIXELS.astype(object)), "must be numbers.*dtype object"),
    ("text", arrays(np.full((40, 8, 8), "x")), "must be numbers.*dtype <U1"),
    ("complex", arrays(PIXELS.astype("complex64")), "must be numbers.*dtype complex64"),
    ("lists of other lengths", arrays([[1, 2], [3]], [0, 1]), r"\(N, H, W\)"),
    ("paths for pixels", arrays(["a.png", "b.png"], [0, 1]), "must be numbers"),
    ("no labels", arrays(PIXELS, None), "needs either `labels` or `masks`"),
    (
        "as many labels as not",
        arrays(PIXELS, LABELS[:7]),
        "one label for each image, and at least one. Received: 40 images, 7 labels",
    ),
    ("labels beyond the names", arrays(PIXELS, LABELS + 3), r"labels must lie in 0 to 4.*Received: \[5, 6, 7\]"),
    ("a label of 255", arrays(PIXELS, np.where(LABELS, LABELS, 255).astype("uint8")), r"in 0 to 4.*Received: \[255\]"),
    ("labels below 0", arrays(PIXELS, LABELS - 1), r"labels must lie in 0 to 4.*Received: \[-1\]"),
    ("labels of floats", arrays(PIXELS, LABELS / 2), "one integer label.*dtype float64"),
    ("labels of text", arrays(PIXELS, np.array(NAMES)[LABELS]), "one integer label.*dtype <U1"),
    ("labels as a column of three axes", arrays(PIXELS, LABELS[:, None, None]), r"one integer label.*\(40, 1, 1\)"),
    ("labels without a name", arrays(PIXELS, LABELS, {0: "a", 1: "b"}), r"labels \[2, 3, 4\] have no name.*\[0, 1\]"),
    ("names twice", arrays(PIXELS, LABELS, list("abcda")), "names must differ. Received: .*'a'"),
    ("sets with a 2", arrays(PIXELS, np.full((40, 5), 2)), r"needs \(N, 5\) of 0 and 1.*Received: shape \(40, 5\)"),
    ("sets of another width", arrays(PIXELS, np.eye(4, dtype=int)[LABELS % 4]), r"needs \(N, 5\).*\(40, 4\)"),
    (
        "masks of another size",
        masked(np.zeros((40, 4, 4), int)),
        r"the size of its image, \(8, 8\). Received: masks of \(4, 4\)",
    ),
    (
        "turned masks",
        masked(np.zeros((40, 6, 8), int), PIXELS[:, :, :6]),
        r"the size of its image, \(8, 6\). Received: masks of \(6, 8\)",
    ),
    ("masks of floats", masked(np.zeros((40, 8, 8))), r"a mask is \(H, W\) of integers.*float64"),
    (
        "masks one-hot",
        masked(np.zeros((40, 8, 8, 2), int)),
        r"a mask is \(H, W\) of integers. Received: shape \(8, 8, 2",
    ),
    ("fewer masks", masked(np.zeros((7, 8, 8), int)), "one mask for each image.*Received: 40 images, 7 masks"),
    (
        "a mask value without a name",
        masked(np.full((40, 8, 8), 3)),
        r"outside the protocol in arrays\[0\]: 3 .64 pixels",
    ),
]

FIT = [
    ("labels beyond the classes", fit(LABELS), r"known classes 0\.\.2.*Received also: \[3, 4\]"),
    ("a label of 255", fit(np.where(LABELS % 3, 0, 255).astype("uint8")), r"0\.\.2.*Received also: \[255\]"),
    ("a label of -3", fit(np.where(LABELS % 3, 0, -3)), r"-2 \(unknown\), -100 \(ignored\).*Received also: \[-3\]"),
    ("a label of -7 among named ones", fit({"labels": LABELS % 3 - 7}), r"Received also: \[-7, -6, -5\]"),
    ("floats", fit((LABELS % 3).astype("float32")), "one integer label per position.*dtype float32"),
    ("one-hot", fit(np.eye(3)[LABELS % 3]), r"one integer label.*\(\w+, 3\).*neither soft nor one-hot"),
    ("text", fit(np.array(NAMES)[LABELS % 3]), "integer.*(<U1|string|str)"),
    ("fewer labels", fit(LABELS[:7] % 3), r"40.*7"),
    ("no labels", fit(None), "needs labels: one tensor of integers.*Received: NoneType"),
    ("labels by another name", fit({"classes": LABELS % 3}), r"There is no `labels`.*'classes'"),
    ("channels first", fit(images=PIXELS.reshape(40, 1, 8, 8)), r"\(\w+, 8, 8, 1\).*\(\w+, 1, 8, 8\)"),
    (
        "a label of -3 in a graph",
        lambda at: _graph(np.where(LABELS % 3, 0, -3)),
        "`loss` is nan in epoch 1 at batch 1.*a label that is no class of the head",
    ),
    ("sets with a 2", fit_sets(np.full((40, 3), 2)), r"1 .*present.*0 .*absent.*-100.*Received.*\[2\]"),
    ("sets of another width", fit_sets(np.zeros((40, 5), int)), r"`multi_hot` of shape \(\w+, 3\).*\(\w+, 5\)"),
    ("sets of floats", fit_sets(np.zeros((40, 3))), "`multi_hot` of shape.*dtype float32"),
    ("a weight of -5", fit(class_weight={0: -5}), r"numbers >= 0. Received: \{0: -5\}"),
    ("a weight for class 99", fit(class_weight={99: 1}), r"this model has the classes 0\.\.2. Received: \[99\]"),
    ("a weight of NaN", fit(class_weight={0: float("nan")}), "numbers >= 0. Received: .0: nan"),
    ("plain Keras with logits", plain_logits, "OpenSetModel"),
    ("a loss of Keras", lambda at: compiled("mse").fit(PIXELS, LABELS % 3), "one loss of cplus1_keras.*loss='mse'"),
    ("a scale of infinity", lambda at: heads.CosineHead(3, float("inf")), "`scale` must be a finite number.*not inf"),
    ("a scale of NaN", lambda at: heads.CosineHead(3, float("nan")), "`scale` must be a finite number.*not nan"),
    ("no classes", lambda at: heads.LinearHead(0), "`num_classes` must be an integer >= 1. Received: num_classes=0"),
    ("half a class", lambda at: heads.LinearHead(2.5), "`num_classes` must be an integer >= 1. Received: .*2.5"),
    ("a margin in degrees", lambda at: losses.ArcFace(28.6), r"radians.*Received: margin=28.6"),
    ("a negative margin", lambda at: losses.CosFace(-0.3), "`margin`.*Received: margin=-0.3"),
    ("a margin of NaN", lambda at: losses.CosFace(float("nan")), "`margin`.*Received: margin=nan"),
    ("a weight of a term below 0", lambda at: -1 * losses.CrossEntropyLoss(), "number >= 0. Received: -1.0 for `cross"),
    ("one term twice", lambda at: losses.CrossEntropyLoss() + losses.CrossEntropyLoss(), "Received twice: .'cross_ent"),
    ("Reject(5) on 6 logits", lambda at: _rejecting(5, 6), "5 known classes.*6"),
    ("KnownAccuracy(5) on 6 logits", lambda at: _watching(5, 6), "5.*6"),
    ("compactness without centres", fit_with(losses.CompactnessLoss()), r"needs a layer of centres: `layers.Moving"),
    ("a margin without cosines", fit_with(losses.CrossEntropyLoss(losses.ArcFace(0.5))), "needs a `heads.CosineHead`"),
    ("an unregistered layer", lambda at: checks.check_model(_unregistered()), "cannot be saved.*register_keras_serial"),
    ("a layer of code", lambda at: checks.check_model(_of_code()), "cannot be saved and loaded again.*Lambda layers"),
    ("a threshold of NaN", lambda at: layers.Reject(3, float("nan")), "`threshold` must be a number.*nan"),
]


def _graph(labels):
    model = compiled()
    batches = tf.data.Dataset.from_tensor_slices((PIXELS, labels)).batch(8)
    from cplus1_keras.callbacks import StopOnNaN

    model.fit(batches, shuffle=False, verbose=0, callbacks=[StopOnNaN()])


def _rejecting(known, logits):
    images = keras.Input((8, 8, 1))
    model = keras.Model(images, heads.LinearHead(logits)(keras.layers.Flatten()(images)))
    serving.Predictor(model, layers.Reject(known, 0.0))


def _unregistered():
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    return keras.Sequential([keras.Input((2,)), Mine(), keras.layers.Dense(3)])


def _of_code():
    return keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(3)])


def _watching(known, logits):
    images = keras.Input((8, 8, 1))
    model = models.OpenSetModel(images, heads.LinearHead(logits)(keras.layers.Flatten()(images)))
    model.compile("sgd", losses.CrossEntropyLoss(), metrics={"logits": [metrics.KnownAccuracy(known)]})
    model.fit(PIXELS, LABELS, verbose=0)


SETTINGS = [
    ("a name", setting("epoch=3"), "`--set epoch` is not known to digits. Did you mean 'epochs'"),
    ("no value", setting("epochs"), "A setting reads name=value, like epochs=3. Received: 'epochs'"),
    ("fpr=0", setting("fpr=0"), r"`fpr` is a rate in \(0, 1\). Received: fpr=0"),
    ("fpr=1", setting("fpr=1"), r"`fpr` is a rate in \(0, 1\). Received: fpr=1"),
    ("fpr=10", setting("fpr=10"), r"`fpr` is a rate in \(0, 1\). Received: fpr=10"),
    ("fpr=-1", setting("fpr=-1"), r"`fpr` is a rate in \(0, 1\). Received: fpr=-1"),
    ("fpr=nan", setting("fpr=nan"), "`--set fpr` needs a value of type number. Received: nan"),
    ("fpr=5%", setting("fpr=5%"), "`--set fpr` needs a value of type number. Received: 5%"),
    ("fpr=0.001", setting("fpr=0.001"), r"rate of 0.001 .* needs at least 2,995 .*the split has \d+"),
    ("confidence=95", setting("confidence=95"), r"`confidence` is a rate in \(0, 1\). Received: confidence=95"),
    ("epochs=0", setting("epochs=0"), "`epochs` must be above 0 and an int. Received: epochs=0"),
    ("epochs=-1", setting("epochs=-1"), "`epochs` must be above 0 and an int. Received: epochs=-1"),
    ("epochs=1.5", setting("epochs=1.5"), "`--set epochs` needs a value of type int or None. Received: 1.5"),
    ("epochs=ten", setting("epochs=ten"), "type int or None. Received: ten"),
    ("epochs=None", setting("epochs=None"), "`epochs` or in `steps`: give one of them"),
    ("epochs and steps", setting("steps=10"), "give one of them. Received: epochs=25, steps=10"),
    ("batch_size=0", setting("batch_size=0"), "`batch_size` must be above 0 and an int. Received: batch_size=0"),
    (
        "a batch above all images",
        setting("batch_size=100000"),
        "epoch of .* has no batch of 100000. Take one of at most",
    ),
    ("learning_rate=nan", setting("learning_rate=nan"), "needs a value of type number. Received: nan"),
    (
        "learning_rate=inf",
        setting("learning_rate=1e999"),
        "`learning_rate` must be above 0 and finite. Received: learning_rate=inf",
    ),
    ("seed=-1", setting("seed=-1"), "`seed` .*Received: seed=-1"),
    ("a seed of 40 bits", setting("seed=1099511627776"), "`seed` .*Received: seed=1099511627776"),
    ("name=", setting("name="), "`name` .*Received: name=''"),
    ("a name that leaves the folder", setting("name=../elsewhere"), "`name` .*Received: name='../elsewhere'"),
    ("a name of two folders", setting("name=a/b"), "`name` .*Received: name='a/b'"),
    ("score=telepathy", setting("score=telepathy"), "There is no score 'telepathy'. Scores: .*log_odds"),
    ("loss=softmax", setting("loss=softmax"), "`--set loss` is a function or an object.*There are: "),
    ("augment=flip", setting("augment=flip"), "`--set augment` is a function or an object"),
    ("negative_fraction=1", setting("negative_fraction=1"), r"`negative_fraction` must lie in \[0, 1\). Received: 1"),
    ("a torn tuple", setting("crop_size=(96,", config="camvid"), r"tuple like \(480,640\).*Received: \(96,"),
    (
        "a tuple of one",
        setting("crop_size=(96,)", config="camvid"),
        r"size is a positive int or \(height, width\). Received: \(96,\)",
    ),
    ("method=foo", setting("method=foo", config="fashion"), "`method` must be one of 'softmax'.*method='foo'"),
    ("a config", lambda at: command(at, "--config", "digit"), "No config is named 'digit'. Did you mean 'digits'"),
    (
        "an empty config",
        lambda at: command(at, "--config", ""),
        "short name, or dotted like my_module.my_function. Received: ''",
    ),
    ("a module for a config", lambda at: command(at, "--config", "os.path"), "'os.path' names no function.*module"),
    ("a function that gives none", lambda at: command(at, "--config", "os.getcwd"), "no Experiment. Received: '/"),
    ("a function that gives None", lambda at: command(at, "--config", "gc.enable"), "no Experiment. Received: None"),
    (
        "a name with a dot at its end",
        lambda at: command(at, "--config", "os."),
        "short name, or dotted like .*Received: 'os.'",
    ),
    (
        "a relative name",
        lambda at: command(at, "--config", ".runs.mine"),
        "short name, or dotted like .*Received: '.runs.mine'",
    ),
    ("a file for a module", lambda at: command(at, "--config", "my_runs.py"), "'my_runs.py' names no function: No mod"),
    (
        "a file for the folder of runs",
        lambda at: train.main(["--workdir", str(at / "a file")]),
        "a file.*(not a directory|[Ff]ile exists).*--workdir",
    ),
    (
        "data that are absent",
        setting(config="camvid"),
        "--set root=FOLDER: CamVid as .*folder or zip file with train, trainannot",
    ),
    (
        "an optimizer for a factory",
        prepared(optimizer=keras.optimizers.SGD()),
        "`optimizer` is a function.*Received: <",
    ),
    ("a model for a factory", lambda at: experiment(model=compiled()), "`model` is a function.*Received: <"),
    ("splits for a factory", lambda at: experiment(data=splits()), "`data` is a function.*Received: Splits"),
    ("a class of losses", prepared(loss=losses.CrossEntropyLoss), "`loss` is .*CrossEntropyLoss"),
    ("a task's class", lambda at: experiment(task=Classification), "`task` .*Received: <class .*Classification"),
    ("a score's name", lambda at: experiment(score="log_odds"), "`score` is a function.*Received: 'log_odds'"),
    (
        "a schedule for a factory",
        lambda at: experiment(schedule=keras.optimizers.schedules.CosineDecay(1.0, 9)),
        "`schedule` is",
    ),
    ("a float of epochs", lambda at: experiment(epochs=1.5), "`epochs` .*Received: epochs=1.5"),
    ("a text for a rate", lambda at: experiment(fpr="0.1"), "`fpr` is a rate.*Received: fpr='0.1'"),
    (
        "a head for a factory",
        lambda at: models.classifier(3, compiled, heads.LinearHead(3)),
        "`head` is a function that",
    ),
]


def protocol(*given, **more):
    return lambda at: Protocol(*given, **more)


def cut(**given):
    return lambda at: splits(**given)


PROTOCOLS = [
    ("no known class", protocol(()), "`known` must name at least one class. Received: known="),
    ("a text for names", protocol("cat"), r"`known` is a sequence of class names. Received: 'cat'; did you mean"),
    ("a number for names", protocol(10), "`known` is a sequence of class names. Received: 10"),
    ("numbers for names", protocol((1, 2)), "A class in `known` is a name.*Received: 1"),
    ("names twice", protocol(("a", "a")), r"differ from each other.*Received: \['a', 'a'\] among 2 names"),
    ("two roles", protocol(("a", "b"), ("b",)), "Each class has one role. Received: 'b' in `known` and in `negative`"),
    ("a class named unknown", protocol(("a", "unknown")), "'unknown'.*what is rejected"),
    ("an empty name", protocol(("a", "")), "must not be empty.*Received: .*''"),
    ("a blank name", protocol(("a", " ")), "Received: .*' '"),
    ("a line end in a name", protocol(("a", "b\nc")), r"line ends.*Received: .*'b\\nc'"),
    ("a NUL in a name", protocol(("a", "b\0c")), r"Received: .*'b\\x00c'"),
    ("a tab in a name", protocol(("a", "b\tc")), r"Received: .*'b\\tc'"),
    ("an unheard role for others", protocol(("a",), others="skip"), "`others` is one of error, ignored.*'skip'"),
    ("a class that the source lacks", cut(protocol=Protocol(("a", "bb"))), "source lacks: .*'bb' .did you mean 'b'"),
    ("a class without a role", cut(protocol=Protocol(("a", "b"), ("c",), ("d",))), "no role to classes that occur: e"),
    ("fractions of 1", cut(test_fraction=0.5, calibration_fraction=0.5), "sum be below 1. Received: .*0.5"),
    ("fractions above 1", cut(test_fraction=1.5), r"`test_fraction` must lie in \[0, 1\). Received: 1.5"),
    ("fractions below 0", cut(validation_fraction=-0.1), "`validation_fraction` must lie in .*Received: -0.1"),
    ("a fraction of NaN", cut(test_fraction=float("nan")), "`test_fraction` must lie in .*Received: nan"),
    (
        "a text for classes",
        cut(calibration_classes="d"),
        r"`calibration_classes` is a sequence. Received: 'd'; did you",
    ),
    (
        "a known class calibrates",
        cut(calibration_classes=("a",)),
        r"negative classes of the protocol.*Received: \['a'\]",
    ),
    ("one source twice", lambda at: _twice(), "one source in both `train` and `test`"),
    (
        "no test",
        prepared(data=lambda seed: _digits(test_fraction=0)),
        "no image of a known class.*`test_fraction` > 0. Received: 354 test images",
    ),
    ("no test of pixels", lambda at: _pixels(test_fraction=0), "no image of a known class.*Received: 0 test images"),
    ("nothing calibrates", prepared(data=lambda seed: _digits(calibration_fraction=0)), "calibration.*the split has 0"),
    (
        "no fractions at all",
        prepared(data=lambda seed: _digits(test_fraction=0, calibration_fraction=0)),
        "no image of a known class.*Received: 354 test images",
    ),
    (
        "no negatives",
        prepared(data=lambda seed: _digits(Protocol(("1", "2"), others="ignored"))),
        "learns from negatives",
    ),
    (
        "a known class without images",
        cut(source=sources.arrays(PIXELS[1:3], [1, 2], NAMES)),
        "No training image of .*: a",
    ),
    ("data that are no splits", prepared(data=lambda seed: sources.digits()), "`data` .*Splits.*Received: Source"),
    (
        "copies in train and test",
        prepared(data=lambda seed: _copies()),
        r"1,010 images train and are .*train: digits.0. = test: again.0.\. They are 47.0% of test",
    ),
    ("sets for a task of classes", prepared(data=lambda seed: _sets()), "Classification.*'class'.*Received.*'classes'"),
    ("pixels that are none", prepared(task=Segmentation()), "Segmentation.*'mask'.*Received.*'class'"),
    ("classes for a task of sets", prepared(task=MultiLabel()), "MultiLabel.*'classes'.*Received.*'class'"),
    (
        "a split that is none",
        lambda at: Split("dev", sources.digits(), data.protocols.digits()),
        "`name` is one of train, validation, calibration, test. Received: name='dev'",
    ),
]


def _twice():
    source = sources.arrays(PIXELS, LABELS, NAMES)
    splits(source, test=source)


def _digits(protocol=None, **given):
    return data.split(protocol or data.protocols.digits(), sources.digits(), **given)


def _copies():
    digits = sources.digits()
    again = sources.arrays(digits.array, digits.labels, digits.class_names, name="again")
    return _digits(test=again)


def _pixels(**given):
    source = sources.arrays(PIXELS, masks=PIXELS[..., 0] % 2, class_names=["road", "void"])
    Segmentation().check(experiment(), data.split(Protocol(["road"], ["void"]), source, **given))


def _sets():
    sets = np.eye(5, dtype=bool)[LABELS]
    return splits(sources.arrays(PIXELS, sets, NAMES), protocol=Protocol(("a", "b", "c", "d", "e")))


RUNS = [
    ("no such run", lambda at: loaded(at, "x"), "x is no finished run: there is no such directory"),
    ("a file for a run", lambda at: loaded(at, "a_file"), "a_file is no finished run: it is a file"),
    ("an empty folder", lambda at: loaded(at, "nothing"), "no finished run: it lacks model.keras and calibration.json"),
    ("no model", lambda at: loaded(at, "no_model"), "it lacks model.keras"),
    ("a model cut short", lambda at: loaded(at, "cut_model"), "Keras cannot read .*cut_model/model.keras"),
    ("a model of 0 bytes", lambda at: loaded(at, "zero_model"), "Keras cannot read .*zero_model/model.keras"),
    ("no calibration", lambda at: loaded(at, "no_calibration"), "it lacks calibration.json"),
    ("a damaged calibration", lambda at: loaded(at, "cut_calibration"), "calibration.json is damaged"),
    ("a class fewer", lambda at: loaded(at, "a_class_fewer"), "mixes two runs: .*each of 3 known classes. Received: "),
    (
        "another score",
        lambda at: loaded(at, "another_score"),
        "mixes two runs: .*score 'log_odds', not for 'max_logit'",
    ),
    ("of another run", lambda at: loaded(at, "another_run"), "mixes two runs: calibration.json is for model sha256:0"),
    ("resume: no such run", lambda at: _resume(at, "x"), "x is no run: it lacks config.json"),
    ("resume: a file", lambda at: _resume(at, "a_file"), "a_file is no run"),
    ("resume: no config", lambda at: _resume(at, "no_config"), "no_config is no run: it lacks config.json"),
    ("resume: a damaged config", lambda at: _resume(at, "bad_config"), "bad_config/config.json is damaged"),
    ("resume: a config that is a list", lambda at: _resume(at, "list_config"), "list_config/config.json is damaged"),
    ("resume: no command", lambda at: _resume(at, "no_command"), "does not tell how the run was made.*In Python"),
    ("resume: a finished run", lambda at: _resume(at, "run"), "is finished.*judges it again"),
    ("judge: no such run", lambda at: _judge(at, "x"), "Not judged. .*there is no such directory"),
    ("judge: a file", lambda at: _judge(at, "a_file"), "Not judged. .*a_file"),
    ("judge: no config", lambda at: _judge(at, "no_config"), "config.json does not tell by which config.*--config"),
    ("judge: a damaged config", lambda at: _judge(at, "bad_config"), "Not judged. .*config.json is damaged"),
    ("judge: no model", lambda at: _judge(at, "no_model"), "Not judged. .*lacks model.keras"),
    (
        "judge: other classes",
        lambda at: _judge(at, "run"),
        r"answers with \['a', 'b', 'c'\]; these splits know \['0', ",
    ),
    ("judge: an unknown setting", lambda at: _judge(at, "run", "--set", "fbr=0.2"), "Not judged. .*Did you mean 'fpr'"),
    (
        "judge: data that are none",
        lambda at: _judge(at, "run", "--data", "builtins.str"),
        "Not judged. `data` gives `data.Splits`.*Received: '0'",
    ),
    ("export: no such run", lambda at: _export(at, "x"), "Not exported. .*there is no such directory"),
    ("export: a damaged model", lambda at: _export(at, "cut_model"), "Not exported. Keras cannot read"),
    (
        "export: onto a file",
        lambda at: _export(at, "run", "--output", str(at / "a file")),
        "never overwrites.*a file ex",
    ),
    ("export: of two runs", lambda at: _export(at, "another_run"), "Not exported. .*mixes two runs"),
]


def _resume(at, name):
    train.main(["--resume", str(at / "runs_there" / name)])


def _judge(at, name, *more):
    judge.main([str(at / "runs_there" / name), *more])


def _export(at, name, *more):
    export.main([str(at / "runs_there" / name), *more])


PREDICTION = [
    ("text", ask(np.full((2, 8, 8, 1), "x")), "integers or floats, pixels 0..255. Received: dtype=<U1"),
    ("objects", ask(PIXELS.astype(object)), "integers or floats.*dtype=object"),
    ("booleans", ask(PIXELS > 9), "integers or floats.*dtype=bool"),
    ("other channels", ask(np.zeros((2, 8, 8, 3))), r"shape \(N, 8, 8, 1\). Received: \(2, 8, 8, 3\)"),
    ("no batch", ask(PIXELS[0]), r"Received: \(8, 8, 1\). Add a batch axis"),
    ("no channels", ask(PIXELS[0, ..., 0]), r"\(N, 8, 8, 1\). Received: \(8, 8\)"),
    ("channels first", ask(np.zeros((2, 1, 8, 8))), r"Received: \(2, 1, 8, 8\). Channels come last"),
    ("another size", ask(np.zeros((2, 9, 8, 1))), r"Received: \(2, 9, 8, 1\)"),
    ("nothing", ask(None), "integers or floats.*dtype=object"),
    ("a number", ask(3.0), r"Received: \(\)"),
    ("lists of other lengths", ask([[1, 2], [3]]), "integers or floats|one size"),
    ("a batch size of 0", ask(PIXELS, batch_size=0), "`batch_size`.*0"),
    ("a batch size below 0", ask(PIXELS, batch_size=-2), "`batch_size`.*-2"),
]

TABLE = {
    "files": FILES,
    "arrays": ARRAYS,
    "fit": FIT,
    "settings": SETTINGS,
    "protocols": PROTOCOLS,
    "runs": RUNS,
    "prediction": PREDICTION,
}
NAMES_OF_ERRORS = {ValueError, TypeError, FileNotFoundError, FileExistsError, OSError, FloatingPointError, SystemExit}


@pytest.fixture(autouse=True)
def as_before():
    """Commands change how the process takes signals and where it looks for modules."""
    handlers, path = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}, [*sys.path]
    yield
    sys.path[:] = path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def tree(at):
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in at.rglob("*")}


@pytest.mark.parametrize(
    ("call", "says"),
    [pytest.param(*row[1:], id=f"{kind}: {row[0]}") for kind, rows in TABLE.items() for row in rows],
)
def test_a_mistake_gets_a_sentence_and_leaves_nothing(zoo, call, says):
    before = tree(zoo)
    with pytest.raises(tuple(NAMES_OF_ERRORS | {KeyError})) as told:
        call(zoo)
    assert type(told.value) in NAMES_OF_ERRORS  # no error of Python's, which speaks of the package's own lines
    sentence = data.sentence(told.value)
    assert re.search(says, sentence, re.DOTALL), sentence
    assert "Traceback" not in sentence
    assert len(sentence) < 1500
    assert tree(zoo) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_nobody_may_read(zoo):
    with pytest.raises(ValueError, match=r"locked/cat/1\.png cannot be read: Permission denied"):
        look(sources.folder(zoo / "locked"))


STRANGE = [
    "two words",
    "a/b",
    "Straße",
    "$20 bill$",
    "$\\frac$",
    "<script>alert(1)</script>",
    "c" * 60,
    "'; --",
    "%s",
    "-1",
]


def test_files_and_folders_with_strange_names_are_read(tmp_path):
    names = [name for name in [*STRANGE, "猫", "a\nb"] if "/" not in name]
    for name in names:
        _save(tmp_path / name / f"{name}.png", PIXELS[0, ..., 0])
    source = sources.folder(tmp_path, channels=1)
    assert source.class_names == tuple(sorted(names))
    look(source, Protocol(STRANGE[:1], others="negative"))
    for example, file in zip(source.examples(), source.files, strict=True):
        np.testing.assert_array_equal(example["image"], PIXELS[0])
        assert os.path.basename(file).removesuffix(".png") in names


def test_names_that_are_only_strange_are_kept_and_drawn():
    protocol = Protocol(STRANGE, ("猫",), ("$",))
    assert Protocol.from_json(protocol.to_json()).class_names == tuple(STRANGE)
    labels, number = np.arange(48) % 12, len(STRANGE)
    source = sources.arrays(PIXELS[labels], labels, [*STRANGE, "猫", "$"])
    assert splits(source, protocol, validation_fraction=0).class_names == tuple(STRANGE)
    map_ = np.arange(number * 4).reshape(number, 4) // 4
    answer = {"argmax": map_, "known_argmax": map_, "score": map_ + 1.0}
    found = np.ones((1, number))
    for figure in (
        plots.accepted_unknowns(PIXELS[:number], STRANGE, STRANGE, np.ones(number)),
        plots.oscr({name: (np.array([1.0, 0.1]), np.array([0.9, 0.5])) for name in STRANGE}),
        plots.panels(np.zeros((number, 4, 3)), map_, answer, STRANGE, threshold=0.0),
        plots.pixel_features(np.eye(number), np.arange(number), STRANGE),
        plots.activation_maps(PIXELS[:1], np.ones((1, 2, 2, number)), found > 0, found, STRANGE, columns=number),
    ):
        plots.to_png(figure)
        drawn = {text.get_text(): text.get_parse_math() for text in figure.findobj(Text)}
        for name in STRANGE[:6]:
            assert [kept for text, kept in drawn.items() if name[:15] in text] == [False]


def test_a_backend_that_runs_do_not_know_is_told_at_once():
    """`KERAS_BACKEND=jax python train.py`, with a jax or without one."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = subprocess.run([sys.executable, "train.py"], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.stderr == "train.py: runs need KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND=jax\n"


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (PIXELS.astype("float32") / 255, r"look scaled to 0\.\.1; the model takes raw pixels, 0\.\.255"),
        (
            PIXELS.astype("uint16") * 257,
            r"from 0 to \d+; the model takes raw pixels, 0\.\.255. Divide those of 16 bits by 257",
        ),
        (PIXELS.astype("int32") - 200, r"from -200 to \d+; the model takes raw pixels"),
        (np.where(PIXELS == 7, np.inf, PIXELS * 4.0), r"from 0 to \d+; the model takes raw pixels"),
    ],
)
def test_pixels_of_another_range_are_warned_of(zoo, images, says):
    with pytest.warns(UserWarning, match=says):
        answer = loaded(zoo).predict(images)
    inside = ((images >= -255) & (images <= 510)).all((1, 2, 3))  # what is far outside is no image, and is refused
    np.testing.assert_array_equal(answer["valid"], inside)
    assert not answer["known"][~inside].any()


def test_a_row_of_nan_spoils_no_other_and_no_image_is_no_mistake(zoo):
    images = PIXELS[:3].astype("float32")
    images[1, 0, 0] = np.nan
    answer = loaded(zoo).predict(images)
    assert answer["valid"].tolist() == [True, False, True]
    assert answer["class_name"][1] == "unknown"
    assert np.isfinite(answer["score"]).all()
    assert len(loaded(zoo).predict(PIXELS[:0])["class_id"]) == 0


def test_a_few_copies_are_told_and_many_are_refused(capsys):
    """Up to 1 % of a split, as in large data sets: more make its figures worthless."""
    images = RANDOM.integers(0, 256, (600, 4, 4, 1), "uint8")
    source = lambda start, name: sources.arrays(images[start : start + 300], np.arange(300) % 5, NAMES, name)  # noqa: E731
    for start, copies in ((300, 0), (297, 3), (290, 10)):
        parts = data.split(ROLES, source(0, "one"), source(start, "two"), calibration_fraction=0, validation_fraction=0)
        told = [own for own in data.find_copies(parts, decode=False) if own[0].startswith("train")]
        assert told == [own for own in data.find_copies(parts) if own[0].startswith("train")]
        assert bool(told) == bool(copies)
        if copies < 4:
            Classification().check_copies(parts)
            assert ("Note: " in capsys.readouterr().out) == bool(told)
        else:
            with pytest.raises(ValueError, match="of test, whose figures would be worthless"):
                Classification().check_copies(parts)


def test_files_that_are_copied_under_other_names_are_found_without_reading_all(tmp_path, monkeypatch):
    for part, name in (("one", "a"), ("two", "b")):
        for number in range(3):
            _save(tmp_path / part / "a" / f"{name}{number}.png", RANDOM.integers(0, 256, (6, 5 + number, 3), "uint8"))
    shutil.copy(tmp_path / "one/a/a1.png", tmp_path / "two/a/z.png")
    parts = [
        Split(name, sources.folder(tmp_path / own), Protocol(["a"]))
        for name, own in (("train", "one"), ("test", "two"))
    ]
    expected = [(f"train: {tmp_path}/one/a/a1.png", f"test: {tmp_path}/two/a/z.png")]
    assert data.find_copies(parts) == expected
    monkeypatch.setattr(sources.Source, "examples", None)
    assert data.find_copies(parts, decode=False) == expected


def test_a_torn_file_is_met_before_a_run_and_a_damaged_one_by_a_check(tmp_path):
    for number in range(60):
        pixels = RANDOM.integers(0, 256, (8, 8, 3), "uint8")
        _save(tmp_path / NAMES[number % 5] / f"{number:03}.png", pixels)
    parts = data.split(ROLES, sources.folder(tmp_path))
    torn, damaged = (str(file) for file in sorted(parts.train.source.files)[7:9])
    for file, change in ((torn, lambda raw: raw[:-20]), (damaged, lambda raw: raw[:60] + bytes(40) + raw[100:])):
        with open(file, "rb") as opened:
            raw = opened.read()
        with open(file, "wb") as opened:
            opened.write(change(raw))
    assert data.check(parts, sample=2) == [f"{torn} is damaged, or no image."]
    assert sorted(data.check(parts)) == sorted(f"{file} is damaged, or no image." for file in (torn, damaged))


def test_the_check_of_a_command_line_reads_all_and_writes_nothing(tmp_path, capsys):
    train.main(["--workdir", str(tmp_path / "runs"), "--check"])
    assert "All 1,797 images can be read. It took " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_process_ends_when_only_training_meets_a_bad_mask(layouts, tmp_path):
    """An iterator of tf.data, kept alive by a traceback, once kept the process from its end."""
    root = layouts.camvid(tmp_path / "set", train=120, val=20, test=20)
    masks = sorted((root / "trainannot").glob("*.png"))
    layouts.write_image(masks[5], np.full([32, 40], 77, "uint8"))  # not among those that a run reads first
    settings = [f"root={root}", "width=64", "steps=4", "interval=2", "fpr=0.6"]
    words = [word for item in settings for word in ("--set", item)]
    command = [sys.executable, "train.py", "--workdir", str(tmp_path / "runs"), "--config", "camvid", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert f"train.py: Mask values outside the protocol camvid_open in {masks[5]}: 77 (1280 pixels)" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "runs").iterdir())
