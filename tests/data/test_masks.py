"""Masks against the files themselves, in every kind of png, the published layouts, and damaged data."""

import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras.data import Protocol, Split, protocols, sources, split
from cplus1_keras.data.names import mask_names
from cplus1_keras.data.reading import mask_reader


def read(source):
    return list(source.examples().as_numpy_iterator())


def values(source):
    return [np.unique(example["mask"]).tolist() for example in read(source)]


def read_mask(path):
    return mask_reader([path])(tf.constant(0, tf.int64)).numpy()


def test_frames_of_a_video_stay_together(tmp_path):
    for name in ("a1", "b1", "a2", "b2", "c1"):
        for kind, shape in {"images": (4, 4, 3), "masks": (4, 4)}.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(np.zeros(shape, "uint8")).save(tmp_path / kind / f"{name}.png")
    source = sources.folder(tmp_path / "images", tmp_path / "masks", group=lambda name: name[0])
    assert (source.ids, source.groups) == (("a1", "a2", "b1", "b2", "c1"), tuple("aabbc"))
    parts = split(Protocol(["0"]), source, calibration_fraction=0.34, test_fraction=0.33)
    homes = [{name[0] for name in part.source.ids} for part in (parts.train, parts.calibration, parts.test)]
    assert [len(home) for home in homes] == [1, 1, 1]
    assert set.union(*homes) == {"a", "b", "c"}


def test_folder_reads_camvid_as_pil_does(camvid_files):
    source = sources.camvid(camvid_files)
    assert len(source) == 6
    for name, example in zip(source.ids, read(source), strict=True):
        with (
            Image.open(camvid_files / f"train/{name}.jpg") as image,
            Image.open(camvid_files / f"trainannot/{name}.png") as mask,
        ):
            np.testing.assert_array_equal(example["image"], np.asarray(image))
            np.testing.assert_array_equal(example["mask"], np.asarray(mask))
        assert (example["image"].dtype, example["mask"].dtype) == (np.uint8, np.int32)
        assert example["mask"].max() <= 11


def test_real_masks_become_labels(camvid_files):
    part = Split("test", sources.camvid(camvid_files, "test"), protocols.camvid_open())
    table = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: -1, 6: 5, 7: -2, 8: 6, 9: 7, 10: -2, 11: -100}
    for stored, example in zip(read(part.source), part.dataset().as_numpy_iterator(), strict=True):
        expected = np.vectorize(table.get)(stored["mask"])
        np.testing.assert_array_equal(example["labels"], expected)


def test_voc_reads_indices_of_the_palette(layouts, tmp_path):
    source = sources.voc(layouts.voc(tmp_path), "train")
    assert source.ids == tuple(f"2007_{k:06d}" for k in range(4))
    allowed = set(mask_names("voc"))
    for found, file in zip(values(source), source.mask_files, strict=True):
        assert set(found) <= allowed
        assert found == np.unique(np.asarray(Image.open(file))).tolist()
        # What this test guards against: TensorFlow's decoder gives colours.
        decoded = tf.io.decode_png(tf.io.read_file(file), channels=1)
        assert set(np.unique(decoded)) - allowed
    assert len(sources.voc(tmp_path / "VOCdevkit/VOC2012", "trainval")) == 6


