"""What every backbone shares: the check of its arguments, and the way from a feature map to a feature vector."""

import keras


def check_choice(name, value, choices):
    """Raises ValueError if `value` is none of `choices`, naming them."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}")


def check_image_shape(name, input_shape, smallest, advice, fixed=False):
    """The shape as (height, width, channels), or a ValueError that says what `name` needs.

    Args:
        name: the backbone's name, for the message.
        input_shape: (height, width, channels) in pixels; height and width may be None unless `fixed`.
        smallest: least height and width, pixels.
        advice: what to do with smaller images, a sentence.
        fixed: whether height and width must be known.

    Raises:
        ValueError: the shape has not three entries, lacks a known entry, or is too small.

    Example:

    >>> check_image_shape("my_net", [32, 32, 3], smallest=8, advice="It halves them three times.")
    (32, 32, 3)
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not shape[2] or (fixed and None in shape):
        may = "" if fixed else ", where height and width may be None"
        raise ValueError(f"{name} needs `input_shape` as (height, width, channels){may}. Received: {input_shape}")
    sides = [side for side in shape[:2] if side is not None]
    if sides and min(sides) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} x {smallest} pixels. {advice} Got: {input_shape}")
    return shape


def finish(name, inputs, feature_map, features, pool):
    """The model from `inputs` to a feature map or, with `pool`, to its spatial mean, mapped to `features` values."""
    if features is not None and not pool:
        raise ValueError(f"{name}: `features` is the length of the pooled vector; leave it out with `pool=False`.")
    outputs = feature_map
    if pool:
        outputs = keras.layers.GlobalAveragePooling2D(name="pool")(outputs)
    if features is not None:
        outputs = keras.layers.Dense(features, use_bias=False, name="features")(outputs)
    return keras.Model(inputs, outputs, name=name)
