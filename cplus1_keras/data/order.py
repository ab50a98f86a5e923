"""Which image of a split is the n-th that training draws: a function of the seed and n alone."""

import fractions

import numpy as np
import tensorflow as tf

from cplus1_keras.data.sampling import make_pool
from cplus1_keras.labels import NEGATIVE


class Order:
    """The endless order of training: pass after pass, each shuffled anew.

    With `fraction`, an exact p / q, image n is a negative where floor((n + 1) p / q) exceeds floor(n p / q): among any
    m images that follow each other, m p / q are negatives, to within 1. Knowns and negatives have passes of their own;
    `sampling` is of the knowns.
    """

    def __init__(self, split, fraction=None, seed=0, sampling=None, repeat_threshold=1e-3):
        _check(split, fraction)
        first = np.arange(len(split)) if fraction is None else np.flatnonzero(split.labels >= 0)
        self.seed, self.share = seed, (0, 1)
        self.pools = [make_pool(split, first, sampling, repeat_threshold)]
        if fraction is not None:
            self.share = fractions.Fraction(fraction).limit_denominator(10**6).as_integer_ratio()
            self.pools.append(make_pool(split, np.flatnonzero(split.labels == NEGATIVE)))

    @property
    def per_pass(self):
        """How many images one pass over the knowns, or over all, takes."""
        part, whole = self.share
        return round(self.pools[0].per_pass * whole / (whole - part))

    def negatives(self, number):
        """How many of the first `number` images are negatives."""
        part, whole = self.share
        return number * part // whole

    def indices(self, numbers):
        """Positions in the split, (n,) int64, of the images with these numbers, an (n,) int64 tensor."""
        before = self.negatives(numbers)
        known = self.pools[0].draw(numbers - before, self.seed)
        if not self.share[0]:
            return known
        # The passes over negatives are no copies of those over knowns: the sign of the seed tells them apart.
        return tf.where(self.negatives(numbers + 1) > before, self.pools[1].draw(before, -1 - self.seed), known)

    def records(self, split, first, buffer):
        """(position in the split, record) from image `first` on, of files that can be read from the beginning only.

        Each pass is shuffled by a buffer instead; what comes before `first` in its pass is read and skipped.
        """
        skipped = self.negatives(first)
        known = self._passes(split, 0, first - skipped, buffer)
        if not self.share[0]:
            return known
        numbers = tf.data.Dataset.range(first, np.iinfo("int64").max)
        choice = numbers.map(lambda number: self.negatives(number + 1) - self.negatives(number))
        return tf.data.Dataset.choose_from_datasets([known, self._passes(split, 1, skipped, buffer)], choice)

    def _passes(self, split, which, rank, buffer):
        pool = self.pools[which]

        def one_pass(number):
            # TensorFlow compares the seeds in Python where the global one is 0, which fails for a tensor; here it is a
            # seed of this function's graph.
            tf.compat.v1.set_random_seed(1)
            key = tf.stack([tf.constant(self.seed, tf.int64), 2 * number + which])
            seed = tf.random.stateless_uniform([], key, maxval=2**31 - 1, dtype=tf.int64)
            places = tf.data.Dataset.from_tensor_slices(pool.indices)
            pairs, times = tf.data.Dataset.zip(places, split.source.stream(pool.indices)), pool.times(number, self.seed)
            if times is not None:
                counted = tf.data.Dataset.zip(pairs, tf.data.Dataset.from_tensor_slices(times))
                pairs = counted.flat_map(lambda pair, count: tf.data.Dataset.from_tensors(pair).repeat(count))
            return pairs.shuffle(buffer, seed)

        numbers = tf.data.Dataset.range(rank // pool.per_pass, np.iinfo("int64").max)
        return numbers.flat_map(one_pass).skip(rank % pool.per_pass)


def _check(split, fraction):
    if not len(split):
        raise ValueError(f"The split {split.name!r} has no image to train on.")
    if split.has_unknown:
        raise ValueError(
            f"The split {split.name!r} has unknown classes ({', '.join(split.protocol.unknown[:10])}), which training "
            "must not see. Train on `splits.train`."
        )
    if fraction is None:
        return
    if split.labels is None:
        raise ValueError(f"`negative_fraction` is for images with one class each. Received: {split.source!r}")
    if not 0 <= fraction < 1:
        raise ValueError(f"`negative_fraction` must lie in [0, 1). Received: {fraction!r}")
    if fraction and not split.has_negatives:
        raise ValueError(f"The {split.name} split has no negatives for negative_fraction={fraction}; leave it out.")
    if not split.shows_known.any():
        raise ValueError(f"The {split.name} split has no known image.")