def test_augmented_voc_is_train_and_then_what_only_sbd_has(layouts, tmp_path):
    devkit = layouts.voc(tmp_path)
    with pytest.raises(FileNotFoundError, match="convert_sbd"):
        sources.voc(devkit, "trainaug")
    sbd = layouts.sbd(tmp_path, devkit)
    assert sources.convert_sbd(sbd, devkit) == (3, 7)
    source = sources.voc(devkit, "trainaug")
    new = [f"2009_{k:06d}" for k in range(3)]
    assert source.ids == (*(f"2007_{k:06d}" for k in range(4)), *new)
    assert not set(source.ids) & set(sources.voc(devkit, "val").ids)
    assert ["SegmentationClassAug" in file for file in source.mask_files] == [False] * 4 + [True] * 3
    from scipy import io

    for index, name in enumerate(new, 4):
        expected = io.loadmat(sbd / f"dataset/cls/{name}.mat")["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(read(source)[index]["mask"], expected)
    (devkit / "VOC2012/ImageSets/Segmentation/aug.txt").unlink()
    assert sources.voc(devkit, "trainaug").ids == source.ids
    val = sources.voc(devkit, "val").ids
    (devkit / "VOC2012/ImageSets/Segmentation/aug.txt").write_text("\n".join([*new, *val]))  # a list of somebody's own
    assert sources.voc(devkit, "trainaug").ids == source.ids
    (sbd / "dataset/cls/2009_000001.mat").write_bytes(b"MATLAB 5.0 broken")
    (devkit / "VOC2012/SegmentationClassAug/2009_000001.png").unlink()
    with pytest.raises(ValueError, match=r"2009_000001\.mat is damaged"):
        sources.convert_sbd(sbd, devkit)


def test_context_and_cityscapes(layouts, tmp_path):
    source = sources.context(layouts.context(tmp_path), "val")
    assert len(source) == 2
    assert set().union(*values(source)) <= set(mask_names("context"))
    source = sources.cityscapes(layouts.cityscapes(tmp_path), "train")
    assert source.ids[0] == "aachen/aachen_000000_000019"
    assert set().union(*values(source)) == {0, 7, 24, 26, 33}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_lip_in_each_published_layout(layouts, tmp_path, nested, lists):
    root = layouts.lip(tmp_path, nested=nested, lists=lists)
    source = sources.lip(root, "train")
    assert source.ids == ("0_1000", "1_1001", "2_1002", "3_1003")
    assert set().union(*values(source)) <= set(range(20))
    assert len(sources.lip(root, "val")) == 2
    with pytest.raises(ValueError, match="one of train, val"):
        sources.lip(root, "test")


def grey_png(path, pixels, bits):
    """A grey png of 2 or 4 bits, which PIL does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].reshape(-1)).tobytes() for row in pixels
    )
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_masks_of_few_bits_keep_their_values(tmp_path, bits):
    pixels = np.arange(12, dtype="uint8").reshape(3, 4) % 2**bits
    grey_png(tmp_path / "m.png", pixels, bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), pixels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_all_sizes_give_their_indices(tmp_path, bits):
    pixels = np.random.default_rng(0).integers(0, 2**bits, (7, 11), "uint8")
    picture = Image.fromarray(pixels, "P")
    # One colour twice, another transparent: only the index tells them apart.
    picture.putpalette([value for k in range(2**bits) for value in (k // 2, 40, 200)])
    picture.save(tmp_path / "m.png", bits=bits, transparency=1)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), pixels)


def test_masks_of_other_files_and_of_16_bits(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (7, 11)).astype("uint16")
    Image.fromarray(pixels).save(tmp_path / "m.png")
    Image.fromarray(pixels).save(tmp_path / "m.tif")
    Image.fromarray((pixels % 256).astype("uint8")).save(tmp_path / "m.bmp")
    Image.fromarray(pixels % 2 == 1).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), pixels)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), pixels)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.bmp"), pixels % 256)
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), pixels % 2)
    Image.fromarray((pixels % 256).astype("uint8")).save(tmp_path / "m.jpg")
    (tmp_path / "m.jpg").rename(tmp_path / "lossy.png")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"lossy\.png is damaged, or no png"):
        read_mask(tmp_path / "lossy.png")


def test_value_outside_the_protocol_is_named(layouts, tmp_path):
    camvid = sources.camvid(layouts.camvid(tmp_path))
    part = Split(
        "train", camvid, Protocol(["sky", "road"], name="two", ignored=list(mask_names("camvid").values())[4:])
    )
    mask = read(camvid)[0]["mask"]
    ones, twos = (mask == 1).sum(), (mask == 2).sum()
    message = rf"outside the protocol two in .*0001_00000\.png: 1 \({ones} pixels\), 2 \({twos} pixels\); "
    with pytest.raises(tf.errors.InvalidArgumentError, match=message + f"{ones + twos} of 1280 pixels"):
        next(iter(part.dataset()))
    source = sources.arrays(np.zeros([1, 2, 2], "uint8"), masks=[[[-3, 70000], [0, 70000]]], class_names=["a"])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"-3 \(1 pixels\), 70000 \(2 pixels\); 3 of 4"):
        next(iter(Split("train", source, Protocol(["a"])).dataset()))


def test_masks_that_do_not_fit_are_refused_however_they_come():
    images = np.zeros([2, 14, 7, 3], "uint8")
    with pytest.raises(ValueError, match="2 images, 1 masks"):
        sources.arrays(images, masks=np.zeros([1, 14, 7], int))
    with pytest.raises(ValueError, match="of integers"):
        sources.arrays(images, masks=np.zeros([2, 14, 7]))

    def read(shape):  # without static shapes, as a generator has none
        return lambda index: {"image": tf.gather(images, index), "mask": tf.zeros(tf.constant(shape) + 0, tf.int32)}

    for shape in ([2, 1], [7, 14], [28, 14]):
        source = sources.Source(["a"], kind="mask", name="own", read=read(shape), count=2)
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"image 7 x 14, mask {shape[1]} x {shape[0]}"):
            next(iter(Split("train", source, Protocol(["a"])).dataset()))
        with pytest.raises(ValueError, match=rf"its image, \(14, 7\). Received: masks of \({shape[0]}, {shape[1]}\)"):
            sources.arrays(images, masks=np.zeros([2, *shape], int), class_names=["a"])


@pytest.fixture
def pairs(layouts, tmp_path):
    root = layouts.camvid(tmp_path)
    return root / "train", root / "trainannot"


def test_image_without_mask(pairs):
    (pairs[1] / "0001_00002.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images .* have no mask, such as .*train/0001_00002\.png"):
        sources.folder(*pairs)
    (pairs[0] / "0001_00002.png").unlink()
    (pairs[0] / "0001_00001.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 masks .* have no image, such as .*trainannot/0001_00001\.png"):
        sources.folder(*pairs)


def test_mask_of_another_size(pairs, layouts):
    layouts.write_image(pairs[1] / "0001_00002.png", np.zeros([5, 7], "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 40 x 32, mask 7 x 5 .*0001_00002\.png"):
        list(Split("train", sources.folder(*pairs), Protocol(["0"], others="ignored")).dataset())


@pytest.mark.parametrize("which", [0, 1])
def test_damaged_file_is_named(pairs, which):
    path = pairs[which] / "0001_00001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(str(path)) + " is damaged"):
        read(sources.folder(*pairs))


def test_colour_mask_is_refused(pairs, layouts):
    layouts.write_image(pairs[1] / "0001_00000.png", np.zeros([32, 40, 3], "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0001_00000\.png: a mask is a grey image .* in colour"):
        read(sources.folder(*pairs))
    Image.open(pairs[1] / "0001_00000.png").save(pairs[1] / "0001_00000.tif")
    (pairs[1] / "0001_00000.png").unlink()
    with pytest.raises(ValueError, match=r"0001_00000\.tif: a mask is a grey image .* mode RGB"):
        sources.folder(*pairs)


def test_listed_file_that_is_missing(layouts, tmp_path):
    devkit = layouts.voc(tmp_path)
    (devkit / "VOC2012/SegmentationClass/2008_000001.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 listed names have no mask.*2008_000001\.png"):
        sources.voc(devkit, "val")
    with pytest.raises(FileNotFoundError, match="Needs VOC2010"):
        sources.context(devkit)
    with pytest.raises(FileNotFoundError, match="No folder train_images below"):
        sources.lip(devkit)


def test_tfds_streams_masks(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 256, (6 + k, 5, 3), "uint8"), rng.integers(0, 4, (6 + k, 5, 1), "uint8")) for k in range(4)
    ]

    class TinyMasks(tfds.core.GeneratorBasedBuilder):
        """Four images of different sizes."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "mask": tfds.features.Image(shape=(None, None, 1))}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from ((k, {"image": image, "mask": mask}) for k, (image, mask) in enumerate(pairs))

    TinyMasks(data_dir=tmp_path).download_and_prepare()
    source = sources.tfds("tiny_masks", "train", keys=("image", "mask"), data_dir=tmp_path)
    assert (source.kind, len(source), source.random_access) == ("mask", 4, False)
    order = {len(image): (image, mask) for image, mask in pairs}
    found = list(Split("test", source, Protocol(list("0123"))).dataset().as_numpy_iterator())
    assert sorted(len(example["image"]) for example in found) == [6, 7, 8, 9]
    for example in found:
        image, mask = order[len(example["image"])]
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["labels"], mask[..., 0])
    part = read(source.subset([1, 3]))
    assert [len(example["image"]) for example in part] == [len(found[1]["image"]), len(found[3]["image"])]
    with pytest.raises(ValueError, match="must name the image and the mask or label of 'tiny_masks'"):
        sources.tfds("tiny_masks", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"'tiny_masks' is no set of .* by 'image', shape \(None, None, 3\)"):
        sources.tfds("tiny_masks", keys=("image", "image"), data_dir=tmp_path)
    with pytest.raises(ValueError, match="no split 'test'"):
        sources.tfds("tiny_masks", "test", keys=("image", "mask"), data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        sources.tfds("oxford_iiit_pet", data_dir=tmp_path)
    with pytest.raises(ValueError, match="Did you mean oxford_iiit_pet"):
        sources.tfds("oxford_iit_pets", data_dir=tmp_path)
