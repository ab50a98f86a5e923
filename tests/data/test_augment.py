"""Augmentation: each change against what it must be, pixel by pixel."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cplus1_keras.data import augment

IMAGES = np.random.default_rng(0).uniform(1, 255, [64, 6, 5, 3]).astype("float32")


def test_random_crop_shifts_whole_images_and_fills_with_black():
    result = augment.random_crop(2)(tf.constant(IMAGES), [3, 4]).numpy()
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)])
    shifts = []
    for number in range(len(IMAGES)):
        fits = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(result[number], padded[number, row : row + 6, column : column + 5])
        ]
        assert len(fits) == 1
        shifts += fits
    assert len(set(shifts)) > 15  # 25 shifts are possible.
    np.testing.assert_array_equal(augment.random_crop(0)(IMAGES, [0, 0]), IMAGES)


def test_random_flip_mirrors_about_half():
    result = augment.random_flip()(tf.constant(IMAGES), [3, 4]).numpy()
    flipped = [np.array_equal(new, old[:, ::-1]) for new, old in zip(result, IMAGES, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(result, IMAGES, strict=True)]
    assert [a != b for a, b in zip(flipped, kept, strict=True)] == [True] * 64
    assert 16 < sum(flipped) < 48


def test_random_tone_is_affine_within_bounds():
    middle = 100 + IMAGES / 10
    result = augment.random_tone(0.1, 0.3)(tf.constant(middle), [3, 4]).numpy()
    slopes = result.std(axis=(1, 2, 3)) / middle.std(axis=(1, 2, 3))
    shifts = result.mean(axis=(1, 2, 3)) - middle.mean(axis=(1, 2, 3))
    assert 0.7 <= slopes.min() < 0.8 < 1.2 < slopes.max() <= 1.3
    assert -25.5 <= shifts.min() < -15 < 15 < shifts.max() <= 25.5
    extreme = augment.random_tone(1.0, 1.0)(tf.constant(IMAGES), [0, 0]).numpy()
    assert 0 <= extreme.min() <= extreme.max() <= 255
    np.testing.assert_allclose(augment.random_tone(0, 0)(IMAGES, [0, 0]), IMAGES, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [augment.random_crop(2), augment.random_flip(), augment.random_tone(), augment.chain(augment.random_crop(1))],
)
def test_a_seed_gives_one_answer_in_a_graph_too(change):
    eager = change(tf.constant(IMAGES), tf.constant([1, 2], tf.int64))
    graph = tf.function(change)(tf.constant(IMAGES), tf.constant([1, 2], tf.int64))
    np.testing.assert_allclose(eager, graph, atol=1e-4)  # Values of 0..255; graphs fuse multiply and add.
    assert not np.array_equal(eager, change(tf.constant(IMAGES), tf.constant([1, 3], tf.int64)))


def test_chain_gives_each_step_a_seed_of_its_own():
    crop = augment.random_crop(2)
    twice = augment.chain(crop, crop)(tf.constant(IMAGES), [1, 2]).numpy()
    repeated = crop(crop(tf.constant(IMAGES), [1, 2]), [1, 2]).numpy()
    assert not np.array_equal(twice, repeated)
    np.testing.assert_array_equal(augment.chain()(IMAGES, [0, 0]), IMAGES)


def test_a_keras_layer_in_a_data_set():
    change = augment.from_layer(layers.RandomFlip("horizontal", seed=0))
    dataset = tf.data.Dataset.from_tensors(IMAGES).map(lambda images: change(images, [0, 0]))
    result = next(iter(dataset)).numpy()
    flipped = [np.array_equal(new, old[:, ::-1]) for new, old in zip(result, IMAGES, strict=True)]
    assert 16 < sum(flipped) < 48


@pytest.mark.parametrize("call", [lambda: augment.random_crop(-1), lambda: augment.random_tone(2.0)])
def test_bad_arguments(call):
    with pytest.raises(ValueError, match="Received"):
        call()
