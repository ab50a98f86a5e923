"""Random changes of training images. Each function here returns an `augment(images, seed)` for `training`.

`images` is a (N, H, W, C) float32 batch in 0..255, `seed` an int (2,) tensor that differs for each epoch and batch; the
result is a batch of the same shape and range. Equal seeds give equal results, whenever training was interrupted.
No label is seen or changed.
"""

import tensorflow as tf


def random_crop(padding=4):
    """Shift each image by up to `padding` pixels, black coming in at the edge: pad on all sides, crop at random.

    Args:
        padding: pixels, int >= 0.

    Returns:
        `augment(images, seed)`.

    Raises:
        ValueError: padding is negative or no int.

    Example:

    >>> random_crop(1)(tf.ones([2, 8, 8, 1]), seed=[0, 1]).shape
    TensorShape([2, 8, 8, 1])

    Reference: the CIFAR standard since He et al., Deep Residual Learning, CVPR 2016, section 4.2
    """
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(f"`padding` is a number of pixels, an int >= 0. Received: padding={padding!r}")

    def augment(images, seed):
        count, height, width = tf.unstack(tf.shape(images)[:3])
        start = tf.random.stateless_uniform([2, count, 1], seed, maxval=2 * padding + 1, dtype=tf.int32)
        padded = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
        rows = tf.gather(padded, start[0] + tf.range(height), axis=1, batch_dims=1)
        moved = tf.gather(rows, start[1] + tf.range(width), axis=2, batch_dims=1)
        return tf.ensure_shape(moved, images.shape)

    return augment


def random_flip():
    """Mirror each image left to right with probability one half. Not for digits and letters.

    Returns:
        `augment(images, seed)`.

    Example:

    >>> random_flip()(tf.ones([2, 8, 8, 1]), seed=[0, 1]).shape
    TensorShape([2, 8, 8, 1])
    """

    def augment(images, seed):
        flip = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
        return tf.where(flip, tf.reverse(images, axis=[2]), images)

    return augment


def random_tone(brightness=0.2, contrast=0.2):
    """Change brightness and contrast of each image: x -> mean + c (x - mean) + 255 b, clipped to 0..255.

    Args:
        brightness: b is uniform in [-brightness, brightness]; in [0, 1].
        contrast: c is uniform in [1 - contrast, 1 + contrast]; in [0, 1].

    Returns:
        `augment(images, seed)`.

    Raises:
        ValueError: a value outside [0, 1].

    Example:

    >>> random_tone()(tf.ones([2, 8, 8, 1]), seed=[0, 1]).shape
    TensorShape([2, 8, 8, 1])
    """
    if not (0 <= brightness <= 1 and 0 <= contrast <= 1):
        raise ValueError(f"Both lie in [0, 1]. Received: brightness={brightness!r}, contrast={contrast!r}")

    def augment(images, seed):
        draws = tf.random.stateless_uniform([2, tf.shape(images)[0], 1, 1, 1], seed, minval=-1.0)
        mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
        changed = mean + (1 + contrast * draws[0]) * (images - mean) + 255 * brightness * draws[1]
        return tf.clip_by_value(changed, 0.0, 255.0)

    return augment


def from_layer(layer):
    """Use a Keras augmentation layer, such as `keras.layers.RandAugment(value_range=(0, 255))`.

    The layer draws by its own seed, not by the one that is passed: runs repeat with `keras.utils.set_random_seed`, but
    an interrupted run does not continue with the same draws. Create the layer outside of data functions.

    Args:
        layer: a Keras layer, called with `training=True`.

    Returns:
        `augment(images, seed)`.

    Example:

    >>> import keras
    >>> from_layer(keras.layers.RandomFlip())(tf.ones([2, 8, 8, 3]), seed=[0, 1]).shape
    TensorShape([2, 8, 8, 3])
    """

    def augment(images, seed):
        return tf.ensure_shape(layer(images, training=True), images.shape)

    return augment


def chain(*augments):
    """Apply several `augment(images, seed)` one after another, each with a seed of its own.

    >>> cifar_standard = chain(random_crop(4), random_flip())
    >>> cifar_standard(tf.ones([2, 32, 32, 3]), seed=[0, 1]).shape
    TensorShape([2, 32, 32, 3])
    """

    def augment(images, seed):
        for number, step in enumerate(augments):
            images = step(images, tf.random.fold_in(tf.cast(seed, tf.int32), number))
        return images

    return augment
