"""Batches for `fit`, `evaluate` and `predict`."""

import itertools

import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import preprocess, size_pair
from cplus1_keras.labels import NEGATIVE

MEMORY = 2 * 2**30
"""Images of a split are held in memory if they need at most so many bytes (2 GiB)."""

_SHUFFLE_BUFFER = 10_000


def training(
    split,
    batch_size,
    image_size=None,
    channels=None,
    augment=None,
    negative_fraction=None,
    seed=0,
    first_epoch=0,
    memory=MEMORY,
):
    """Shuffled, augmented training batches; each pass over the data set is one epoch.

    The order of an epoch, and what is random in `augment`, depend on `seed` and the epoch's number alone: a run that
    was stopped after k epochs continues exactly with `first_epoch=k`. All batches are full, so that replicas divide
    them; each epoch leaves out fewer than `batch_size` images, others each time.

    With `negative_fraction`, an epoch is one pass over the known images, and negatives are put between them evenly:
    among any n consecutive images the number of negatives is n * negative_fraction to within 1, so each batch, and
    each replica's part of it, has its share. The n-th use of a negative comes after all have been used n - 1 times in
    that epoch.

    Data that fit into `memory` are held there before augmentation, as uint8 if the images are that and keep their
    size. Larger data are read anew in each epoch; from streamed files they are shuffled by a buffer of 10,000 images.

    Args:
        split: a `Split`.
        batch_size: images in a batch, over all replicas.
        image_size: None if all images have one size, else an int or (height, width).
        channels: None, 1 or 3.
        augment: `augment(images, seed)` from `cplus1_keras.data.augment`, or None.
        negative_fraction: negatives as a part of each batch, in [0, 1); None mixes the split as it is.
        seed: int >= 0.
        first_epoch: number of the first epoch that the data set gives.
        memory: most bytes to hold in memory; 0 holds nothing.

    Returns:
        tf.data.Dataset of (images (batch_size, H, W, C) float32 in 0..255, labels (batch_size,) int32).

    Raises:
        ValueError: fewer images than `batch_size`, no negatives to sample, a fraction outside [0, 1), unknown images
            in the split, or images of several sizes without `image_size`.

    Example:

    >>> from cplus1_keras.data import protocols, sources, splits
    >>> digits = splits.split(protocols.digits(), sources.digits())
    >>> images, labels = next(iter(training(digits.train, batch_size=64, negative_fraction=0.25)))
    >>> images.shape, int(tf.reduce_sum(tf.cast(labels == -1, tf.int32)))
    (TensorShape([64, 8, 8, 1]), 16)
    """
    _check_batch_size(batch_size)
    mix = _Mix(split, negative_fraction)
    if mix.total < batch_size:
        raise ValueError(
            f"An epoch of {mix.total} images has no batch of {batch_size}. Take a batch_size of at most {mix.total}."
        )
    images = _Images(split, image_size, channels, memory)
    labels = tf.constant(split.labels)

    def finished(epoch, step, chosen, positions):
        chosen = preprocess(chosen)
        if augment is not None:
            key = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), epoch]), step)
            chosen = augment(chosen, key)
        return chosen, tf.gather(labels, positions)

    def one_epoch(epoch):
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        if images.random_access:
            order = tf.data.Dataset.from_tensor_slices(mix.order(key))
            batches = images.batches(order, batch_size, drop_remainder=True)
        else:
            batches = mix.stream(images, key).batch(batch_size, drop_remainder=True)
        return batches.enumerate().map(
            lambda step, pair: finished(epoch, step, *pair), num_parallel_calls=tf.data.AUTOTUNE
        )

    numbers = itertools.count(first_epoch)
    epoch = tf.data.Dataset.from_generator(lambda: iter([next(numbers)]), output_signature=tf.TensorSpec([], tf.int64))
    batches = epoch.flat_map(one_epoch).apply(tf.data.experimental.assert_cardinality(mix.total // batch_size))
    return batches.prefetch(tf.data.AUTOTUNE)


def evaluation(split, batch_size, image_size=None, channels=None, memory=MEMORY):
    """All images of a split in the order of `split.labels`, the last batch being smaller where it must.

    Args:
        split: a `Split`.
        batch_size: images in a batch, over all replicas.
        image_size: None if all images have one size, else an int or (height, width).
        channels: None, 1 or 3.
        memory: most bytes to hold in memory; 0 reads anew in each pass.

    Returns:
        tf.data.Dataset of (images (N, H, W, C) float32 in 0..255, labels (N,) int32).

    Raises:
        ValueError: no batch size, or images of several sizes without `image_size`.

    Example:

    >>> from cplus1_keras.data import protocols, sources, splits
    >>> digits = splits.split(protocols.digits(), sources.digits())
    >>> labels = np.concatenate([labels for _, labels in evaluation(digits.test, batch_size=100)])
    >>> np.array_equal(labels, digits.test.labels)
    True
    """
    _check_batch_size(batch_size)
    images = _Images(split, image_size, channels, memory)
    if images.random_access:
        batches = images.batches(tf.data.Dataset.range(len(split)), batch_size)
    else:
        batches = images.stream().batch(batch_size)
    labels = tf.constant(split.labels)
    batches = batches.map(lambda chosen, positions: (preprocess(chosen), tf.gather(labels, positions)))
    return batches.prefetch(tf.data.AUTOTUNE)


class _Images:
    """The images of a split, all of one shape, from memory where they fit."""

    def __init__(self, split, image_size, channels, memory):
        self.source, self.size, self.channels = split.source, image_size, channels
        height, width = size_pair(image_size) if image_size is not None else self.source.shape[:2]
        self.shape = (height, width, channels or self.source.shape[2])
        self.as_stored = self.shape == self.source.shape
        self.names = None
        if None in self.shape and len(split):
            first = next(iter(self.source.images().take(1)))
            self.shape = tuple(preprocess(first, image_size, channels).shape)
            self.names = tf.constant([split.describe(index) for index in range(len(split))])
        self.store = self._stored(memory)
        self.random_access = self.store is not None or self.source.random_access

    def _stored(self, memory):
        images = self.source.array if self.as_stored else None
        size = 4 if not self.as_stored else self.source.dtype.size
        if images is None and 0 < len(self.source) * np.prod(self.shape) * size <= memory:
            batches = self.stream().map(lambda image, _: image).batch(256).as_numpy_iterator()
            images = np.concatenate(list(batches))
        with tf.device("CPU:0"):
            return None if images is None else tf.constant(images)

    def converted(self, image, position):
        if not self.as_stored:
            image = preprocess(image, self.size, self.channels)
        if self.names is not None:
            message = f"Images of several sizes need `image_size`: the first is {self.shape}, this one differs:"
            same = tf.reduce_all(tf.shape(image) == self.shape)
            check = tf.debugging.Assert(same, [message, tf.gather(self.names, position), tf.shape(image)])
            with tf.control_dependencies([check]):
                image = tf.identity(image)
        return tf.ensure_shape(image, self.shape), position

    def stream(self, indices=None):
        """Pairs (image, position in the split) in ascending order."""
        indices = np.arange(len(self.source)) if indices is None else indices
        positions = tf.data.Dataset.from_tensor_slices(indices)
        pairs = tf.data.Dataset.zip(self.source.subset(indices).images(), positions)
        return pairs.map(self.converted, num_parallel_calls=tf.data.AUTOTUNE)

    def batches(self, positions, batch_size, drop_remainder=False):
        """Batches of (images, positions) in the order of `positions`, a data set; needs `random_access`."""
        if self.store is not None:
            return positions.batch(batch_size, drop_remainder).map(
                lambda chosen: (tf.gather(self.store, chosen), chosen), num_parallel_calls=tf.data.AUTOTUNE
            )
        read = self.source.reader()
        pairs = positions.map(
            lambda position: self.converted(read(position), position), num_parallel_calls=tf.data.AUTOTUNE
        )
        return pairs.batch(batch_size, drop_remainder)


class _Mix:
    """Which images an epoch takes, in which order."""

    def __init__(self, split, negative_fraction):
        if np.any(split.labels < NEGATIVE):
            raise ValueError(f"Unknown images must not be trained on. Received: the {split.name} split has some.")
        self.fraction = negative_fraction
        self.everything = np.arange(len(split))
        self.known = np.flatnonzero(split.labels >= 0)
        self.negative = np.flatnonzero(split.labels == NEGATIVE)
        self.total = len(split)
        if negative_fraction is None:
            return
        if not 0 <= negative_fraction < 1:
            raise ValueError(f"`negative_fraction` must lie in [0, 1). Received: {negative_fraction!r}")
        if negative_fraction and not len(self.negative):
            raise ValueError(
                f"The {split.name} split has no negatives for negative_fraction={negative_fraction}. "
                "Name negative classes in the protocol, or leave `negative_fraction` out."
            )
        self.total = round(len(self.known) / (1 - negative_fraction))
        self.num_negatives = self.total - len(self.known)
        # Position i takes a negative where the whole part of (i + 1) * share exceeds that of i * share.
        passed = np.arange(self.total + 1) * self.num_negatives // max(self.total, 1)
        self.is_negative = np.diff(passed)

    def order(self, key):
        """Positions in the split, (total,) int64, shuffled by `key`, an int64 (2,) tensor."""
        shuffle = tf.random.experimental.stateless_shuffle
        if self.fraction is None:
            return shuffle(tf.constant(self.everything), key)
        known = shuffle(tf.constant(self.known), tf.random.fold_in(key, 0))
        rounds = -(-self.num_negatives // max(len(self.negative), 1))
        draws = tf.random.stateless_uniform([rounds, len(self.negative)], tf.random.fold_in(key, 1))
        negative = tf.reshape(tf.gather(self.negative, tf.argsort(draws, axis=1)), [-1])[: self.num_negatives]
        used = np.cumsum(self.is_negative)
        slots = np.where(self.is_negative, len(self.known) + used - 1, np.arange(self.total) - used)
        return tf.gather(tf.concat([known, negative], axis=0), slots)

    def stream(self, images, key):
        """Pairs (image, position) of files that can be read from the beginning only, shuffled by a buffer."""
        seeds = tf.random.stateless_uniform([2], key, maxval=2**31 - 1, dtype=tf.int64)
        # A global seed of 0, as `keras.utils.set_random_seed(0)` leaves it, makes TensorFlow ask whether our seed, a
        # tensor, is 0 too, which fails in a graph; a seed of this graph's own takes its place.
        tf.compat.v1.get_default_graph().seed = 1
        if self.fraction is None:
            return images.stream().shuffle(_SHUFFLE_BUFFER, seeds[0])
        known = images.stream(self.known).shuffle(_SHUFFLE_BUFFER, seeds[0])
        if not self.num_negatives:
            return known
        negative = images.stream(self.negative).shuffle(_SHUFFLE_BUFFER, seeds[1]).repeat()
        choice = tf.data.Dataset.from_tensor_slices(self.is_negative.astype("int64"))
        return tf.data.Dataset.choose_from_datasets([known, negative], choice, stop_on_empty_dataset=True)


def _check_batch_size(batch_size):
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` must be an int >= 1. Received: batch_size={batch_size!r}")
