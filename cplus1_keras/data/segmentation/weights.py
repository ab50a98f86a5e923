"""Weights of pixels by the frequency of their class."""

import numpy as np
import tensorflow as tf

from cplus1_keras.labels import NEGATIVE


def pixel_counts(split):
    """Number of pixels of each label in a split, in one pass over it.

    Args:
        split: a `SegmentationSplit`.

    Returns:
        (C + 1,) int64: the known classes in label order, then the background.

    Example:

    >>> weights = class_weights(pixel_counts(splits.train))  # doctest: +SKIP
    """
    number = split.protocol.num_classes
    counts = np.zeros(number + 1, "int64")
    for _, labels in split.dataset().as_numpy_iterator():
        counts[:number] += np.bincount(labels[labels >= 0], minlength=number)
        counts[number] += np.count_nonzero(labels == NEGATIVE)
    return counts


def class_weights(counts, offset=1.02):
    """Weights that help rare classes: w_k = 1 / ln(offset + p_k), p_k the share of class k, scaled to mean 1.

    Args:
        counts: (C + 1,) pixels of each class, the background's last.
        offset: > 1; the smaller, the more a rare class weighs.

    Returns:
        (C + 1,) float32 w with sum(p w) = 1.

    Raises:
        ValueError: no pixel, or an offset of at most 1.

    Example:

    >>> class_weights([90, 10, 0]).round(2)
    array([ 0.68,  3.9 , 22.32], dtype=float32)

    Reference: Paszke et al., ENet, arXiv 1606.02147, section 4; the scaling is ours
    """
    counts = np.asarray(counts, "float64")
    if not offset > 1 or counts.sum() <= 0 or counts.min() < 0:
        raise ValueError(f"Needs pixels, and an offset above 1. Received: counts={counts}, offset={offset!r}")
    share = counts / counts.sum()
    weights = 1 / np.log(offset + share)
    return (weights / np.sum(share * weights)).astype("float32")


def pixel_weights(labels, class_weights):
    """The weight of each pixel: its class's; 0 where the label is neither a class nor background.

    >>> pixel_weights(tf.constant([0, -1, -100]), [2.0, 3.0]).numpy()
    array([2., 3., 0.], dtype=float32)
    """
    table = tf.concat([tf.cast(class_weights, tf.float32), [0.0]], 0)
    background = tf.size(table) - 2
    known = labels >= 0
    return tf.gather(table, tf.where(known, labels, tf.where(labels == NEGATIVE, background, background + 1)))
