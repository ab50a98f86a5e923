"""Mixup: images and labels by the same shares, each step by its number."""

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras.data.mixing import mixup


def batches(first=0, size=64):
    """Batches whose images hold their label."""

    def one(step):
        labels = tf.cast(tf.range(size), tf.int32) + 100 * tf.cast(step, tf.int32)
        return tf.cast(labels, tf.float32)[:, None, None, None] * tf.ones((2, 3, 1)), labels

    return tf.data.Dataset.range(first, 50).map(one)


def test_images_and_labels_are_mixed_by_the_same_share():
    for (images, y), (plain, labels), _ in zip(mixup(batches(), 0.7), batches(), range(3), strict=False):
        np.testing.assert_array_equal(y["labels"], labels)
        assert set(y["mixed_labels"].numpy()) == set(labels.numpy())  # each is the other of one
        share = y["mixed_share"].numpy()
        expected = share * y["labels"].numpy() + (1 - share) * y["mixed_labels"].numpy()
        np.testing.assert_allclose(images[:, 1, 2, 0], expected, rtol=1e-5)
        assert images.shape == plain.shape


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_betas(alpha):
    """Beta(α, α) has the variance 1 / (4 (2α + 1)), which max(u, 1 - u) keeps about 1/2."""
    shares = np.concatenate([y["mixed_share"] for _, y in mixup(batches(size=400), alpha)])
    assert (shares >= 0.5).all()
    assert (shares <= 1.0).all()
    variance = np.mean((shares - 0.5) ** 2)
    assert variance == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_a_step_depends_on_its_number_and_the_seed_alone():
    whole = [batch for batch, _ in zip(mixup(batches(), 1.0, seed=3), range(6), strict=False)]
    later = next(iter(mixup(batches(4), 1.0, seed=3, first_step=4)))
    tf.nest.map_structure(np.testing.assert_array_equal, later, whole[4])
    other = next(iter(mixup(batches(), 1.0, seed=4)))
    assert (other[1]["mixed_share"].numpy() != whole[0][1]["mixed_share"].numpy()).any()
    assert (whole[0][1]["mixed_share"].numpy() != whole[1][1]["mixed_share"].numpy()).any()


def test_weights_pass_and_other_alphas_are_refused():
    weighted = batches().map(lambda images, labels: (images, labels, tf.ones(64)))
    assert len(next(iter(mixup(weighted, 1.0)))) == 3
    for alpha in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="`alpha` of mixup"):
            mixup(batches(), alpha)
