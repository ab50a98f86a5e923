"""Batches of mixed images: two images in one, each label with its share."""

import numpy as np
import tensorflow as tf


def mixup(batches, alpha, seed=0, first_step=0):
    """Mix each image of a batch with another one of it, in shares that a beta distribution draws for each.

        x = λ x_a + (1 - λ) x_b,   λ = max(u, 1 - u),   u ~ Beta(α, α)

    Step n depends on the seed and n alone. `losses.MixedLoss` reads what this gives.

    Args:
        batches: `tf.data.Dataset` of (images, labels), or with weights of the labels as a third item.
        alpha: α > 0; 1 draws λ evenly from 1/2 to 1, less mixes less.
        seed: int >= 0.
        first_step: Number of the first batch.

    Returns:
        `tf.data.Dataset` of (images, y, ...), y a dict of `labels` (N,), of the larger share, `mixed_labels` (N,), of
        the other, and `mixed_share` (N,), λ.

    Reference: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. λ >= 1/2 loses nothing: the pair
    comes as often the other way round.

    >>> batches = tf.data.Dataset.from_tensors((tf.constant([[0.0], [8.0]]), tf.constant([3, 5])))
    >>> images, y = next(iter(mixup(batches, alpha=1.0)))
    >>> sorted(y)
    ['labels', 'mixed_labels', 'mixed_share']
    """
    if not 0 < alpha < np.inf:
        raise ValueError(f"`alpha` of mixup must be above 0. Received: alpha={alpha}")

    def mix(number, batch):
        images, labels, *weights = batch
        key = tf.random.fold_in(tf.constant([seed, 1], tf.int32), number)
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(labels)[0]), tf.random.fold_in(key, 0))
        draws = tf.random.stateless_gamma([2, tf.shape(labels)[0]], tf.random.fold_in(key, 1), alpha)
        # Of two gammas that are 0 in float32 neither tells a share: the image stays.
        share = tf.where(tf.reduce_sum(draws, 0) > 0, draws[0] / tf.maximum(tf.reduce_sum(draws, 0), 1e-30), 1.0)
        share = tf.maximum(share, 1 - share)
        own = tf.reshape(share, [-1] + [1] * (images.shape.rank - 1))
        y = {"labels": labels, "mixed_labels": tf.gather(labels, order), "mixed_share": share}
        return (own * images + (1 - own) * tf.gather(images, order), y, *weights)

    steps = tf.data.Dataset.range(first_step, np.iinfo("int64").max)
    mixed = tf.data.Dataset.zip(steps, batches).map(lambda number, batch: mix(number, batch), tf.data.AUTOTUNE)
    return mixed.apply(tf.data.experimental.assert_cardinality(batches.cardinality())).prefetch(tf.data.AUTOTUNE)
