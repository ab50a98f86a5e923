"""Random changes of a training example: each function returns an `augment(example, seed)` for `training`.

`example` is a dict with `image` (H, W, C) float32 in 0..255 and what is annotated: `labels` (H, W), or `boxes` (M, 4)
and `box_labels` (M,), change with the image; a class or a set of classes stays. `seed` is an int (2,) tensor that
differs for each use of each example; equal seeds give equal results.
"""

import tensorflow as tf

from cplus1_keras.data.colour import photometric, tone  # noqa: F401  (tone is one of these functions)
from cplus1_keras.data.geometry import crop, enlarge, ensure_size, flip, resize
from cplus1_keras.labels import IGNORE, NEGATIVE
from cplus1_keras.layers.resizing import scaled_size, size_pair

MEAN_COLOUR = (123.675, 116.28, 103.53)
"""ImageNet's mean, in 0..255: what an image is padded with, 0 after the usual normalisation."""

_TRIES = 10


def standard(crop_size, ratio=(0.5, 2.0), base=None, max_share=0.75, mirror=None, keep_ratio=True):
    """The usual recipe for masks, mmsegmentation's: random scale, crop, flip, photometric distortion, padding.

    Args:
        crop_size: int or (height, width) of the result.
        ratio: Smallest and largest scale.
        base, keep_ratio, max_share, mirror: As in the functions below; mmsegmentation's base for VOC is (2048, 512).

    >>> standard(8)({"image": tf.zeros([6, 20, 3]), "labels": tf.zeros([6, 20], tf.int32)}, seed=[0, 1])["labels"].shape
    TensorShape([8, 8])
    """
    return chain(
        random_scale(*ratio, base=base, keep_ratio=keep_ratio),
        random_crop(crop_size, max_share=max_share),
        random_flip(mirror),
        photometric(),
        pad(crop_size),
    )


def detection(size, scale=None, mirror=None, min_share=0.3):
    """The usual recipe for boxes: random scale, crop, flip, photometric distortion, padding.

    FCOS as published has neither crop nor colour: `chain(random_short_side(), random_flip(), pad(1333))`.

    Args:
        size: int or (height, width) of the result.
        scale: `random_scale(...)` or `random_short_side(...)`; None: 0.8 to 1.2 times the largest size within `size`.
        mirror, min_share: As in the functions below.

    >>> detection(8)({"image": tf.zeros([6, 20, 3]), "boxes": tf.constant([[2.0, 0, 9, 6]]),
    ...     "box_labels": tf.constant([1])}, seed=[0, 1])["image"].shape
    TensorShape([8, 8, 3])
    """
    size = size_pair(size)
    return chain(
        scale or random_scale(0.8, 1.2, base=size),
        random_crop(size, min_share=min_share),
        random_flip(mirror),
        photometric(),
        pad(size),
    )


def random_scale(low=0.5, high=2.0, base=None, keep_ratio=True):
    """Resize by a random factor, uniform in [low, high]: the image bilinear, labels by nearest neighbour.

    Args:
        low, high: Smallest, > 0, and largest factor.
        base: (long, short): the factor applies to the largest size within it, either way up; None: to the native size.
        keep_ratio: False stretches every image to `base`, then (height, width), before the factor applies.

    >>> random_scale(2, 2)({"image": tf.zeros([4, 6, 3])}, seed=[0, 1])["image"].shape
    TensorShape([8, 12, 3])
    """
    if not 0 < low <= high:
        raise ValueError(f"A range of scales needs 0 < low <= high. Received: low={low!r}, high={high!r}")

    def augment(example, seed):
        factor = low + (high - low) * tf.random.stateless_uniform([], seed)
        return resize(example, scaled_size(tf.shape(example["image"])[:2], base, keep_ratio, factor))

    return augment


def random_short_side(low=640, high=800, longest=1333):
    """Resize to a random length of the shorter side, uniform in [low, high] pixels, as far as `longest` allows.

        factor = min(length / shorter side, longest / longer side)

    >>> random_short_side(8, 8, longest=12)({"image": tf.zeros([4, 5, 3])}, seed=[0, 1])["image"].shape
    TensorShape([8, 10, 3])

    Reference: Tian et al., FCOS, ICCV 2019, whose code draws from all of 640 to 800; mmdetection's `mstrain_640-800`
    takes one of the two ends.
    """
    if not 0 < low <= high <= longest:
        came = f"low={low!r}, high={high!r}, longest={longest!r}"
        raise ValueError(f"A range of sides needs 0 < low <= high <= longest. Received: {came}")

    def augment(example, seed):
        size = tf.cast(tf.shape(example["image"])[:2], tf.float32)
        side = low + (high - low) * tf.random.stateless_uniform([], seed)
        factor = tf.minimum(side / tf.reduce_min(size), longest / tf.reduce_max(size))
        return resize(example, scaled_size(size, factor=factor))

    return augment


