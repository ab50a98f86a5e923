"""From pixels of any kind to the numbers that a network sees: the same in training and in serving."""

import tensorflow as tf

from cplus1_keras.layers.resizing import size_pair


def preprocess(image, size=None, channels=None):
    """Any image, or batch of images, as float32 in 0..255, resized where wished: for training, evaluation and export.

    Integers of 8 bits keep their value, 16 bits are divided by 257, booleans become 0 and 255; floats are in 0..255
    already. Resizing is bilinear with antialiasing, as in PIL, and does not keep the aspect ratio.

    Args:
        image: (H, W), (H, W, C) or (N, H, W, C), any real dtype; the result has the axis of channels.
        size: None, an int for a square, or (height, width).
        channels: None, 1 or 3: grey is repeated to RGB, RGB becomes its luma 0.2989 R + 0.587 G + 0.114 B.

    >>> preprocess(tf.fill([4, 6], 51), size=2, channels=3).shape
    TensorShape([2, 2, 3])
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
    if size is not None and image.shape[-3:-1].as_list() != list(size_pair(size)):
        image = tf.image.resize(image, size_pair(size), antialias=True)
    return tf.cast(image, tf.float32)
