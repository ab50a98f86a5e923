"""Batches: order, shares, seeds, memory and errors; every law on each way of reading."""

import collections
import itertools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cplus1_keras.data import Split, augment, evaluation, pipeline, protocols, sources, split, training
from cplus1_keras.data.protocols import Protocol


@pytest.fixture(scope="module")
def digits():
    return split(protocols.digits(), sources.digits())


def numbered(labels, way="array"):
    """A split whose image k is filled with k (so that we see which images a batch holds)."""
    labels = np.asarray(labels, "int32")
    images = np.arange(len(labels), dtype="uint8")[:, None, None, None] * np.ones([2, 2, 1], "uint8")
    constant = tf.constant(images)
    ways = {
        "array": {"array": images},
        "read": {"read": lambda index: tf.gather(constant, index), "shape": (2, 2, 1)},
        "stream": {"stream": lambda chosen: tf.data.Dataset.from_tensor_slices(images[chosen]), "shape": (2, 2, 1)},
    }
    classes = (labels < 0).astype("int64")
    return Split("train", sources.Source(classes, ["known", "other"], name="numbered", **ways[way]), labels)


def passes(dataset, count=1):
    """List of passes, each a list of (image numbers, labels) of the batches."""
    return [
        [(x.numpy()[:, 0, 0, 0].astype(int).tolist(), y.numpy().tolist()) for x, y in dataset] for _ in range(count)
    ]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


WAYS = [("array", 2**30), ("array", 0), ("read", 2**30), ("read", 0), ("stream", 2**30), ("stream", 0)]
ways = pytest.mark.parametrize(("way", "memory"), WAYS)


@ways
def test_evaluation_is_complete_and_in_order(way, memory):
    part = numbered([0, 1, -1, 0, -2, 1, 0], way)
    dataset = evaluation(part, batch_size=3, memory=memory)
    assert passes(dataset, 2) == [[([0, 1, 2], [0, 1, -1]), ([3, 4, 5], [0, -2, 1]), ([6], [0])]] * 2
    images, labels = next(iter(dataset))
    assert (images.dtype, labels.dtype) == (tf.float32, tf.int32)
    assert dataset.element_spec[0].shape.as_list() == [None, 2, 2, 1]
    assert len(dataset) == 3


@ways
def test_an_epoch_is_a_shuffled_pass_of_full_batches(way, memory):
    labels = [0, 1, 2, -1] * 25
    part = numbered(labels, way)
    dataset = training(part, batch_size=20, memory=memory)
    assert len(dataset) == 5
    first, second = passes(dataset, 2)
    for epoch in (first, second):
        numbers = flat(numbers for numbers, _ in epoch)
        assert sorted(numbers) == list(range(100))
        assert all(
            labels[number] == label for numbers, own in epoch for number, label in zip(numbers, own, strict=True)
        )
        assert [len(numbers) for numbers, _ in epoch] == [20] * 5
    assert first != second
    assert first != passes(training(part, 20, seed=1, memory=memory))[0]
    # A run that stopped after one epoch continues with the second.
    assert passes(training(part, 20, memory=memory, first_epoch=1)) == [second]


@ways
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.47, 0.9])
def test_negatives_have_their_share_everywhere(way, memory, fraction):
    part = numbered([0, 1, 2] * 30 + [-1] * 7, way)
    epoch = passes(training(part, 10, negative_fraction=fraction, memory=memory))[0]
    numbers = np.array(flat(numbers for numbers, _ in epoch))
    negative = numbers >= 90
    np.testing.assert_array_equal(negative, np.array(flat(labels for _, labels in epoch)) == -1)
    for width in (5, 10, 20):  # Also in each half of a batch, as two replicas cut it.
        counts = np.convolve(negative, np.ones(width, int), "valid")
        assert np.abs(counts - width * negative.mean()).max() <= 1 + 1e-9
    assert abs(negative.mean() - fraction) <= 1 / 10
    assert len(set(numbers[~negative])) == (~negative).sum() > 90 - 10  # Each known once, the remainder aside.
    uses = collections.Counter(numbers[negative].tolist())
    if sum(uses.values()) >= 7 and not (way == "stream" and memory == 0):
        assert max(uses.values()) - min(uses.values()) <= 1
        assert len(uses) == 7


def test_share_of_the_toy_protocol():
    part = numbered([0] * 200 + [-1] * 20)
    epoch = passes(training(part, 128, negative_fraction=0.47))[0]
    assert len(epoch) == round(200 / 0.53) // 128 == 2
    assert [labels.count(-1) for _, labels in epoch] == [60, 60]


def test_each_epoch_draws_other_negatives():
    part = numbered([0] * 90 + [-1] * 50)
    epochs = passes(training(part, 10, negative_fraction=0.1), 2)
    drawn = [[number for number in flat(numbers for numbers, _ in epoch) if number >= 90] for epoch in epochs]
    assert [len(numbers) for numbers in drawn] == [10, 10]
    assert set(drawn[0]) != set(drawn[1])


def test_the_stored_size_given_again_changes_nothing():
    part = numbered([0, 1] * 10)
    plain, given = (training(part, 5, image_size=size, channels=size and 1) for size in (None, 2))
    assert passes(plain) == passes(given)
    # The images are held once, as bytes, not converted and held again.
    assert pipeline._Images(part, 2, 1, 2**30).store.dtype == tf.uint8
    assert pipeline._Images(part, 3, 1, 2**30).store.dtype == tf.float32


