"""Sources: every format on real files, one content whichever way it is read, and errors that name the file."""

import gzip
import io
import string
import time
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits

from cplus1_keras.data import Protocol, Split, preprocess, sources

LETTERS = dict(enumerate(string.ascii_lowercase, 1))


def read(source):
    return [example["image"] for example in source.examples().as_numpy_iterator()]


def png_folder(root, classes=("ant", "bee"), each=3, size=(5, 4)):
    generator = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (*size, 3), "uint8")
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def nist(shared, half, kind):
    return shared / f"data/nist_letters/nist-letters-{half}-{kind}.gz"


def nist_idx(shared, half):
    return sources.idx(nist(shared, half, "images-idx3-ubyte"), nist(shared, half, "labels-idx1-ubyte"), LETTERS)


def test_digits_are_those_of_sklearn():
    source = sources.digits()
    bunch = load_digits()
    assert len(source) == 1797
    assert source.class_names == tuple("0123456789")
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert source.array.dtype == np.float32
    assert source.array.max() == 255
    np.testing.assert_allclose(read(source)[7][..., 0], bunch.images[7] * 255 / 16, rtol=1e-6)


def test_idx_and_npz_hold_the_same_letters(shared):
    for half, count in (("train", 3997), ("test", 997)):
        one = nist_idx(shared, half)
        other = sources.npz(
            shared / "data/nist_letters/nist_letters_28x28.npz", f"x_{half}", f"y_{half}", class_names=LETTERS
        )
        assert len(one) == len(other) == count
        assert one.class_names == other.class_names == tuple(string.ascii_lowercase)
        np.testing.assert_array_equal(one.array, other.array)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_plain_idx_equals_gzip(shared, tmp_path):
    paths = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        paths.append(tmp_path / kind)
        paths[-1].write_bytes(gzip.decompress(nist(shared, "test", kind).read_bytes()))
    np.testing.assert_array_equal(sources.idx(*paths, LETTERS).array, nist_idx(shared, "test").array)


def test_npz_with_labels_apart(shared):
    folder = shared / "data/kmnist_test"
    source = sources.npz(
        folder / "kmnist-test-imgs.npz", "arr_0", "arr_0", labels_path=folder / "kmnist-test-labels.npz"
    )
    assert source.shape == (28, 28, 1)
    np.testing.assert_array_equal(np.bincount(source.labels), [1000] * 10)


def test_damaged_and_missing_files_are_named(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    labels.write_bytes(b"\0\0\x08\x01\0\0\0\x02ab")
    good = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x01xy"
    images.write_bytes(good)
    assert len(sources.idx(images, labels)) == 2
    with pytest.raises(ValueError, match="exchanged"):
        sources.idx(labels, images)
    for damaged, message in (
        (good[:-1], "images is damaged: shape .2, 1, 1. needs 2 bytes, there are 1"),
        (good + b"z", "images is damaged"),
        (b"\x1f\x8b" + good, "images is damaged"),
        (gzip.compress(good * 50)[:-20], "images is damaged"),
        (b"", "images is no idx file"),
        (b"<html>", "images is no idx file"),
        (b"\0\0\x08\x03\0\0", "images is damaged"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0\x01x", "1 images in .*images, 2 in .*labels"),
    ):
        images.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            sources.idx(images, labels)
    with pytest.raises(FileNotFoundError, match="absent"):
        sources.idx(tmp_path / "absent", labels)
    archive = tmp_path / "a.npz"
    np.savez_compressed(archive, x=np.zeros([2, 4, 4], "uint8"), y=np.array([0, 1]))
    assert len(sources.npz(archive, "x", "y")) == 2
    with pytest.raises(ValueError, match=r"a\.npz has no array 'images'. It has: x, y"):
        sources.npz(archive)
    whole = archive.read_bytes()
    for damaged in (whole[:100], whole[:60] + b"\0" * 40 + whole[100:], b"", b"junk" * 9):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz is damaged"):
            sources.npz(archive, "x", "y")


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (np.zeros([2, 4, 4], "uint8"), [0], None, "2 images, 1 labels"),
        (np.zeros([4, 4], "uint8"), [0, 1, 2, 3], None, "shape"),
        (np.ones([2, 4, 4], "float32"), [0, 1], None, "Multiply by 255"),
        (np.linspace(-2, 2, 32).reshape(2, 4, 4), [0, 1], None, "Undo the normalisation"),
        (np.full([2, 4, 4], np.nan), [0, 1], None, "Received: nan"),
        (np.zeros([2, 4, 4], "uint8"), [0, 5], ["a", "b"], "must lie in 0 to 1"),
        (np.zeros([2, 4, 4], "uint8"), [0, 5], {0: "a"}, r"labels \[5\] have no name"),
        (np.zeros([2, 4, 4], "uint8"), [0.0, 1.0], ["a", "b"], "one integer label"),
        (np.zeros([2, 4, 4], "uint8"), [0, 1], ["a", "a"], "must differ"),
        (np.zeros([2, 4, 4], "uint8"), [[0, 1], [2, 0]], ["a", "b"], r"\(N, 2\) of 0 and 1"),
        (np.zeros([2, 4, 4], "uint8"), [[0, 1], [1, 0]], ["a", "b", "c"], r"\(N, 3\) of 0 and 1"),
        (np.zeros([2, 4, 4], "uint8"), None, None, "either `labels` or `masks`"),
        (np.zeros([0, 4, 4], "uint8"), [], None, "at least one"),
    ],
)
def test_bad_arrays_are_refused(images, labels, names, message):
    with pytest.raises(ValueError, match=message):
        sources.arrays(images, labels, names)


