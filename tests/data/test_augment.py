"""Augmentation: pixels against what they must be, image and labels alike, laws of flips, crops and scales, seeds."""

import colorsys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cplus1_keras.data import augment, protocols
from cplus1_keras.data.names import LIP_MIRRORED
from cplus1_keras.labels import IGNORE

LEFT_ARM, RIGHT_ARM, FACE = (protocols.lip().class_names.index(name) for name in ("left arm", "right arm", "face"))
IMAGE = np.random.default_rng(0).uniform(1, 255, [6, 5, 3]).astype("float32")


def images(change, count, image=IMAGE):
    """Results of `count` seeds."""
    function = tf.function(change)
    return [function({"image": tf.constant(image)}, tf.constant([3, n]))["image"].numpy() for n in range(count)]


def coded(height=48, width=72, block=12):
    """Labels in blocks, and an image whose first channel is 10 times the label."""
    blocks = np.arange(height // block * (width // block)).reshape(height // block, -1)
    labels = np.kron(blocks, np.ones([block, block], int)).astype("int32")
    image = np.stack([labels * 10.0, labels * 0.0, labels * 0.0 + 7], -1)
    return {"image": tf.constant(image, tf.float32), "labels": tf.constant(labels)}


def example(image, labels):
    return {"image": image, "labels": labels}


GEOMETRIC = {
    "scale": augment.random_scale(0.5, 2.0),
    "scale to base": augment.random_scale(0.5, 2.0, base=(128, 40)),
    "crop": augment.random_crop(32),
    "shift": augment.random_crop(padding=5),
    "crop by share": augment.random_crop(32, max_share=0.3),
    "flip": augment.random_flip(),
    "all": augment.chain(
        augment.random_scale(),
        augment.random_crop((40, 36), max_share=0.75),
        augment.random_flip(),
        augment.pad((40, 36)),
    ),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_image_and_labels_stay_aligned(name):
    function = tf.function(GEOMETRIC[name])
    for number in range(8):
        found = function(coded(), seed=tf.constant([3, number]))
        out, new = found["image"].numpy(), found["labels"].numpy()
        assert out.shape == (*new.shape, 3)
        there = new != IGNORE
        assert there.any()
        # A pixel whose neighbours all have its label mixes no colours; it decodes to exactly that label.
        windows = np.lib.stride_tricks.sliding_window_view(new, (3, 3))
        inner = (windows == new[1:-1, 1:-1, None, None]).all((2, 3)) & there[1:-1, 1:-1]
        assert inner.sum() > 0.3 * there.sum()
        np.testing.assert_allclose(out[1:-1, 1:-1, 0][inner], 10 * new[1:-1, 1:-1][inner], atol=1e-3)


@pytest.mark.parametrize("name", [*GEOMETRIC, "photometric", "tone"])
def test_equal_seeds_equal_results_other_seeds_others(name):
    function = GEOMETRIC.get(name) or getattr(augment, name)()

    def results(seed):
        return [function(coded(), seed=[seed, number])["image"].numpy() for number in range(4)]

    first, again, other = results(0), results(0), results(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_flip_of_lip_keeps_left_left():
    mirror = protocols.lip().mirror(LIP_MIRRORED)
    labels = tf.constant([[LEFT_ARM, FACE, RIGHT_ARM, -1, IGNORE]])
    given = example(tf.cast(tf.repeat(labels[..., None], 3, -1), tf.float32), labels)
    flipped = augment.flip(given, mirror)
    # Where the picture of the left arm lies after mirroring is, in the mirrored picture, a right arm.
    assert flipped["labels"].numpy().tolist() == [[IGNORE, -1, LEFT_ARM, FACE, RIGHT_ARM]]
    assert flipped["image"][0, -1, 0] == LEFT_ARM
    again = augment.flip(flipped, mirror)
    np.testing.assert_array_equal(again["labels"], labels)
    np.testing.assert_array_equal(again["image"], given["image"])


def test_flip_swaps_a_class_and_a_set_too():
    flipped = augment.flip(example(tf.zeros([1, 2, 3]), tf.constant(0)), (1, 0, 2))
    assert int(flipped["labels"]) == 1
    flipped = augment.flip({"image": tf.zeros([1, 2, 3]), "multi_hot": tf.constant([1, 0, IGNORE])}, (1, 0, 2))
    assert flipped["multi_hot"].numpy().tolist() == [0, 1, IGNORE]


def test_a_person_facing_us_keeps_the_left_arm_on_the_right_of_the_picture():
    labels = np.full([8, 9], -1, "int32")
    labels[2:6, 0:2], labels[2:6, 6:8] = RIGHT_ARM, LEFT_ARM
    function = augment.random_flip(protocols.lip().mirror(LIP_MIRRORED))
    seen = set()
    for number in range(12):
        new = function(example(tf.zeros([8, 9, 3]), tf.constant(labels)), seed=[0, number])["labels"].numpy()
        left, right = np.argwhere(new == LEFT_ARM)[:, 1].mean(), np.argwhere(new == RIGHT_ARM)[:, 1].mean()
        assert left > right
        seen.add((left, right))
    assert len(seen) == 2


def test_scale_follows_the_base_and_keeps_the_ratio():
    for size, expected in (((375, 500), (512, 683)), ((500, 375), (683, 512)), ((100, 1000), (205, 2048))):
        scale = augment.random_scale(1.0, 1.0, base=(2048, 512))
        assert scale(example(tf.zeros([*size, 3]), tf.zeros(size, tf.int32)), seed=[0, 0])["labels"].shape == expected
    stretch = augment.random_scale(1.0, 1.0, base=(30, 20), keep_ratio=False)
    assert stretch({"image": tf.zeros([9, 9, 3])}, seed=[0, 0])["image"].shape == (30, 20, 3)
    sizes = [len(image) for image in images(augment.random_scale(), 60, np.zeros([100, 100, 3], "float32"))]
    assert 50 <= min(sizes) < 65
    assert 185 < max(sizes) <= 200


def test_crops_reach_every_place_and_keep_small_images_whole():
    labels = tf.reshape(tf.range(30), [5, 6])
    image = tf.zeros([5, 6, 3])
    crop = tf.function(augment.random_crop((4, 4)))
    corners = {int(crop(example(image, labels), seed=tf.constant([0, n]))["labels"][0, 0]) for n in range(80)}
    assert corners == {0, 1, 2, 6, 7, 8}
    np.testing.assert_array_equal(augment.random_crop(9)(example(image, labels), seed=[0, 0])["labels"], labels)


def test_crop_by_share_avoids_windows_of_one_class():
    labels = np.zeros([20, 200], "int32")
    labels[:, 90:110] = 1
    labels[:, :40] = IGNORE
    inputs = example(tf.zeros([20, 200, 3]), tf.constant(labels))

    def mixed(max_share):
        crop = tf.function(augment.random_crop(20, max_share=max_share))
        crops = [crop(inputs, seed=tf.constant([0, n]))["labels"].numpy() for n in range(40)]
        shares = [np.unique(crop[crop != IGNORE], return_counts=True)[1] for crop in crops]
        return np.mean([len(count) > 1 and count.max() / count.sum() < 0.75 for count in shares])

    assert mixed(1.0) < 0.4
    assert mixed(0.75) > 0.75


def test_padding_is_ignored_and_exact():
    padded = augment.pad((50, 80), colour=(1.0, 2.0, 3.0))(coded())
    out, new = padded["image"], padded["labels"]
    np.testing.assert_array_equal(out[:48, :72], coded()["image"])
    np.testing.assert_array_equal(new[:48, :72], coded()["labels"])
    assert (new.numpy() == IGNORE).sum() == 50 * 80 - 48 * 72
    np.testing.assert_array_equal(out[48:], np.broadcast_to([1.0, 2.0, 3.0], [2, 80, 3]))


def test_photometric_parts_against_colorsys():
    pixels = np.array([[[200.0, 40.0, 90.0]]], "float32")

    def outcomes(**parts):
        off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
        function = augment.photometric(**(off | parts))
        return np.array([image[0, 0] for image in images(function, 60, pixels)])

    shifts = outcomes(brightness=32.0) - pixels[0, 0]
    assert np.ptp(shifts, axis=1).max() < 1e-3
    assert (np.abs(shifts[:, 0]) < 1e-3).mean() == pytest.approx(0.5, abs=0.2)
    assert 25 < shifts.max() <= 32
    assert -32 <= shifts.min() < -25
    factors = outcomes(contrast=0.5) / pixels[0, 0]
    unclipped = factors[:, 1:]
    assert np.ptp(unclipped, axis=1).max() < 1e-4
    assert 0.5 <= unclipped.min() < 0.6
    assert 1.4 < unclipped.max() <= 1.5
    hue, strength, value = colorsys.rgb_to_hsv(*(pixels[0, 0] / 255))
    for part, (low, high), channel in (({"saturation": 0.5}, (0.5, 1.5), 1), ({"hue": 18.0}, (-0.1, 0.1), 0)):
        hsv = np.array([colorsys.rgb_to_hsv(*np.clip(rgb / 255, 0, 1)) for rgb in outcomes(**part)])
        np.testing.assert_allclose(
            np.delete(hsv, channel, 1), np.tile(np.delete([hue, strength, value], channel), (60, 1)), atol=1e-3
        )
        moved = hsv[:, 1] / strength if channel else (hsv[:, 0] - hue + 0.5) % 1 - 0.5
        high = min(high, 1 / strength) if channel else high
        assert low - 1e-3 <= moved.min() < low + 0.2 * (high - low)
        assert high - 0.25 * (high - low) < moved.max() <= high + 1e-3


def test_photometric_stays_in_range_and_keeps_labels():
    rng = np.random.default_rng(0)
    image, labels = tf.constant(rng.uniform(0, 255, [6, 7, 3]), tf.float32), tf.constant(rng.integers(0, 3, [6, 7]))
    for number in range(20):
        out = augment.photometric()(example(image, labels), seed=[0, number])
        assert 0 <= float(tf.reduce_min(out["image"])) <= float(tf.reduce_max(out["image"])) <= 255
        assert out["labels"] is labels


def test_shifts_keep_the_image_whole_and_fill_with_black():
    padded = np.pad(IMAGE, [(2, 2), (2, 2), (0, 0)])
    shifts = set()
    for result in images(augment.random_crop(padding=2), 64):
        fits = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(result, padded[row : row + 6, column : column + 5])
        ]
        assert len(fits) == 1
        shifts |= set(fits)
    assert len(shifts) > 15  # 25 are possible
    np.testing.assert_array_equal(augment.random_crop()({"image": tf.constant(IMAGE)}, [0, 0])["image"], IMAGE)


def test_what_a_shift_brings_in_is_ignored():
    given = example(tf.ones([6, 5, 3]), tf.ones([6, 5], tf.int32))
    for number in range(8):
        found = augment.random_crop(padding=2)(given, [0, number])
        np.testing.assert_array_equal(found["labels"], np.where(found["image"][..., 0] == 1, 1, IGNORE))


def test_flips_mirror_about_half():
    results = images(augment.random_flip(), 64)
    flipped = [np.array_equal(new, IMAGE[:, ::-1]) for new in results]
    kept = [np.array_equal(new, IMAGE) for new in results]
    assert [a != b for a, b in zip(flipped, kept, strict=True)] == [True] * 64
    assert 16 < sum(flipped) < 48


def test_tone_is_affine_within_bounds():
    middle = 100 + IMAGE / 10
    results = np.stack(images(augment.tone(0.1, 0.3), 64, middle))
    slopes = results.std(axis=(1, 2, 3)) / middle.std()
    shifts = results.mean(axis=(1, 2, 3)) - middle.mean()
    assert 0.7 <= slopes.min() < 0.8 < 1.2 < slopes.max() <= 1.3
    assert -25.5 <= shifts.min() < -15 < 15 < shifts.max() <= 25.5
    extreme = np.stack(images(augment.tone(1.0, 1.0), 20))
    assert 0 <= extreme.min() <= extreme.max() <= 255
    np.testing.assert_allclose(images(augment.tone(0, 0), 1)[0], IMAGE, rtol=1e-5)


def test_chain_gives_each_step_a_seed_of_its_own():
    crop, given = augment.random_crop(padding=2), {"image": tf.constant(IMAGE)}
    twice = augment.chain(crop, crop)(given, [1, 2])["image"].numpy()
    repeated = crop(crop(given, [1, 2]), [1, 2])["image"].numpy()
    assert not np.array_equal(twice, repeated)
    assert augment.chain()(given, [0, 0]) is given


def test_a_keras_layer_in_a_data_set():
    change = augment.from_layer(layers.RandomFlip("horizontal", seed=0))
    dataset = (
        tf.data.Dataset.from_tensors(IMAGE).repeat(64).map(lambda image: change({"image": image}, [0, 0])["image"])
    )
    flipped = [np.array_equal(new, IMAGE[:, ::-1]) for new in dataset.as_numpy_iterator()]
    kept = [np.array_equal(new, IMAGE) for new in dataset.as_numpy_iterator()]
    assert 16 < sum(flipped) < 48
    assert 16 < sum(kept) < 48


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="0 < low <= high"):
        augment.random_scale(2.0, 0.5)
    with pytest.raises(ValueError, match="max_share"):
        augment.random_crop(4, max_share=0.0)
    for call in (lambda: augment.random_crop(0), lambda: augment.random_crop(padding=-1), lambda: augment.tone(2.0)):
        with pytest.raises(ValueError, match="Received"):
            call()


def test_the_usual_recipe_has_all_its_steps_in_order(monkeypatch):
    made = mock.Mock()
    for name in ("random_scale", "random_crop", "random_flip", "photometric", "pad", "chain"):
        monkeypatch.setattr(augment, name, getattr(made, name))
    assert augment.standard(8, (1, 2), (9, 7), 0.5, (1, 0), False) is made.chain.return_value
    steps = [
        mock.call.random_scale(1, 2, base=(9, 7), keep_ratio=False),
        mock.call.random_crop(8, max_share=0.5),
        mock.call.random_flip((1, 0)),
        mock.call.photometric(),
        mock.call.pad(8),
    ]
    in_order = (made.random_scale(), made.random_crop(), made.random_flip(), made.photometric(), made.pad())
    assert made.mock_calls[:6] == [*steps, mock.call.chain(*in_order)]