def test_ways_of_reading_give_the_same_batches(tmp_path):
    for number in range(12):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), "uint8")
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    files = split(Protocol(["a"], ["b"]), sources.folder(tmp_path)).train
    for size in (None, 5, 8):
        held, read = (
            training(files, 2, size, negative_fraction=0.5, augment=augment.random_crop(1), memory=memory)
            for memory in (2**30, 0)
        )
        for (x, y), (u, v) in zip(held, read, strict=True):
            assert x.shape == (2, size or 8, size or 8, 3)
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)


def test_size_and_channels_are_those_of_preprocess(digits):
    images, _ = next(iter(evaluation(digits.test, 4, image_size=(10, 12), channels=3)))
    assert images.shape == (4, 10, 12, 3)
    reference = tf.image.resize(digits.test.source.array[:4], (10, 12), antialias=True)
    np.testing.assert_allclose(images[..., 1], reference[..., 0], atol=1e-4)
    assert 0 <= float(tf.reduce_min(images)) <= float(tf.reduce_max(images)) <= 255


@pytest.mark.parametrize("memory", [0, 2**30])
def test_mixed_sizes_without_a_target_are_named(tmp_path, memory):
    for number, size in enumerate([(6, 6), (6, 6), (6, 7), (6, 6)]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(np.full((*size, 3), number, "uint8")).save(tmp_path / "a" / f"{number}.png")
    part = Split("train", sources.folder(tmp_path), np.zeros(4, "int32"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)several sizes need `image_size`.*a/2\.png"):
        list(evaluation(part, 4, memory=memory))
    assert len(passes(evaluation(part, 4, image_size=6, memory=memory))[0]) == 1


def test_augment_sees_images_in_0_to_255_and_another_seed_each_time():
    seen = []

    def spy(images, seed):
        assert images.dtype == tf.float32
        return images + tf.numpy_function(lambda s: seen.append(tuple(s)) or np.float32(0), [seed], tf.float32)

    dataset = training(numbered([0] * 40), 10, augment=spy)
    passes(dataset, 2)
    assert len(seen) == len(set(seen)) == 8


def test_augment_repeats_with_the_epoch(digits):
    def epoch(**options):
        return np.concatenate([x for x, _ in training(digits.train, 64, augment=augment.random_crop(2), **options)])

    np.testing.assert_array_equal(epoch(), epoch())
    assert not np.array_equal(epoch(), epoch(first_epoch=1))


def test_errors(digits):
    with pytest.raises(ValueError, match="no batch of 1000"):
        training(digits.train, 1000)
    for batch_size in (0, 2.0, True):
        with pytest.raises(ValueError, match="`batch_size` must be"):
            evaluation(digits.test, batch_size)
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match="must lie in"):
            training(digits.train, 8, negative_fraction=fraction)
    with pytest.raises(ValueError, match="no negatives"):
        training(numbered([0] * 9), 4, negative_fraction=0.5)
    with pytest.raises(ValueError, match="Unknown images must not be trained on"):
        training(digits.test, 8)
    with pytest.raises(ValueError, match="Received"):
        training(digits.train, 8, image_size=0)


def test_fit_knows_the_number_of_batches(digits):
    model = keras.Sequential([keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(6)])
    model.compile(loss=lambda y, z: keras.ops.sum(z * z, axis=-1))
    dataset = training(digits.train, 64, negative_fraction=0.25, augment=augment.random_crop(1))
    batches = []
    counter = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    history = model.fit(
        dataset,
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=evaluation(digits.validation, 64),
        callbacks=[counter],
    )
    assert len(history.history["val_loss"]) == 2
    assert batches == list(range(len(dataset))) * 2
    assert len(model.predict(evaluation(digits.test, 50), verbose=0)) == len(digits.test)


MIRRORED = """
import json, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from cplus1_keras.data import protocols, sources, split, training
splits = split(protocols.digits(), sources.digits())
plain = training(splits.train, 60, negative_fraction=0.25)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
shared = strategy.experimental_distribute_dataset(training(splits.train, 60, negative_fraction=0.25))
whole = [[y.numpy().tolist() for _, y in plain] for _ in range(2)]
halves = [[[p.numpy().tolist() for p in strategy.experimental_local_results(y)] for _, y in shared] for _ in range(2)]
print(json.dumps([whole, halves]))
"""


def test_replicas_share_each_batch():
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, halves = json.loads(done.stdout.strip().split("\n")[-1])
    assert whole[0] != whole[1]
    assert [[flat(parts) for parts in epoch] for epoch in halves] == whole
    for parts in flat(halves):
        assert [len(part) for part in parts] == [30, 30]
        assert all(part.count(-1) in (7, 8) for part in parts)


@pytest.mark.parametrize("fraction", [None, 0, 0.5])
def test_a_stream_shuffles_whatever_the_global_seed_is(fraction):
    orders = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)  # what a run does first; TensorFlow treats a global seed of 0 by itself
        dataset = training(numbered([0] * 20 + [-1] * 20, "stream"), 5, negative_fraction=fraction, seed=3, memory=0)
        orders.append(passes(dataset))
    assert orders[0] == orders[1]
