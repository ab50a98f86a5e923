"""From mask values to labels, and weights of labels by how often they occur."""

import numpy as np
import tensorflow as tf

from cplus1_keras.labels import NEGATIVE

_OUTSIDE = np.iinfo("int32").min


def require(condition, sentence, value):
    """`value`, or tf.errors.InvalidArgumentError with what `sentence()` says where `condition` is false."""

    def fail():
        with tf.control_dependencies([tf.debugging.Assert(condition, [sentence()])]):
            return tf.identity(value)

    return tf.cond(condition, lambda: tf.identity(value), fail)


def to_labels(mask, table, where, title="protocol"):
    """(H, W) int32 labels of a mask by a dict of value -> label; errors name the mask by `where`, a string tensor.

    >>> to_labels(tf.constant([[0, 7]]), {0: -1, 7: 2}, "a.png").numpy()
    array([[-1,  2]], dtype=int32)
    """
    lookup = np.full(max(table) + 2, _OUTSIDE, "int32")
    lookup[list(table)] = list(table.values())
    mask = tf.cast(mask, tf.int32)
    last = len(lookup) - 1
    labels = tf.gather(tf.constant(lookup), tf.where((mask < 0) | (mask > last), last, mask))
    wrong = labels == _OUTSIDE

    def sentence():
        values, _, counts = tf.unique_with_counts(tf.boolean_mask(mask, wrong))
        order = tf.argsort(values)[:10]
        texts = [tf.strings.as_string(tf.gather(numbers, order)) for numbers in (values, counts)]
        listed = tf.strings.reduce_join(tf.strings.join([texts[0], " (", texts[1], " pixels)"]), separator=", ")
        more = tf.where(tf.size(values) > 10, tf.strings.format(" and {} more values", tf.size(values) - 10), "")
        count = tf.reduce_sum(tf.cast(wrong, tf.int32))
        share = tf.strings.format("{} of {} pixels", (count, tf.size(mask)))
        advice = ". Give them a role in the protocol, or correct the mask."
        return tf.strings.join([f"Mask values outside the {title} in ", where, ": ", listed, more, "; ", share, advice])

    return require(tf.logical_not(tf.reduce_any(wrong)), sentence, labels)


def pixel_counts(split):
    """Number of pixels, images with one class, or boxes of each label in a split; not of sets: they lack background.

    Returns:
        (C + 1,) int64: the known classes in label order, then the negatives.

    >>> from cplus1_keras import data
    >>> pixel_counts(data.split(data.protocols.digits(), data.sources.digits()).test)[-1]
    np.int64(72)
    """
    number = split.protocol.num_classes
    if split.source.kind == "classes":
        raise ValueError("Sets of labels have a count of images for each class: `splits.train.multi_hot.sum(0)`.")
    labels = split.labels if split.box_labels is None else split.box_labels
    if labels is not None:
        return np.bincount(labels[labels >= NEGATIVE] % (number + 1), minlength=number + 1)

    def count(example):
        # A negative is -1: the last of C + 1.
        labels = tf.reshape(example["labels"], [-1])
        return tf.math.bincount(tf.math.floormod(labels[labels >= NEGATIVE], number + 1), minlength=number + 1)

    counts = split.dataset().map(count, num_parallel_calls=tf.data.AUTOTUNE)
    return counts.reduce(np.zeros(number + 1, "int64"), lambda total, own: total + tf.cast(own, tf.int64)).numpy()


def class_weights(counts, offset=1.02):
    """Weights that help rare classes: w_k = 1 / ln(offset + p_k), p_k the share of class k, scaled to sum(p w) = 1.

    Args:
        counts: (C + 1,) pixels of each class, the background's last.
        offset: > 1; the smaller, the more a rare class weighs.

    Returns:
        (C + 1,) float32.

    Raises:
        ValueError: If there is no pixel, or the offset is at most 1.

    >>> class_weights([90, 10, 0]).round(2)
    array([ 0.68,  3.9 , 22.32], dtype=float32)

    Reference: Paszke et al., ENet, arXiv 1606.02147, section 4; the scaling is ours.
    """
    counts = np.asarray(counts, "float64")
    if not offset > 1 or counts.sum() <= 0 or counts.min() < 0:
        raise ValueError(f"Needs pixels, and an offset above 1. Received: counts={counts}, offset={offset!r}")
    share = counts / counts.sum()
    weights = 1 / np.log(offset + share)
    return (weights / np.sum(share * weights)).astype("float32")


def label_weights(labels, class_weights):
    """The weight of each label: its class's; 0 where it is neither a class nor negative.

    >>> label_weights(tf.constant([0, -1, -100]), [2.0, 3.0]).numpy()
    array([2., 3., 0.], dtype=float32)
    """
    table = tf.concat([tf.cast(class_weights, tf.float32), [0.0]], 0)
    negative = tf.size(table) - 2
    known = labels >= 0
    return tf.gather(table, tf.where(known, labels, tf.where(labels == NEGATIVE, negative, negative + 1)))
