"""Random changes of an example's colours, for `cplus1_keras.data.augment`."""

import tensorflow as tf


def photometric(brightness=32.0, contrast=0.5, saturation=0.5, hue=18.0):
    """Change brightness, contrast, saturation and hue, each with probability one half; for colour images.

    x + b, then (either here or at the end, by a coin) c x, then saturation times s and hue plus h.

    Args:
        brightness: b is uniform in [-brightness, brightness], in levels of 0..255.
        contrast: c is uniform in [1 - contrast, 1 + contrast].
        saturation: s is uniform in [1 - saturation, 1 + saturation].
        hue: h is uniform in [-hue, hue], in units of 2 degrees.

    >>> photometric()({"image": tf.ones([2, 3, 3])}, seed=[0, 1])["image"].shape
    TensorShape([2, 3, 3])

    Reference: Liu et al., SSD, ECCV 2016, as in mmsegmentation.
    """

    def augment(example, seed):
        draws = tf.random.stateless_uniform([4], seed, minval=-1.0)
        coins = tf.random.stateless_uniform([5], tf.random.fold_in(tf.convert_to_tensor(seed, tf.int32), 1)) < 0.5
        b, c, s, h = tf.unstack(tf.where(coins[:4], draws, 0.0))
        first = coins[4]
        image = tf.clip_by_value(example["image"] + brightness * b, 0.0, 255.0)
        image = tf.clip_by_value(image * tf.where(first, 1 + contrast * c, 1.0), 0.0, 255.0)
        tint, strength, value = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
        tint = tf.math.floormod(tint + h * hue / 180, 1.0)
        strength = tf.clip_by_value(strength * (1 + saturation * s), 0.0, 1.0)
        image = 255 * tf.image.hsv_to_rgb(tf.stack([tint, strength, value], axis=-1))
        return example | {"image": tf.clip_by_value(image * tf.where(first, 1.0, 1 + contrast * c), 0.0, 255.0)}

    return augment


def tone(brightness=0.2, contrast=0.2):
    """Change brightness and contrast: x -> mean + c (x - mean) + 255 b, clipped to 0..255.

    Args:
        brightness: b is uniform in [-brightness, brightness]; in [0, 1].
        contrast: c is uniform in [1 - contrast, 1 + contrast]; in [0, 1].

    >>> tone()({"image": tf.ones([8, 8, 1])}, seed=[0, 1])["image"].shape
    TensorShape([8, 8, 1])
    """
    if not (0 <= brightness <= 1 and 0 <= contrast <= 1):
        raise ValueError(f"Both lie in [0, 1]. Received: brightness={brightness!r}, contrast={contrast!r}")

    def augment(example, seed):
        draws = tf.random.stateless_uniform([2], seed, minval=-1.0)
        mean = tf.reduce_mean(example["image"])
        changed = mean + (1 + contrast * draws[0]) * (example["image"] - mean) + 255 * brightness * draws[1]
        return example | {"image": tf.clip_by_value(changed, 0.0, 255.0)}

    return augment
