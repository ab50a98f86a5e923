"""Batches of images and label maps for `fit`, `evaluate` and `predict`."""

import numpy as np
import tensorflow as tf

from cplus1_keras.data.preprocessing import size_pair
from cplus1_keras.data.segmentation import augment as augments
from cplus1_keras.data.segmentation.splits import has_unknown
from cplus1_keras.data.segmentation.weights import pixel_weights

_STREAM_BUFFER = 500


def training(split, batch_size, crop_size, augment="standard", class_weights=None, seed=0, first_step=0):
    """Shuffled, augmented training batches without end: give `fit` a `steps_per_epoch`.

    Training is counted in steps, as in the papers. The images of a pass are shuffled anew; what is random in a step
    depends on `seed` and the step's number alone, so that a run which was stopped continues exactly with
    `first_step`. (Sets that stream, those of TensorFlow Datasets, are shuffled by a buffer of 500 images, and only
    their augmentation continues exactly.)

    Args:
        split: a `SegmentationSplit` without unknown labels.
        batch_size: images in a batch, over all replicas.
        crop_size: int or (height, width) of the training images.
        augment: `augment(image, labels, seed)` that gives images of `crop_size`; "standard" takes
            `augment.standard(crop_size, mirror=...)` with the protocol's pairs; None pads or crops at the lower right,
            without anything random.
        class_weights: None, or (C + 1,) floats, the background's last, as `weights.class_weights` gives them.
        seed: int >= 0.
        first_step: number of the first batch.

    Returns:
        tf.data.Dataset of (images (batch_size, h, w, 3) float32 in 0..255, labels (batch_size, h, w) int32), and with
        `class_weights` a third item, weights (batch_size, h, w) float32.

    Raises:
        ValueError: no images, a split with unknown labels, or no batch size. When a batch is drawn: what reading and
            labelling raise, as tf.errors.InvalidArgumentError with the same message.

    Example:

    >>> from cplus1_keras.data.segmentation import protocols, sources, splits
    >>> source = sources.arrays(np.zeros([10, 6, 9, 3], "uint8"), np.zeros([10, 6, 9], "uint8"))
    >>> images, labels = next(iter(training(splits.split(protocols.voc(), source).train, batch_size=2, crop_size=8)))
    >>> images.shape, labels.shape
    (TensorShape([2, 8, 8, 3]), TensorShape([2, 8, 8]))
    """
    _check(split, batch_size)
    if augment == "standard":
        augment = augments.standard(crop_size, mirror=split.protocol.mirror())
    elif augment is None:
        augment = _fitted(crop_size)
    height, width = size_pair(crop_size)

    def example(number, image, labels):
        key = tf.random.fold_in(tf.constant([seed, 0], tf.int32), number)
        image, labels = augment(image, labels, tf.cast(key, tf.int32))
        image, labels = tf.ensure_shape(image, [height, width, 3]), tf.ensure_shape(labels, [height, width])
        return (image, labels) if class_weights is None else (image, labels, pixel_weights(labels, class_weights))

    examples = _examples(split, seed, first_step * batch_size)
    batches = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return batches.prefetch(tf.data.AUTOTUNE)


def evaluation(split):
    """All images of a split in the order of `split.source.names`, one at a time at their own size.

    Args:
        split: a `SegmentationSplit`.

    Returns:
        tf.data.Dataset of (images (1, H, W, 3) float32 in 0..255, labels (1, H, W) int32).

    Example:

    >>> from cplus1_keras.data.segmentation import protocols, sources, splits
    >>> source = sources.arrays(np.zeros([10, 6, 9, 3], "uint8"), np.zeros([10, 6, 9], "uint8"))
    >>> next(iter(evaluation(splits.split(protocols.voc(), source).test)))[1].shape
    TensorShape([1, 6, 9])
    """
    return split.dataset().batch(1).prefetch(tf.data.AUTOTUNE)


def _examples(split, seed, first):
    """(number, image, labels) for number = first, first + 1, ..., pass after pass, each in an order of its own."""
    count = len(split)
    forever = tf.data.Dataset.range(first, np.iinfo("int64").max)
    if split.source.random_access:
        read = split.source.reader()

        def example(number):
            key = tf.stack([tf.constant(seed, tf.int64), number // count])
            index = tf.random.experimental.index_shuffle(number % count, tf.cast(key, tf.int32), count - 1)
            image, mask = read(index)
            return number, image, split.labels(mask, index)

        return forever.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    examples = split.dataset().shuffle(_STREAM_BUFFER, seed=seed).repeat()
    return tf.data.Dataset.zip(forever, examples).map(lambda number, pair: (number, *pair))


def _fitted(crop_size):
    height, width = size_pair(crop_size)
    enlarge = augments.pad(crop_size)

    def augment(image, labels, seed):
        return enlarge(image[:height, :width], labels[:height, :width])

    return augment


def _check(split, batch_size):
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` is a number of images, an int >= 1. Received: {batch_size!r}")
    if not len(split):
        raise ValueError(f"The split {split.name!r} has no image to train on.")
    if has_unknown(split):
        raise ValueError(
            f"The split {split.name!r} has labels of unknown classes ({', '.join(split.protocol.unknown)}), which "
            "training must not see. Train on `splits.train`."
        )
