"""Sources against the files themselves, the published layouts, COCO's shipped masks, and damaged data."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from cplus1_keras.data.segmentation import protocols, sources, splits
from cplus1_keras.data.segmentation.sources.coco import decode_rle
from cplus1_keras.data.segmentation.sources.files import read_mask
from PIL import Image


def values(source):
    return [np.unique(mask).tolist() for _, mask in source.dataset().as_numpy_iterator()]


def test_frames_of_a_video_stay_together(tmp_path):
    for name in ("a1", "b1", "a2", "b2", "c1"):
        for kind, shape in {"images": (4, 4, 3), "masks": (4, 4)}.items():
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(np.zeros(shape, "uint8")).save(tmp_path / kind / f"{name}.png")
    source = sources.folder(tmp_path / "images", tmp_path / "masks", group=lambda name: name[0])
    assert (source.names, source.groups) == (("a1", "a2", "b1", "b2", "c1"), tuple("aabbc"))
    parts = splits.split(protocols.voc(), source, calibration_fraction=0.34, test_fraction=0.33)
    homes = [{name[0] for name in part.source.names} for part in (parts.train, parts.calibration, parts.test)]
    assert [len(home) for home in homes] == [1, 1, 1]
    assert set.union(*homes) == {"a", "b", "c"}


def test_folder_reads_camvid_as_pil_does(camvid_files):
    source = sources.camvid(camvid_files)
    assert len(source) == 6
    for index, (image, mask) in enumerate(source.dataset().as_numpy_iterator()):
        name = source.names[index]
        np.testing.assert_array_equal(image, np.asarray(Image.open(camvid_files / f"train/{name}.jpg"), "float32"))
        np.testing.assert_array_equal(mask, np.asarray(Image.open(camvid_files / f"trainannot/{name}.png"), "int32"))
        assert (image.dtype, mask.dtype) == (np.float32, np.int32)
        assert mask.max() <= 11


def test_voc_reads_indices_of_the_palette(layouts, tmp_path):
    source = sources.voc(layouts.voc(tmp_path), "train")
    assert source.names == tuple(f"2007_{k:06d}" for k in range(4))
    allowed = set(protocols.voc().training_labels())
    for found, file in zip(values(source), source.files, strict=True):
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
    assert source.names == (*(f"2007_{k:06d}" for k in range(4)), *new)
    assert not set(source.names) & set(sources.voc(devkit, "val").names)
    assert ["SegmentationClassAug" in file for file in source.files] == [False] * 4 + [True] * 3
    from scipy import io

    for index, name in enumerate(new, 4):
        expected = io.loadmat(sbd / f"dataset/cls/{name}.mat")["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(source.load(index)[1], expected)
    (devkit / "VOC2012/ImageSets/Segmentation/aug.txt").unlink()
    assert sources.voc(devkit, "trainaug").names == source.names
    val = sources.voc(devkit, "val").names
    (devkit / "VOC2012/ImageSets/Segmentation/aug.txt").write_text("\n".join([*new, *val]))  # a list of somebody's own
    assert sources.voc(devkit, "trainaug").names == source.names
    (sbd / "dataset/cls/2009_000001.mat").write_bytes(b"MATLAB 5.0 broken")
    (devkit / "VOC2012/SegmentationClassAug/2009_000001.png").unlink()
    with pytest.raises(ValueError, match=r"2009_000001\.mat is damaged"):
        sources.convert_sbd(sbd, devkit)


def test_context_and_cityscapes(layouts, tmp_path):
    source = sources.context(layouts.context(tmp_path), "val")
    assert len(source) == 2
    assert set().union(*values(source)) <= set(protocols.context().training_labels())
    source = sources.cityscapes(layouts.cityscapes(tmp_path), "train")
    assert source.names[0] == "aachen/aachen_000000_000019"
    assert set().union(*values(source)) == {0, 7, 24, 26, 33}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("lists", [False, True])
def test_lip_in_each_published_layout(layouts, tmp_path, nested, lists):
    root = layouts.lip(tmp_path, nested=nested, lists=lists)
    source = sources.lip(root, "train")
    assert source.names == ("0_1000", "1_1001", "2_1002", "3_1003")
    assert set().union(*values(source)) <= set(range(20))
    assert len(sources.lip(root, "val")) == 2
    with pytest.raises(ValueError, match="one of train, val"):
        sources.lip(root, "test")


def test_coco_masks_equal_the_shipped_ones(coco_files):
    source = sources.coco(coco_files / "annotations/instances_val.json", coco_files / "val")
    assert len(source) == 66
    crowds = 0
    for index, name in enumerate(source.names):
        shipped = np.asarray(Image.open(coco_files / f"val_masks/{name}.png"))
        np.testing.assert_array_equal(source.load(index)[1], shipped, err_msg=name)
        crowds += (shipped == 255).any()
    assert crowds > 0


def test_coco_layers_and_files(layouts, tmp_path):
    root = layouts.coco(tmp_path)
    source = sources.coco(root / "instances.json", root / "images")
    mask = source.load(0)[1]
    assert (mask[6, 5], mask[10, 10], mask[10, 20], mask[0, 0]) == (1, 2, 1, 0)
    assert (mask[:, -2:] == 255).all()
    assert sources.coco_masks(root / "instances.json", root / "images", root / "masks") == 4
    written = sources.folder(root / "images", root / "masks")
    assert written.names == source.names
    np.testing.assert_array_equal(written.load(0)[1], mask)


def test_coco_crops_hold_their_object_and_stay_with_their_image(layouts, tmp_path):
    root = layouts.coco(tmp_path)
    files = root / "instances.json", root / "images"
    source = sources.coco_objects(*files, values=[2], context=0.5, min_side=6)
    assert (len(source), source.groups[1], source.names[1]) == (4, "000000000001", "000000000001#4")
    image, mask = source.load(1)
    whole_image, whole_mask = sources.coco(*files).load(1)
    np.testing.assert_array_equal(image, whole_image[5:16, 5:17])
    np.testing.assert_array_equal(mask, whole_mask[5:16, 5:17])
    assert len(sources.coco_objects(*files, min_side=7)) == 4
    with pytest.raises(ValueError, match="no object"):
        sources.coco_objects(*files, min_side=1000)
    with pytest.raises(ValueError, match=r"mask values 1 to 2\. Received in `values`: \[3\]"):
        sources.coco_objects(*files, values=[2, 3])


def test_compressed_run_lengths():
    # Written here by the format's definition: groups of 5 bits, the lowest first, bit 5 for more, then the sign; from
    # the fourth run on the difference to the run before the last.
    runs = [3, 40, 2, 35, 900, 20]
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(bits + 32 * more + 48)
    expected = np.repeat([0, 1, 0, 1, 0, 1], runs).reshape(40, 25).T
    np.testing.assert_array_equal(decode_rle(text, 25, 40), expected)
    with pytest.raises(ValueError, match="add up to 3 x 3 = 9"):
        decode_rle([1, 2], 3, 3)


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


@pytest.fixture
def pairs(layouts, tmp_path):
    root = layouts.camvid(tmp_path)
    return root / "train", root / "trainannot"


def test_image_without_mask(pairs):
    (pairs[1] / "0001_00002.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 images .* have no mask, such as .*train/0001_00002\.png"):
        sources.folder(*pairs)


def test_mask_of_another_size(pairs, layouts):
    layouts.write_image(pairs[1] / "0001_00002.png", np.zeros([5, 7], "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image 40 x 32, mask 7 x 5 .*0001_00002\.png"):
        list(sources.folder(*pairs).dataset())


@pytest.mark.parametrize("which", [0, 1])
def test_damaged_file_is_named(pairs, which):
    path = pairs[which] / "0001_00001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(str(path)) + " is damaged"):
        list(sources.folder(*pairs).dataset())


def test_colour_mask_is_refused(pairs, layouts):
    layouts.write_image(pairs[1] / "0001_00000.png", np.zeros([32, 40, 3], "uint8"))
    with pytest.raises(ValueError, match=r"0001_00000\.png: a mask is a grey image .* mode RGB"):
        sources.folder(*pairs).load(0)


def test_listed_file_that_is_missing(layouts, tmp_path):
    devkit = layouts.voc(tmp_path)
    (devkit / "VOC2012/SegmentationClass/2008_000001.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 listed names have no mask.*2008_000001\.png"):
        sources.voc(devkit, "val")
    with pytest.raises(FileNotFoundError, match="Needs VOC2010"):
        sources.context(devkit)
    with pytest.raises(FileNotFoundError, match="No folder train_images below"):
        sources.lip(devkit)


def test_coco_errors(layouts, tmp_path):
    root = layouts.coco(tmp_path)
    layouts.write_image(root / "images/000000000002.jpg", np.zeros([8, 9, 3], "uint8"))
    with pytest.raises(ValueError, match=r"000000000002\.jpg is 9 x 8 .* says 40 x 32"):
        sources.coco(root / "instances.json", root / "images").load(2)
    (root / "images/000000000003.jpg").unlink()
    with pytest.raises(ValueError, match=r"lists 1 images that .* such as 000000000003\.jpg"):
        sources.coco(root / "instances.json", root / "images")
    content = json.loads((root / "instances.json").read_text())
    (root / "instances.json").write_text(json.dumps({"images": content["images"]}))
    with pytest.raises(ValueError, match=r"instances\.json is no COCO json"):
        sources.coco(root / "instances.json", root / "images")


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
    assert (len(source), source.random_access) == (4, False)
    order = {len(image): (image, mask) for image, mask in pairs}
    found = list(source.dataset().as_numpy_iterator())
    assert sorted(len(image) for image, _ in found) == [6, 7, 8, 9]
    for image, mask in found:
        np.testing.assert_array_equal(image, order[len(image)][0])
        np.testing.assert_array_equal(mask, order[len(image)][1][..., 0])
    part = list(source.subset([1, 3]).dataset().as_numpy_iterator())
    assert [len(image) for image, _ in part] == [len(found[1][0]), len(found[3][0])]
    with pytest.raises(ValueError, match="must name the image and the mask of 'tiny_masks'"):
        sources.tfds("tiny_masks", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"'image' of 'tiny_masks' has shape \(None, None, 3\)"):
        sources.tfds("tiny_masks", keys=("image", "image"), data_dir=tmp_path)
    with pytest.raises(ValueError, match="no split 'test'"):
        sources.tfds("tiny_masks", "test", keys=("image", "mask"), data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        sources.tfds("oxford_iiit_pet", data_dir=tmp_path)
    with pytest.raises(ValueError, match="Did you mean oxford_iiit_pet"):
        sources.tfds("oxford_iit_pets", data_dir=tmp_path)


def test_subsets_and_arrays():
    images = [np.full([4, 5, 3], k, "uint8") for k in range(4)]
    source = sources.arrays(images, [np.full([4, 5], k) for k in range(4)], names="abcd").subset([1, 3])
    assert source.names == ("b", "d")
    assert [int(mask[0, 0]) for _, mask in source.dataset()] == [1, 3]
    with pytest.raises(ValueError, match="ascend strictly"):
        source.subset([1, 0])
    with pytest.raises(ValueError, match="4 images, 1 masks"):
        sources.arrays(images, [np.zeros([4, 5], int)])
