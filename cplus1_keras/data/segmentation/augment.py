"""Random changes of an image and its labels together. Each function returns an `augment(image, labels, seed)`.

`image` is (H, W, 3) float32 in 0..255, `labels` (H, W) int32, `seed` an int (2,) tensor that differs for each use of
each image. Equal seeds give equal results. Order, ranges and probabilities are those of mmsegmentation, which the C+1
paper trains with.

Reference: open-mmlab/mmsegmentation, mmseg/datasets/transforms; the photometric part after Liu et al., SSD, ECCV 2016
"""

import tensorflow as tf

from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.layers.resizing import scaled_size, size_pair

MEAN_COLOUR = (123.675, 116.28, 103.53)
"""ImageNet's mean, in 0..255: what an image is padded with, 0 after the usual normalisation."""

_TRIES = 10


def standard(crop_size, ratio=(0.5, 2.0), base=None, max_share=0.75, mirror=None, keep_ratio=True):
    """The usual recipe: random scale, crop, flip, photometric distortion, padding.

    Args:
        crop_size: int or (height, width) of the result.
        ratio: smallest and largest scale.
        base, keep_ratio: as `random_scale` has them; (2048, 512) is mmsegmentation's base for VOC, None scales from the
            native size.
        max_share: as `random_crop` has it.
        mirror: `protocol.mirror()` where left and right are classes of their own.

    Returns:
        `augment(image, labels, seed)`, giving (height, width, 3) and (height, width).

    Example:

    >>> image, labels = standard(8)(tf.zeros([6, 20, 3]), tf.zeros([6, 20], tf.int32), seed=[0, 1])
    >>> image.shape, labels.shape
    (TensorShape([8, 8, 3]), TensorShape([8, 8]))
    """
    return chain(
        random_scale(*ratio, base=base, keep_ratio=keep_ratio),
        random_crop(crop_size, max_share),
        random_flip(mirror),
        photometric(),
        pad(crop_size),
    )


def random_scale(low=0.5, high=2.0, base=None, keep_ratio=True):
    """Resize by a random factor, uniform in [low, high]: the image bilinear, the labels by nearest neighbour.

    Args:
        low: smallest factor, > 0.
        high: largest factor.
        base: None, or (long, short): the factor then applies to the largest size within long x short, either way up.
        keep_ratio: False stretches every image to `base`, then (height, width), before the factor applies.

    Raises:
        ValueError: no such range or base.

    Example:

    >>> random_scale(2, 2)(tf.zeros([4, 6, 3]), tf.zeros([4, 6], tf.int32), seed=[0, 1])[1].shape
    TensorShape([8, 12])
    """
    if not 0 < low <= high:
        raise ValueError(f"A range of scales needs 0 < low <= high. Received: low={low!r}, high={high!r}")

    def augment(image, labels, seed):
        factor = low + (high - low) * tf.random.stateless_uniform([], seed)
        return resize(image, labels, scaled_size(tf.shape(labels), base, keep_ratio, factor))

    return augment


def random_crop(size, max_share=1.0):
    """Cut out a window at random; an image that is smaller is kept whole along that side.

    Args:
        size: int or (height, width).
        max_share: below 1, a window is drawn again, up to 10 times, while one label has at least this share of the
            annotated pixels; in (0, 1]. Labels are those of training then: no `UNKNOWN`.

    Raises:
        ValueError: no such size or share.

    Example:

    >>> random_crop(4)(tf.zeros([3, 9, 3]), tf.zeros([3, 9], tf.int32), seed=[0, 1])[1].shape
    TensorShape([3, 4])
    """
    height, width = size_pair(size)
    if not 0 < max_share <= 1:
        raise ValueError(f"`max_share` must lie in (0, 1]. Received: {max_share!r}")

    def augment(image, labels, seed):
        room = tf.maximum(tf.shape(labels) - [height, width], 0)

        def window(number):
            draw = tf.random.stateless_uniform([2], tf.random.fold_in(_key(seed), number))
            top, left = tf.unstack(tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32))
            return tf.minimum(top, room[0]), tf.minimum(left, room[1])

        def cut(pixels, number):
            top, left = window(number)
            return pixels[top : top + height, left : left + width]

        def uniform(number):
            part = tf.reshape(cut(labels, number), [-1])
            counts = tf.math.bincount(tf.boolean_mask(part, part != IGNORE) - NEGATIVE)
            largest = tf.reduce_max(tf.concat([counts, [0]], 0))
            return tf.cast(largest, tf.float32) >= max_share * tf.cast(tf.reduce_sum(counts), tf.float32)

        number = tf.constant(0)
        if max_share < 1:
            (number,) = tf.while_loop(
                lambda number: tf.logical_and(number < _TRIES, uniform(number)), lambda number: (number + 1,), (number,)
            )
        return cut(image, number), cut(labels, number)

    return augment