def random_crop(size=None, padding=0, max_share=1.0, min_share=0.3):
    """Cut out a window at random. An image smaller than `size` is kept whole along that side.

    Args:
        size: int or (height, width); None for the image's own size: with `padding`, images are shifted. The CIFAR
            standard (He et al., CVPR 2016, section 4.2) is `random_crop(padding=4)`.
        padding: Black pixels that are added on each side first, int >= 0; labels there are ignored.
        max_share: In (0, 1]; below 1, a window is drawn again, up to 10 times, while one label has at least this share
            of the annotated pixels. For label maps.
        min_share: In [0, 1]: boxes are cut to the window, and that of a known object which keeps less than this share
            of its area is ignored, so that its rest is neither to be found nor background. What is outside is gone.

    >>> random_crop(4)({"image": tf.zeros([3, 9, 3])}, seed=[0, 1])["image"].shape
    TensorShape([3, 4, 3])
    """
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(f"`padding` is a number of pixels, an int >= 0. Received: padding={padding!r}")
    if not 0 < max_share <= 1:
        raise ValueError(f"`max_share` must lie in (0, 1]. Received: {max_share!r}")
    if not 0 <= min_share <= 1:
        raise ValueError(f"`min_share` must lie in [0, 1]. Received: {min_share!r}")
    fixed = None if size is None else size_pair(size)

    def augment(example, seed):
        static = example["image"].shape[:2]
        height, width = fixed or (static if static.is_fully_defined() else tf.unstack(tf.shape(example["image"])[:2]))
        example = enlarge(example, [[padding, padding]] * 2, 0) if padding else example
        room = tf.maximum(tf.shape(example["image"])[:2] - [height, width], 0)

        def corner(number):
            draw = tf.random.stateless_uniform([2], tf.random.fold_in(_key(seed), number))
            return tf.unstack(tf.minimum(tf.cast(draw * tf.cast(room + 1, tf.float32), tf.int32), room))

        def uniform(number):
            top, left = corner(number)
            part = tf.reshape(example["labels"][top : top + height, left : left + width], [-1])
            counts = tf.math.bincount(tf.boolean_mask(part, part != IGNORE) - NEGATIVE)
            largest = tf.reduce_max(tf.concat([counts, [0]], 0))
            return tf.cast(largest, tf.float32) >= max_share * tf.cast(tf.reduce_sum(counts), tf.float32)

        number = tf.constant(0)
        if max_share < 1:
            (number,) = tf.while_loop(
                lambda number: tf.logical_and(number < _TRIES, uniform(number)), lambda number: (number + 1,), (number,)
            )
        return crop(example, *corner(number), height, width, min_share)

    return augment


def random_flip(mirror=None):
    """Mirror left to right with probability one half. Not for digits and letters.

    `mirror` is `split.mirror`: the known class that each known class becomes, for classes that say left or right.

    >>> random_flip((1, 0))({"image": tf.zeros([2, 3, 3]), "labels": tf.constant(1)}, seed=[0, 1])["image"].shape
    TensorShape([2, 3, 3])
    """

    def augment(example, seed):
        turn = tf.random.stateless_uniform([], seed) < 0.5
        return tf.cond(turn, lambda: flip(example, mirror), lambda: example)

    return augment


def pad(size, colour=MEAN_COLOUR):
    """Enlarge to `size` at the bottom and on the right: the image by one colour in 0..255, label maps by IGNORE.

    >>> pad(2)({"image": tf.zeros([1, 2, 3]), "labels": tf.zeros([1, 2], tf.int32)})["labels"].numpy()
    array([[   0,    0],
           [-100, -100]], dtype=int32)
    """
    height, width = size_pair(size)

    def augment(example, seed=None):
        shape = tf.shape(example["image"])
        return ensure_size(enlarge(example, [[0, height - shape[0]], [0, width - shape[1]]], colour), height, width)

    return augment


def from_layer(layer):
    """Use a Keras augmentation layer, such as `keras.layers.RandAugment(value_range=(0, 255))`, on the image alone.

    Where label maps or boxes are annotated it must be one that moves no pixel, for they stay as they are.

    The layer draws by its own seed: an interrupted run does not continue with the same draws. Create the layer outside
    of data functions; it must keep the image's shape.

    >>> import keras
    >>> from_layer(keras.layers.RandomFlip())({"image": tf.ones([8, 8, 3])}, seed=[0, 1])["image"].shape
    TensorShape([8, 8, 3])
    """

    def augment(example, seed):
        image = layer(example["image"][tf.newaxis], training=True)[0]
        return example | {"image": tf.ensure_shape(image, example["image"].shape)}

    return augment


def chain(*augments):
    """Apply several `augment(example, seed)` one after another, each with a seed of its own.

    >>> chain(random_crop(padding=4), random_flip())({"image": tf.ones([32, 32, 3])}, seed=[0, 1])["image"].shape
    TensorShape([32, 32, 3])
    """

    def augment(example, seed):
        for number, step in enumerate(augments):
            example = step(example, tf.random.fold_in(_key(seed), number))
        return example

    return augment


def _key(seed):
    return tf.convert_to_tensor(seed, tf.int32)
