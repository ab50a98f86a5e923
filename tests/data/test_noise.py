"""Label noise: its rates against binomial intervals, who gets it, and that a seed gives one answer."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import binom

from cplus1_keras import data
from cplus1_keras.data import noise


@pytest.fixture(scope="module")
def splits():
    """Digits, of which "low" merges 0 and 1."""
    protocol = data.Protocol(
        known=(("low", ("0", "1")), "3", "2", "5"), negative=("6", "7"), unknown=("8",), others="ignored"
    )
    return data.split(protocol, data.sources.digits(), seed=3)


def within(count, number, rate):
    low, high = binom.interval(1 - 1e-6, number, rate)
    return low <= count <= high


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.8, 1.0])
def test_symmetric_noise_is_uniform_over_all_classes(rate):
    """A label differs with the probability r (C - 1) / C, and each other class is as likely."""
    labels = np.repeat(np.arange(5), 4000)
    found = noise.symmetric(labels, 5, rate, np.random.default_rng(1))
    for own in range(5):
        for other in range(5):
            count = ((labels == own) & (found == other)).sum()
            assert within(count, 4000, rate / 5 if own != other else 1 - 0.8 * rate), (own, other)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_circular_noise_names_the_next_class(rate):
    labels = np.repeat(np.arange(5), 4000)
    found = noise.circular(labels, 5, rate, np.random.default_rng(1))
    assert set(np.unique((found - labels) % 5)) <= {0, 1}
    for own in range(5):
        assert within((found[labels == own] != own).sum(), 4000, rate)


@pytest.mark.parametrize("kind", [noise.symmetric, noise.circular])
def test_only_knowns_of_the_training_split_get_it(splits, kind):
    spoilt = noise.spoil(splits, kind, 0.4, seed=5)
    for name in ("validation", "calibration", "test"):
        assert getattr(spoilt, name) is getattr(splits, name)
    before, after = splits.train.labels, spoilt.train.labels
    changed = before != after
    assert changed.sum() == spoilt.noisy > 0
    assert (before[changed] >= 0).all()
    assert (after[changed] >= 0).all()
    expected = kind(before[before >= 0], 4, 0.4, np.random.default_rng([5, 2]))
    np.testing.assert_array_equal(after[before >= 0], expected)
    assert splits.train.labels is before  # what was given stays
    assert splits.noisy == 0
    assert f"; {spoilt.noisy} training labels wrong on purpose" in spoilt.summary()
    assert "wrong" not in splits.summary()


def test_training_batches_have_the_wrong_labels_and_the_right_images(splits):
    spoilt = noise.spoil(splits, noise.circular, 0.5)
    for own, other, image, index in zip(
        spoilt.train.dataset(), splits.train.dataset(), splits.train.source.array, range(40), strict=False
    ):
        np.testing.assert_array_equal(own["image"], image)
        assert own["labels"] == spoilt.train.labels[index]
        assert other["labels"] == splits.train.labels[index]
    images, labels = next(iter(data.training(spoilt.train, 256, negative_fraction=0.2, seed=1)))
    same, right = next(iter(data.training(splits.train, 256, negative_fraction=0.2, seed=1)))
    np.testing.assert_array_equal(images, same)
    differ = (labels != right).numpy()
    assert 0.3 < differ[right.numpy() >= 0].mean() < 0.7
    np.testing.assert_array_equal(tf.boolean_mask(labels, differ), (tf.boolean_mask(right, differ) + 1) % 4)


def test_a_seed_gives_one_answer(splits):
    first, again, other = (noise.spoil(splits, noise.symmetric, 0.5, seed).train.labels for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_is_refused(splits):
    for rate in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
            noise.spoil(splits, noise.symmetric, rate)
    sets = data.sources.arrays(np.zeros((20, 4, 4, 1), "uint8"), np.tile([[1, 0], [0, 1]], (10, 1)), ["a", "b"])
    many = data.split(data.Protocol(known=("a", "b")), sets)
    with pytest.raises(ValueError, match="one class each"):
        noise.spoil(many, noise.symmetric, 0.5)
