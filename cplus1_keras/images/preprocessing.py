"""From pixels of any kind to the numbers that a network sees: the same in training and in serving."""

import tensorflow as tf

from cplus1_keras.layers.resizing import size_pair


def preprocess(image, size=None, channels=None, short_side=None):
    """Any image, or batch of images, as float32 in 0..255, resized where wished: for training, evaluation and export.

    Integers of 8 bits keep their value, 16 bits are divided by 257, booleans become 0 and 255; floats are in 0..255
    already. Resizing is bilinear with antialiasing, as in PIL.

    Args:
        image: (H, W), (H, W, C) or (N, H, W, C), any real dtype; the result has the axis of channels.
        size: None, an int for a square, or (height, width); an image of another shape is stretched.
        channels: None, 1 or 3: grey is repeated to RGB, RGB becomes its luma 0.2989 R + 0.587 G + 0.114 B.
        short_side: None, or pixels, no fewer than those of `size`: the image keeps its shape and is resized to this
            shorter side, and `size` is cut from its middle.

    >>> preprocess(tf.fill([4, 6], 51), size=2, channels=3).shape
    TensorShape([2, 2, 3])
    >>> preprocess(tf.constant([[0, 50, 100, 150]]), size=1, short_side=1).numpy().ravel()
    array([50.], dtype=float32)
    """
    image = tf.convert_to_tensor(image)
    if image.shape.rank == 2:
        image = image[..., tf.newaxis]
    if image.shape.rank not in (3, 4):
        raise ValueError(f"An image has shape (H, W), (H, W, C) or (N, H, W, C). Received: shape {image.shape}")
    came = image.shape[-1]
    if channels not in (None, 1, 3):
        raise ValueError(f"`channels` must be None, 1 or 3. Received: channels={channels!r}")
    if channels not in (None, came) and came not in (1, 3):
        raise ValueError(f"Can turn 1 or 3 channels into {channels}. Received: an image of shape {image.shape}")
    factor = {tf.uint16: 1 / 257, tf.bool: 255.0}.get(image.dtype, 1.0)
    if image.dtype != tf.uint8 or channels not in (
        None,
        came,
    ):  # bytes are resized as they are, in a quarter of the memory
        image = tf.cast(image, tf.float32)
    image = image if factor == 1.0 else image * factor
    if channels not in (None, came):
        image = tf.repeat(image, channels, axis=-1) if came == 1 else tf.image.rgb_to_grayscale(image)
    if short_side is not None:
        image = _cut_middle(image, check_short_side(short_side, size), short_side)
    elif size is not None and image.shape[-3:-1].as_list() != list(size_pair(size)):
        image = tf.image.resize(image, size_pair(size), antialias=True)
    return tf.cast(image, tf.float32)


def shorten(image, short_side):
    """An image (H, W, C), resized to a shorter side of so many pixels as `preprocess` does, and not cut; float32.

    >>> shorten(tf.zeros([4, 6, 3]), 2).shape
    TensorShape([2, 3, 3])
    """
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.image.resize(image, tf.cast(_shortened(sides, short_side), tf.int32), antialias=True)


def check_short_side(short_side, size):
    """(height, width) of `size`; ValueError unless so much can be cut from images of this shorter side."""
    if size is None or max(size_pair(size)) > short_side:
        raise ValueError(f"`short_side` must be no less than the `size` to cut. Received: {short_side=}, {size=}")
    return size_pair(size)


def _shortened(sides, short_side):
    return tf.round(short_side / tf.reduce_min(sides) * sides)


def _cut_middle(image, size, short_side):
    """The middle of `shorten(image)`, nothing else of which is computed: a long thin image would be gigantic."""
    sides = tf.cast(tf.shape(image)[-3:-1], tf.float32)
    whole = _shortened(sides, short_side)
    scale, offset = whole / sides, (whole - size) // 2
    reach = tf.maximum(1 / scale, 1.0) + 1  # of the filter, in pixels, and one for what is rounded
    start = tf.cast(tf.maximum(offset / scale - reach, 0.0), tf.int32)
    stop = tf.cast(tf.math.ceil(tf.minimum((offset + size) / scale + reach, sides)), tf.int32)
    part = image[..., start[0] : stop[0], start[1] : stop[1], :]
    cut = tf.raw_ops.ScaleAndTranslate(
        images=part if image.shape.rank == 4 else part[tf.newaxis],
        size=size,
        scale=scale,
        translation=tf.cast(start, tf.float32) * scale - offset,
        kernel_type="triangle",
        antialias=True,
    )
    return cut if image.shape.rank == 4 else cut[0]
