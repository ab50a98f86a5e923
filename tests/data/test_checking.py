"""Checks of data before training: damaged files, bad masks, copies; and the sentence of an error."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras import data
from cplus1_keras.data import Protocol, Split, protocols, sources, split


@pytest.fixture
def camvid(layouts, tmp_path):
    return layouts.camvid(tmp_path / "späte Fahrt's", train=12, val=0, test=3)


def test_all_problems_are_named_in_one_sentence_each(layouts, camvid):
    (camvid / "train/0001_00002.png").write_bytes(b"")
    layouts.write_image(camvid / "trainannot/0001_00005.png", np.full([32, 40], 77, "uint8"))
    layouts.write_image(camvid / "testannot/0001_00001.png", np.zeros([5, 7], "uint8"))
    splits = split(protocols.camvid(), sources.camvid(camvid), sources.camvid(camvid, "test"))
    problems = data.check(splits)
    damaged, sizes, value = sorted(problems)
    assert damaged == f"{camvid}/train/0001_00002.png is damaged, or no image."
    assert sizes.startswith("A mask has the size of its image. Received: image 40 x 32, mask 7 x 5 (width x height)")
    assert f"{camvid}/testannot/0001_00001.png" in sizes
    assert value.startswith("Mask values outside the protocol camvid in ")
    assert f"{camvid}/trainannot/0001_00005.png: 77 (1280 pixels); 1280 of 1280 pixels." in value


def test_a_sample_is_spread_evenly(layouts, camvid):
    (camvid / "train/0001_00011.png").write_bytes(b"")
    part = Split("train", sources.camvid(camvid), protocols.camvid())
    assert len(data.check([part], sample=2)) == 1  # the first and the last
    assert data.check([part.subset(range(11))]) == []


def test_files_that_are_gone_and_streams(layouts, camvid):
    part = Split("train", sources.camvid(camvid), protocols.camvid())
    (camvid / "train/0001_00003.png").unlink()
    (problem,) = data.check([part])
    assert problem.endswith("0001_00003.png cannot be read: No such file or directory.")
    masks = tf.constant(np.full([6, 2, 2], 5, "int32"))
    source = sources.Source(
        ["a"],
        kind="mask",
        name="flow",
        stream=tf.data.Dataset.from_tensor_slices,
        decode=lambda index: {"image": tf.zeros([2, 2, 3], tf.uint8), "mask": masks[index]},
        count=6,
    )
    assert data.check([Split("train", source, Protocol(["a"]))]) == [
        "Mask values outside the protocol in flow[0]: 5 (4 pixels); 4 of 4 pixels. Give them a role in the protocol, "
        "or correct the mask."
    ]


def test_copies_are_found_by_their_pixels(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 3)):
        (tmp_path / part / "a").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (5, 6, 3), "uint8")).save(tmp_path / part / "a" / f"{number}.png")
    copy = Image.open(tmp_path / "train/a/2.png")
    copy.save(tmp_path / "test/a/other.webp", lossless=True)
    splits = [Split(part, sources.folder(tmp_path / part), Protocol(["a"])) for part in ("train", "test")]
    assert data.find_copies(splits) == [(f"train: {tmp_path}/train/a/2.png", f"test: {tmp_path}/test/a/other.webp")]
    assert data.find_copies(splits[:1]) == []


@pytest.mark.parametrize("graph", [True, False])
def test_the_sentence_of_an_error(graph):
    def fail(text):
        tf.debugging.Assert(text == "", [text])
        return text

    text = "Größe [3] of 'a\nb.png': \"no\""
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        (tf.function(fail) if graph else fail)(tf.constant(text))
    assert data.sentence(caught.value) == text
    assert data.sentence(ValueError("plain")) == "plain"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda images: images / 255,
            "Pixels lie in 0..255, and those of own look scaled to 0..1. Multiply them by 255.",
        ),
        (lambda images: images * 300, "Pixels lie in 0..255. Received: 0 to 76500 in own[0]."),
        (lambda images: images - 128, "Pixels lie in 0..255. Received: -128 to 127 in own[0]."),
        (lambda images: np.where(np.arange(6)[:, None, None, None] == 4, np.nan, images), "NaN or infinity in own[4]."),
        (lambda images: images, None),
        (lambda images: images * 0, None),  # black is no mistake
        (lambda images: (images / 255).astype("uint8"), None),
    ],
)
def test_pixels_of_another_range_are_told(stream, change, told):
    images = np.tile(np.array([0.0, 255.0, 7.0, 9.0], "float32").reshape(1, 2, 2, 1), [6, 1, 1, 1])
    images = change(images)
    images = tf.constant(images, None if images.dtype == np.uint8 else tf.float32)
    read = lambda index: {"image": tf.gather(images, index)}  # noqa: E731
    way = {"stream": tf.data.Dataset.from_tensor_slices, "decode": read} if stream else {"read": read}
    source = sources.Source(["a"], [0] * 6, name="own", dtype=images.dtype, shape=(2, 2, 1), **way)
    problems = data.check([Split("train", source, Protocol(["a"]))])
    assert len(problems) == (told is not None)
    assert all(problem.endswith(told) for problem in problems), problems