def test_folder_reads_what_pil_reads(tmp_path):
    source = sources.folder(png_folder(tmp_path / "insects"))
    assert source.class_names == ("ant", "bee")
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.describe(4).endswith("1.png")
    for image, path in zip(read(source), source.files, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
    grey = sources.folder(tmp_path / "insects", channels=1)
    assert read(grey)[0].shape == (5, 4, 1)


def test_a_damaged_image_is_named_when_read(tmp_path):
    root = png_folder(tmp_path / "insects")
    target = root / "bee" / "1.png"
    whole = target.read_bytes()
    jpeg = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), "uint8")).save(jpeg, "jpeg")
    for damaged in (whole[: len(whole) // 2], b"", b"<html>404</html>", jpeg.getvalue()[:700]):
        target.write_bytes(damaged)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"bee/1\.png is damaged, or no image"):
            read(sources.folder(root))
    lazily = sources.folder(root)
    target.unlink()
    with pytest.raises(tf.errors.NotFoundError, match=r"bee/1\.png"):
        read(lazily)


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        sources.folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no folders"):
        sources.folder(tmp_path)
    (tmp_path / "ant").mkdir()
    with pytest.raises(ValueError, match="ant has no image"):
        sources.folder(tmp_path)


def test_csv_of_the_imagenet_protocols(shared, tmp_path):
    folder = shared / "data/tiny_imagenet_openset"
    lines = (folder / "p1_train.csv").read_text().split()
    lines = lines[::60] + (folder / "p1_test.csv").read_text().split()[::150]
    with zipfile.ZipFile(folder / "tiny_imagenet_openset.zip") as archive:
        archive.extractall(tmp_path / "images", [line.split(",")[0] for line in lines])
    (tmp_path / "p1.csv").write_text("\n".join(lines) + "\n\n")
    source = sources.csv(tmp_path / "p1.csv", root=tmp_path / "images")
    assert source.class_names == ("0", "1", "2", "3", "4", "5", "negative", "unknown")
    protocol = sources.csv_protocol(source)
    own = np.array(protocol.labels(source.class_names))[source.labels]
    np.testing.assert_array_equal(own, [int(line.split(",")[1]) for line in lines])
    assert {-2, -1, 0, 5} <= set(own.tolist())
    for image, path in zip(read(source), source.files, strict=True):
        with Image.open(path) as reference:
            np.testing.assert_array_equal(image, np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", r"line 1.*header"),
        ("a.png,0\nb.png,-3\n", "line 2"),
        ("a.png,0,1\n", "line 1"),
        ("a.png\n", "line 1"),
        ("a.png,1.5\n", "line 1"),
        ("\n", "is empty"),
    ],
)
def test_bad_csv_lines_are_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)list\.csv.*{message}|list\.csv {message}"):
        sources.csv(tmp_path / "list.csv")


