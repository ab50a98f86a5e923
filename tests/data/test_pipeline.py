"""Batches: numbered by steps, shares, seeds, memory, sizes and errors; every law on each way of reading."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras.data import (
    Protocol,
    Split,
    augment,
    class_weights,
    evaluation,
    pixel_counts,
    protocols,
    sources,
    split,
    steps_per_epoch,
    training,
)
from cplus1_keras.data.order import Order
from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN


@pytest.fixture(scope="module")
def digits():
    return split(protocols.digits(), sources.digits())


@pytest.fixture(scope="module")
def camvid(layouts, tmp_path_factory):
    return sources.camvid(layouts.camvid(tmp_path_factory.mktemp("data"), train=8))


def numbered(labels, way="array"):
    """A split whose image k is filled with k (so that we see which images a batch holds)."""
    labels = np.asarray(labels, "int32")
    images = np.arange(len(labels), dtype="uint8")[:, None, None, None] * np.ones([2, 2, 1], "uint8")
    constant = tf.constant(images)
    ways = {
        "array": {"arrays": {"image": images}},
        "read": {"read": lambda index: {"image": tf.gather(constant, index)}, "shape": (2, 2, 1)},
        "stream": {
            "stream": lambda chosen: tf.data.Dataset.from_tensor_slices(chosen),
            "decode": lambda index: {"image": tf.gather(constant, index)},
            "shape": (2, 2, 1),
        },
    }
    protocol = Protocol(["0", "1", "2"], ["negative"], ["unknown"])
    names = [*protocol.class_names, "negative", "unknown"]
    classes = np.where(labels >= 0, labels, np.where(labels == NEGATIVE, 3, 4))
    name = "test" if UNKNOWN in labels else "train"
    return Split(name, sources.Source(names, classes, name="numbered", **ways[way]), protocol)


def steps(dataset, count):
    """The first batches, each (image numbers, labels)."""
    return [(x[:, 0, 0, 0].astype(int).tolist(), y.tolist()) for x, y in dataset.take(count).as_numpy_iterator()]


def numbers_of(dataset, count):
    return [number for numbers, _ in steps(dataset, count) for number in numbers]


WAYS = [("array", 2**30), ("array", 0), ("read", 2**30), ("read", 0), ("stream", 2**30), ("stream", 0)]
ways = pytest.mark.parametrize(("way", "memory"), WAYS)


@ways
def test_evaluation_is_complete_and_in_order(way, memory):
    part = numbered([0, 1, -1, 0, -2, 1, 0], way)
    dataset = evaluation(part, batch_size=3, memory=memory)
    expected = [([0, 1, 2], [0, 1, -1]), ([3, 4, 5], [0, -2, 1]), ([6], [0])]
    assert steps(dataset, -1) == steps(dataset, -1) == expected
    images, labels = next(iter(dataset))
    assert (images.dtype, labels.dtype) == (tf.float32, tf.int32)
    assert dataset.element_spec[0].shape.as_list() == [None, 2, 2, 1]
    assert len(dataset) == 3


@ways
def test_each_pass_takes_each_image_once_in_an_order_of_its_own(way, memory):
    labels = [0, 1, 2, -1] * 25
    part = numbered(labels, way)
    dataset = training(part, batch_size=20, memory=memory)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    found = steps(dataset, 15)
    assert all([labels[number] for number in numbers] == own for numbers, own in found)
    order = [number for numbers, _ in found for number in numbers]
    passes = [order[start : start + 100] for start in (0, 100, 200)]
    assert all(sorted(one) == list(range(100)) for one in passes)
    assert len(set(map(tuple, passes))) == 3
    assert found[:5] != steps(training(part, 20, seed=1, memory=memory), 5)


@ways
@pytest.mark.parametrize("fraction", [None, 0.0, 0.3])
def test_step_k_is_the_same_wherever_one_starts_and_looking_consumes_nothing(way, memory, fraction):
    part = numbered([0, 1, 2] * 11 + [-1] * 8, way)
    settings = {"batch_size": 7, "negative_fraction": fraction, "seed": 3, "memory": memory}
    dataset = training(part, **settings)
    next(iter(dataset))
    whole = steps(dataset, 20)
    assert steps(dataset, 20) == whole
    for first in (1, 5, 6, 13):  # within a pass, at its end, and passes later
        assert steps(training(part, **settings, first_step=first), 20 - first) == whole[first:]


@ways
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.47, 0.9, 1 / 3])
def test_negatives_have_their_share_everywhere(way, memory, fraction):
    part = numbered([0, 1, 2] * 20 + [-1] * 7, way)
    dataset = training(part, 10, negative_fraction=fraction, memory=memory)
    found = steps(dataset, 60)
    numbers = np.array([number for own, _ in found for number in own])
    negative = numbers >= 60
    np.testing.assert_array_equal(negative, np.array([label for _, own in found for label in own]) == -1)
    for width in (5, 10, 20, 333):  # also in each half of a batch, as two replicas cut it
        counts = np.convolve(negative, np.ones(width, int), "valid")
        assert np.abs(counts - width * fraction).max() <= 1
    for chosen, members in ((~negative, range(60)), (negative, range(60, 67))):
        uses, count = numbers[chosen], len(members)
        for start in range(0, len(uses) - count + 1, count):  # a pass takes each once
            assert sorted(uses[start : start + count]) == list(members)
    assert steps_per_epoch(part, 10, fraction) == round(60 / (1 - fraction)) // 10


def test_share_of_the_toy_protocol():
    part = numbered([0] * 200 + [-1] * 20)
    assert steps_per_epoch(part, 128, negative_fraction=0.47) == round(200 / 0.53) // 128 == 2
    assert [labels.count(-1) for _, labels in steps(training(part, 128, negative_fraction=0.47), 2)] == [60, 60]


def test_ways_of_reading_give_the_same_batches(tmp_path):
    for number in range(12):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), "uint8")
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    files = split(Protocol(["a"], ["b"]), sources.folder(tmp_path)).train
    for size in (None, 5, 8):
        for change in (None, augment.random_crop(padding=1)):
            settings = {"image_size": size, "negative_fraction": 0.5, "augment": change}
            held, read = (training(files, 2, **settings, memory=memory).take(6) for memory in (2**30, 0))
            for (x, y), (u, v) in zip(held, read, strict=True):
                assert x.shape == (2, size or 8, size or 8, 3)
                np.testing.assert_array_equal(x, u)
                np.testing.assert_array_equal(y, v)


def test_masks_are_held_or_read_alike(camvid):
    train = split(protocols.camvid_open(), camvid).train
    change = augment.standard(16, base=(32, 40))
    held, read = (training(train, 3, augment=change, seed=2, memory=m).take(5) for m in (2**30, 0))
    for one, other in zip(held.as_numpy_iterator(), read.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_size_and_channels_are_those_of_preprocess(digits):
    images, _ = next(iter(evaluation(digits.test, 4, image_size=(10, 12), channels=3)))
    assert images.shape == (4, 10, 12, 3)
    reference = tf.image.resize(digits.test.source.array[:4], (10, 12), antialias=True)
    np.testing.assert_allclose(images[..., 1], reference[..., 0], atol=1e-4)
    assert 0 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 255


def test_resized_masks_keep_their_labels_and_fit_their_image():
    masks = np.kron([[0, 1], [2, 3]], np.ones([4, 6], int))[None]
    source = sources.arrays((masks * 10).astype("uint8"), masks=masks, class_names=list("abcd"))
    part = Split("test", source, Protocol(list("abcd")))
    for memory in (0, 2**20):
        images, labels = next(iter(evaluation(part, image_size=(4, 4), memory=memory)))
        assert labels.numpy()[0].tolist() == np.kron([[0, 1], [2, 3]], np.ones([2, 2], int)).tolist()
        np.testing.assert_allclose(images[0, ::3, ::3, 0], [[0, 10], [20, 30]], atol=4)
        # Between 0 and 3 lie other classes, which no pixel shows.
        source = sources.arrays(np.zeros([1, 4, 4], "uint8"), masks=[[[0, 0, 3, 3]] * 4], class_names=list("abcd"))
        far = Split("test", source, Protocol(list("abcd")))
        labels = next(iter(evaluation(far, image_size=(7, 7), memory=memory)))[1]
        assert set(np.unique(labels)) == {0, 3}


@pytest.mark.parametrize("memory", [0, 2**30])
def test_mixed_sizes_without_a_target_are_named(tmp_path, memory):
    for number, size in enumerate([(6, 6), (6, 6), (6, 7), (6, 6)]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(np.full((*size, 3), number, "uint8")).save(tmp_path / "a" / f"{number}.png")
    part = Split("train", sources.folder(tmp_path), Protocol(["a"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)several sizes need `image_size`.*a/2\.png"):
        list(evaluation(part, 4, memory=memory))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)several sizes need `image_size`.*a/2\.png"):
        list(training(part, 4, memory=memory).take(1))
    assert len(steps(evaluation(part, 4, image_size=6, memory=memory), -1)) == 1
    shapes = [x.shape for x, _ in evaluation(part, memory=memory).as_numpy_iterator()]  # alone, each as it is
    assert shapes == [(1, 6, 6, 3), (1, 6, 6, 3), (1, 6, 7, 3), (1, 6, 6, 3)]
    crop = augment.chain(augment.random_crop(5), augment.pad(5))
    assert next(iter(training(part, 4, augment=crop, memory=memory)))[0].shape == (4, 5, 5, 3)


@pytest.mark.parametrize("memory", [0, 2**30])
def test_masks_are_judged_at_their_own_size_in_order(memory):
    shapes = [(5, 7), (6, 4), (9, 9)]
    images = [np.zeros([*s, 3], "uint8") for s in shapes]
    source = sources.arrays(images, masks=[np.full(s, k, "uint8") for k, s in enumerate(shapes)])
    part = Split("test", source, Protocol(list("012")))
    found = list(evaluation(part, memory=memory).as_numpy_iterator())
    assert [(x.shape, y.shape) for x, y in found] == [((1, *s, 3), (1, *s)) for s in shapes]
    assert [int(y[0, 0, 0]) for _, y in found] == [0, 1, 2]


@ways
def test_augment_sees_single_images_in_0_to_255_and_another_seed_each_time(way, memory):
    def spy(example, seed):
        assert (example["image"].dtype, example["image"].shape) == (tf.float32, (2, 2, 1))
        return example | {"image": tf.cast(tf.reshape(seed, [1, 1, 2]), tf.float64)}

    def seeds(first, count, **seed):
        part = numbered([0, 1] * 20, way)
        dataset = training(part, 10, augment=spy, first_step=first, memory=memory, **seed).take(count)
        return [tuple(row) for x, _ in dataset for row in x.numpy()[:, 0, 0].tolist()]

    found = seeds(0, 8)  # two passes
    assert len(set(found)) == 80
    assert seeds(3, 5) == found[30:]
    assert not set(seeds(0, 4, seed=1)) & set(found)
    # The key of image n, as stored runs have it.
    expected = tf.random.fold_in(tf.constant([0, 0], tf.int32), tf.constant(17, tf.int64))
    assert found[17] == tuple(tf.cast(expected, tf.int32).numpy().tolist())


def test_sets_give_a_dict():
    images = np.arange(6, dtype="uint8")[:, None, None] * np.ones([2, 2], "uint8")
    present = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [0, 1]], bool)
    part = Split("train", sources.arrays(images, present, list("ab")), Protocol(["b", "a"]))
    for memory in (0, 2**20):
        for change in (None, augment.random_flip()):
            x, y = next(training(part, 6, augment=change, memory=memory).as_numpy_iterator())
            assert set(y) == {"multi_hot"}
            assert y["multi_hot"].dtype == np.int32
            np.testing.assert_array_equal(y["multi_hot"], present[x[:, 0, 0, 0].astype(int)][:, ::-1])
    assert len(list(evaluation(part, 4))) == 2
    with pytest.raises(ValueError, match="`negative_fraction` is for images with one class each"):
        training(part, 2, negative_fraction=0.5)
    with pytest.raises(ValueError, match="weigh in the loss"):
        training(part, 2, class_weights=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("choice", ["ignored", "negative"])
def test_unknown_pixels_reach_the_test_split_alone(camvid, choice):
    def labels_of(dataset):
        return set().union(*(np.unique(labels) for _, labels in dataset.as_numpy_iterator()))

    protocol = protocols.camvid().hold_out("car", "sky", unknown_in_training=choice)
    parts = split(protocol, camvid, validation_fraction=0.2, calibration_fraction=0.2)
    crop = augment.chain(augment.random_crop(16), augment.pad(16))
    assert UNKNOWN in labels_of(evaluation(parts.test))
    assert UNKNOWN not in labels_of(training(parts.train, 2, augment=crop).take(6))
    assert (NEGATIVE in labels_of(evaluation(parts.train))) == (choice == "negative")
    for part in (parts.validation, parts.calibration):
        found = labels_of(evaluation(part))
        assert not found & {UNKNOWN, NEGATIVE}
        assert IGNORE in found
    with pytest.raises(ValueError, match=r"has unknown classes \(sky, car\).*`splits.train`"):
        training(parts.test, 2)


def test_weights_of_labels(camvid, digits):
    train = split(protocols.camvid(), camvid).train
    table = np.arange(1.0, 13.0)
    images, labels, weights = next(iter(training(train, 3, class_weights=table, image_size=(16, 24))))
    assert images.shape == (3, 16, 24, 3)
    assert (images.dtype, labels.dtype, weights.dtype) == (tf.float32, tf.int32, tf.float32)
    np.testing.assert_array_equal(weights, np.where(labels == IGNORE, 0, labels + 1))
    _, labels, weights = next(iter(training(digits.train, 32, class_weights=np.arange(7.0))))
    np.testing.assert_array_equal(weights, np.where(labels == -1, 6, labels))


def test_counts_and_weights(camvid, digits):
    train = split(protocols.camvid().as_negative("sky"), camvid).train
    masks = np.stack([example["mask"] for example in train.source.examples().as_numpy_iterator()])
    counts = pixel_counts(train)
    assert counts.tolist() == [(masks == value).sum() for value in (*range(1, 11), 0)]
    found = class_weights(counts)
    share = counts / counts.sum()
    np.testing.assert_allclose(found * np.log(1.02 + share), np.full(11, found[0] * np.log(1.02 + share[0])), rtol=1e-5)
    assert (share * found).sum() == pytest.approx(1)
    assert found[counts.argmin()] == found.max()
    with pytest.raises(ValueError, match="offset above 1"):
        class_weights(counts, offset=1.0)
    labels = digits.test.labels
    assert pixel_counts(digits.test).tolist() == [*((labels == k).sum() for k in range(6)), (labels == -1).sum()]


def test_errors(digits):
    with pytest.raises(ValueError, match="no batch of 1000"):
        steps_per_epoch(digits.train, 1000)
    for batch_size in (0, 2.0, True):
        for function in (evaluation, training, steps_per_epoch):
            with pytest.raises(ValueError, match="`batch_size` must be"):
                function(digits.test, batch_size)
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match="must lie in"):
            training(digits.train, 8, negative_fraction=fraction)
    with pytest.raises(ValueError, match="no negatives"):
        training(numbered([0] * 9), 4, negative_fraction=0.5)
    with pytest.raises(ValueError, match="has unknown classes"):
        training(digits.test, 8)
    with pytest.raises(ValueError, match="no image to train on"):
        training(digits.train.subset([]), 8)
    with pytest.raises(ValueError, match="Received"):
        training(digits.train, 8, image_size=0)


@pytest.mark.parametrize("fraction", [None, 0, 0.5])
def test_a_stream_shuffles_whatever_the_global_seed_is(fraction):
    orders = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)  # what a run does first; TensorFlow treats a global seed of 0 by itself
        dataset = training(numbered([0] * 20 + [-1] * 20, "stream"), 5, negative_fraction=fraction, seed=3, memory=0)
        orders.append(steps(dataset, 12))
    assert orders[0] == orders[1]
    uses = collections.Counter(number for numbers, _ in orders[0] for number in numbers)
    assert max(uses.values()) - min(uses.values()) <= 1


@ways
def test_batches_have_a_static_size(way, memory):
    """So that a compiler need not ask; also where records are read from the beginning."""
    part = numbered([0, 1] * 10, way)
    for change in (None, lambda example, seed: example):
        images, labels = training(part, 4, augment=change, memory=memory).element_spec
        assert images.shape[0] == labels.shape[0] == 4


def test_each_pass_over_the_negatives_has_an_order_of_its_own():
    part = numbered([0] * 10 + [-1] * 30)
    order = Order(part, fraction=0.75, seed=3)
    drawn = order.indices(tf.range(400, dtype=tf.int64)).numpy()
    for pool in (range(10), range(10, 40)):
        own = drawn[np.isin(drawn, pool)].reshape(-1, len(pool)).tolist()
        assert [sorted(one) for one in own] == [[*pool]] * 10
        assert len({*map(tuple, own)}) == 10