def random_flip(mirror=None):
    """Mirror left to right with probability one half.

    Args:
        mirror: `protocol.mirror()`: the known class that each known class becomes, for classes that say left or right.

    Example:

    >>> random_flip((1, 0))(tf.zeros([2, 3, 3]), tf.zeros([2, 3], tf.int32), seed=[0, 1])[1].shape
    TensorShape([2, 3])
    """

    def augment(image, labels, seed):
        flipped = flip(image, labels, mirror)
        turn = tf.random.stateless_uniform([], seed) < 0.5
        return tf.where(turn, flipped[0], image), tf.where(turn, flipped[1], labels)

    return augment


def flip(image, labels, mirror=None):
    """Mirror an image and its labels left to right.

    >>> flip(tf.zeros([1, 2, 3]), tf.constant([[0, -1]]), mirror=(1, 0))[1].numpy()
    array([[-1,  1]], dtype=int32)
    """
    labels = tf.reverse(labels, axis=[1])
    if mirror is not None:
        labels = tf.where(labels >= 0, tf.gather(tf.constant(mirror, tf.int32), tf.maximum(labels, 0)), labels)
    return tf.reverse(image, axis=[1]), labels


def photometric(brightness=32.0, contrast=0.5, saturation=0.5, hue=18.0):
    """Change brightness, contrast, saturation and hue, each with probability one half; labels stay.

    x + b, then (either here or at the end, by a coin) c x, then saturation times s and hue plus h.

    Args:
        brightness: b is uniform in [-brightness, brightness], in levels of 0..255.
        contrast: c is uniform in [1 - contrast, 1 + contrast].
        saturation: s is uniform in [1 - saturation, 1 + saturation].
        hue: h is uniform in [-hue, hue], in units of 2 degrees.

    Example:

    >>> photometric()(tf.ones([2, 3, 3]), tf.zeros([2, 3], tf.int32), seed=[0, 1])[0].shape
    TensorShape([2, 3, 3])
    """

    def augment(image, labels, seed):
        draws = tf.random.stateless_uniform([4], seed, minval=-1.0)
        coins = tf.random.stateless_uniform([5], tf.random.fold_in(_key(seed), 1)) < 0.5
        b, c, s, h = tf.unstack(tf.where(coins[:4], draws, 0.0))
        first = coins[4]
        image = tf.clip_by_value(image + brightness * b, 0.0, 255.0)
        image = tf.clip_by_value(image * tf.where(first, 1 + contrast * c, 1.0), 0.0, 255.0)
        tint, strength, value = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
        tint = tf.math.floormod(tint + h * hue / 180, 1.0)
        strength = tf.clip_by_value(strength * (1 + saturation * s), 0.0, 1.0)
        image = 255 * tf.image.hsv_to_rgb(tf.stack([tint, strength, value], axis=-1))
        return tf.clip_by_value(image * tf.where(first, 1.0, 1 + contrast * c), 0.0, 255.0), labels

    return augment


def pad(size, colour=MEAN_COLOUR):
    """Enlarge to `size` at the bottom and on the right: the image by one colour, the labels by IGNORE.

    Args:
        size: int or (height, width), at least that of the image.
        colour: three values in 0..255.

    Example:

    >>> pad(2)(tf.zeros([1, 2, 3]), tf.zeros([1, 2], tf.int32))[1].numpy()
    array([[   0,    0],
           [-100, -100]], dtype=int32)
    """
    height, width = size_pair(size)

    def augment(image, labels, seed=None):
        more = [[0, height - tf.shape(labels)[0]], [0, width - tf.shape(labels)[1]]]
        labels = tf.pad(labels, more, constant_values=IGNORE)
        # Padding the difference to the colour with 0 would round each pixel.
        there = tf.pad(tf.ones_like(image[..., :1], tf.bool), [*more, [0, 0]])
        image = tf.where(there, tf.pad(image, [*more, [0, 0]]), tf.constant(colour, tf.float32))
        return tf.ensure_shape(image, [height, width, 3]), tf.ensure_shape(labels, [height, width])

    return augment


def resize(image, labels, size):
    """Resize to (height, width), the image bilinear, the labels by nearest neighbour at the pixels' centres.

    >>> resize(tf.zeros([2, 2, 3]), tf.constant([[0, 1], [2, 3]]), [1, 4])[1].numpy()
    array([[2, 2, 3, 3]], dtype=int32)
    """
    return tf.image.resize(image, size), tf.image.resize(labels[..., tf.newaxis], size, method="nearest")[..., 0]


def chain(*augments):
    """Apply several `augment(image, labels, seed)` one after another, each with a seed of its own.

    >>> small = chain(random_crop(2), random_flip())
    >>> small(tf.zeros([4, 4, 3]), tf.zeros([4, 4], tf.int32), seed=[0, 1])[1].shape
    TensorShape([2, 2])
    """

    def augment(image, labels, seed):
        for number, step in enumerate(augments):
            image, labels = step(image, labels, tf.random.fold_in(_key(seed), number))
        return image, labels

    return augment


def _key(seed):
    return tf.convert_to_tensor(seed, tf.int32)