def test_csv_errors_about_files_and_names(tmp_path):
    png_folder(tmp_path)
    listing = tmp_path / "list.csv"
    listing.write_text("ant/0.png,0\nbee/0.png,2\n")
    assert sources.csv(listing).class_names == ("0", "1", "2", "negative", "unknown")
    with pytest.raises(ValueError, match=r"label 2 of .*bee/0\.png has no name"):
        sources.csv(listing, class_names=["ant", "bee"])
    with pytest.raises(ValueError, match="Give `class_names`"):
        sources.csv_protocol(sources.csv(listing), sources.csv(listing, class_names=["a", "b", "c"]))
    listing.write_text("ant/0.png,0\nant/9.png,0\n")
    with pytest.raises(FileNotFoundError, match=r"ant/9\.png.*relative to `root`"):
        sources.csv(listing)


def test_tfds_in_memory_and_streamed_agree(shared):
    held = sources.tfds("cifar10", "test", shared / "tfds")
    streamed = sources.tfds("cifar10", "test", shared / "tfds", memory=0)
    assert held.array is not None
    assert not streamed.random_access
    assert len(held) == len(streamed) == 2000
    assert held.class_names == streamed.class_names
    np.testing.assert_array_equal(held.labels, streamed.labels)
    some = [0, 3, 4, 500, 1999]
    np.testing.assert_array_equal(read(streamed.subset(some)), held.array[some])
    np.testing.assert_array_equal(read(streamed.subset(some).subset([1, 4])), held.array[[3, 1999]])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar100"])
def test_tfds_sets(shared, name):
    source = sources.tfds(name, "test[:40]", shared / "tfds")
    assert len(source) == 40
    assert len(source.class_names) == (100 if name == "cifar100" else 10)
    assert source.shape == ((32, 32, 3) if name == "cifar100" else (28, 28, 1))


def test_tfds_errors_come_at_once_and_name_the_matter(shared, tmp_path):
    start = time.time()
    with pytest.raises(FileNotFoundError, match=r"'svhn_cropped' is not prepared.*download=True"):
        sources.tfds("svhn_cropped", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"no set 'cifar11'. Did you mean cifar10"):
        sources.tfds("cifar11", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"no split 'trian'. It has: test, train|It has: train, test"):
        sources.tfds("mnist", "trian", shared / "tfds")
    assert time.time() - start < 20


def test_a_damaged_tfds_file_is_named(shared, tmp_path):
    origin = shared / "tfds/cifar10/3.0.2"
    target = tmp_path / "cifar10/3.0.2"
    target.mkdir(parents=True)
    for path in origin.iterdir():
        (target / path.name).write_bytes(path.read_bytes()[: 100_000 if "tfrecord" in path.name else None])
    for memory in (0, 2**30):
        with pytest.raises(ValueError, match=r"cifar10/test: cannot read .*3.0.2"):
            sources.tfds("cifar10", "test", tmp_path, memory=memory)


def test_combine_relabels_and_keeps_every_image(shared):
    letters = nist_idx(shared, "test")
    mnist = sources.tfds("mnist", "test[:50]", shared / "tfds")
    both = sources.combine(mnist, letters)
    assert both.class_names == (*"0123456789", *string.ascii_lowercase)
    np.testing.assert_array_equal(both.array, np.concatenate([mnist.array, letters.array]))
    names = [both.class_names[label] for label in both.labels]
    assert names[:50] == [mnist.class_names[label] for label in mnist.labels]
    assert names[50:] == [letters.class_names[label] for label in letters.labels]
    assert both.describe(53) == letters.describe(3)
    assert len(set(sources.concatenate(letters, letters).groups)) == 2 * len(letters)


def test_combine_mixes_ways_of_reading(shared, tmp_path):
    files = sources.folder(png_folder(tmp_path / "insects", size=(32, 32)))
    digits = sources.digits().subset(range(4)).converted(32, channels=3)
    cifar = {memory: sources.tfds("cifar10", "test[:6]", shared / "tfds", memory=memory) for memory in (0, 2**30)}
    results = [read(sources.combine(files, digits, source)) for source in cifar.values()]
    assert [source.random_access for source in cifar.values()] == [False, True]
    for result in results:
        assert len(result) == 16
        assert {image.dtype for image in result} == {np.dtype("float32")}
        np.testing.assert_array_equal(result[:6], np.stack(read(files)).astype("float32"))
        np.testing.assert_array_equal(result[10:], cifar[2**30].array.astype("float32"))
    random_access = sources.combine(files, digits, cifar[2**30])
    np.testing.assert_array_equal(random_access.read(tf.constant(12, tf.int64))["image"], cifar[2**30].array[2])
    np.testing.assert_array_equal(
        read(sources.combine(files, cifar[0]).subset([5, 6])), [results[0][5], results[0][10]]
    )


def test_what_cannot_be_joined_is_refused():
    grey = sources.arrays(np.zeros([1, 4, 4], "uint8"), [0], ["a"], name="grey")
    colour = sources.arrays(np.zeros([1, 4, 4, 3], "uint8"), [0], ["b"], name="colour")
    with pytest.raises(ValueError, match=r"grey: class, 1, colour: class, 3.*converted\(channels=3\)"):
        sources.combine(grey, colour)
    with pytest.raises(ValueError, match="more than one: a"):
        sources.combine(grey, grey)
    with pytest.raises(ValueError, match="equal class names"):
        sources.concatenate(grey, colour)
    assert sources.concatenate(grey, grey).labels.tolist() == [0, 0]
    assert read(sources.combine(grey.converted(channels=3), colour))[0].shape == (4, 4, 3)


def test_subset_wants_ascending_indices():
    source = sources.digits()
    for indices in ([3, 2], [1, 1], [-1, 2], [0, 1797]):
        with pytest.raises(ValueError, match="ascend"):
            source.subset(indices)
    assert len(source.subset([])) == 0
    assert read(source.subset([])) == []


def test_preprocess_agrees_with_pil(shared):
    image = sources.tfds("cifar10", "test[:1]", shared / "tfds").array[0]
    ours = preprocess(image, (20, 12)).numpy()
    theirs = np.asarray(Image.fromarray(image).resize((12, 20), Image.Resampling.BILINEAR), "float32")
    assert np.abs(ours - theirs).max() <= 1.0  # PIL rounds after each of its two passes.
    np.testing.assert_array_equal(preprocess(image), image.astype("float32"))
    batch = preprocess(np.stack([image, image]), (20, 12)).numpy()
    np.testing.assert_allclose(batch[1], ours, atol=1e-3)
    grey = preprocess(image, channels=1).numpy()[..., 0]
    np.testing.assert_allclose(grey, image @ [0.2989, 0.587, 0.114], atol=1e-2)


def test_preprocess_takes_any_dtype():
    for value in (np.uint8(255), np.uint16(65535), np.bool_(True), np.float64(255), np.int32(255)):
        result = preprocess(np.full([2, 3], value))
        assert result.dtype == tf.float32
        np.testing.assert_allclose(result, np.full([2, 3, 1], 255.0), rtol=1e-6)
    for arguments in ({"size": 0}, {"size": (3, 2, 1)}, {"channels": 2}):
        with pytest.raises(ValueError, match="Received"):
            preprocess(np.zeros([2, 3, 1], "uint8"), **arguments)
    with pytest.raises(ValueError, match="shape"):
        preprocess(np.zeros([2], "uint8"))


def test_a_byte_order_mark_is_no_part_of_a_path(tmp_path):
    png_folder(tmp_path)
    (tmp_path / "list.csv").write_text("\ufeffant/0.png,0\nbee/0.png,-1\n", encoding="utf-8")
    assert sources.csv(tmp_path / "list.csv").files == (str(tmp_path / "ant/0.png"), str(tmp_path / "bee/0.png"))


def test_files_that_tensorflow_cannot_read_are_read_all_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), "uint8")
    (tmp_path / "ant").mkdir()
    for ending in ("png", "tif", "webp", "ppm"):
        Image.fromarray(pixels).save(
            tmp_path / "ant" / f"{ending}.{ending}", **({"lossless": True} if ending == "webp" else {})
        )
    found = read(sources.folder(tmp_path))
    assert len(found) == 4
    for image in found:
        np.testing.assert_array_equal(image, pixels)
    (tmp_path / "ant" / "tif.tif").write_bytes(b"II*")
    with pytest.raises(ValueError, match=r"tif\.tif is damaged"):
        sources.folder(tmp_path)


def test_images_of_several_sizes_in_memory():
    images = [np.full([2 + k, 5, 3], k, "uint8") for k in range(4)]
    source = sources.arrays(images, [0, 1, 0, 1], ["a", "b"]).subset([1, 3])
    for image, k in zip(read(source), (1, 3), strict=True):
        np.testing.assert_array_equal(image, images[k])
    assert source.shape == (None, 5, 3)


def test_classes_come_in_groups_where_asked(tmp_path):
    root = png_folder(tmp_path / "insects")
    source = sources.folder(root, group=lambda path: path.split("/")[-1])
    assert source.groups == tuple("012012")
    assert sources.folder(root).groups == sources.folder(root).files


def test_sets_of_labels_from_a_list(tmp_path):
    png_folder(tmp_path)
    path = tmp_path / "sets.csv"
    path.write_text("file,labels\nant/0.png,ant;leaf\nant/1.png,\nbee/0.png,bee\n")
    source = sources.csv_labels(path)
    assert source.class_names == ("ant", "bee", "leaf")
    assert source.labels.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
    assert source.annotated is None
    np.testing.assert_array_equal(read(source)[2], np.asarray(Image.open(tmp_path / "bee/0.png")))
    assert sources.csv_labels(path, class_names=["leaf", "bee", "ant"]).labels[0].tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"sets\.csv, line 2: leaf is in no class name"):
        sources.csv_labels(path, class_names=["ant", "bee"])
    path.write_text("file,ant,bee\nant/0.png,1,\nant/1.png,0,0\nbee/0.png,0,1\n")
    source = sources.csv_labels(path)
    assert source.labels.tolist() == [[True, False], [False, False], [False, True]]
    assert source.annotated.tolist() == [[True, False], [True, True], [True, True]]
    split = Split("train", source, Protocol(["ant", "bee"]))
    assert split.multi_hot.tolist() == [[1, -100], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ant/0.png,ant\n", "needs a header"),
        ("file,labels\n", "needs a header"),
        ("file,ant,bee\nant/0.png,1\n", "line 2: needs 3 cells"),
        ("file,ant,bee\nant/0.png,1,yes\n", "line 2: a cell is 1, 0 or empty"),
    ],
)
def test_bad_sets_are_named(tmp_path, text, message):
    png_folder(tmp_path)
    (tmp_path / "sets.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"sets\.csv.*{message}"):
        sources.csv_labels(tmp_path / "sets.csv")
    (tmp_path / "sets.csv").write_text("file,labels\nant/9.png,ant\n")
    with pytest.raises(FileNotFoundError, match=r"ant/9\.png.*relative to `root`"):
        sources.csv_labels(tmp_path / "sets.csv")


def test_sets_in_memory_are_joined_by_name():
    images = np.zeros([2, 4, 4], "uint8")
    one = sources.arrays(images, np.eye(2, dtype=bool), ["a", "b"], annotated=[[1, 1], [0, 1]], name="one")
    other = sources.arrays(images, np.eye(2, dtype=bool), ["c", "d"], name="other")
    both = sources.combine(one, other)
    assert both.labels.tolist() == np.eye(4, dtype=bool).tolist()
    # Nobody looked for c and d in the images of the first.
    assert both.annotated.astype(int).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    with pytest.raises(ValueError, match="of one kind"):
        sources.combine(one, sources.arrays(images, [0, 0], ["e"]))


@pytest.fixture(scope="module")
def tiny_sets(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6 + k, 5, 3), "uint8") for k in range(4)]
    sets = [[0], [1, 2], [], [2, 2]]

    class TinySets(tfds.core.GeneratorBasedBuilder):
        """Four images with classes and objects."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["a", "b", "c"])
            objects = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature(), "label": label})
            features = {"image": tfds.features.Image(), "labels": tfds.features.Sequence(label), "objects": objects}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
            for k, (image, own) in enumerate(zip(images, sets, strict=True)):
                objects = [{"bbox": box, "label": label} for label in own]
                yield k, {"image": image, "labels": own, "objects": objects}

    root = tmp_path_factory.mktemp("tfds")
    TinySets(data_dir=root).download_and_prepare()
    return root, images, sets


@pytest.mark.parametrize("key", ["labels", "objects"])
def test_classes_and_objects_are_sets(tiny_sets, key):
    folder, images, sets = tiny_sets
    source = sources.tfds("tiny_sets", keys=("image", key), data_dir=folder)
    assert (source.kind, source.class_names, len(source)) == ("classes", ("a", "b", "c"), 4)
    found = {len(image): set(np.flatnonzero(row)) for image, row in zip(read(source), source.labels, strict=True)}
    assert found == {6 + k: set(own) for k, own in enumerate(sets)}
    for image in read(source):
        np.testing.assert_array_equal(image, images[len(image) - 6])
    with pytest.raises(ValueError, match="must name the image and the mask or label of 'tiny_sets'"):
        sources.tfds("tiny_sets", data_dir=folder)
