"""What every backbone shares: the check of its arguments, and the way from a feature map to a feature vector."""

import keras

TOO_SMALL = "It reduces them 32-fold; for smaller ones take cifar_resnet or lenet_plus_plus, or enlarge them."


def check_choice(name, value, choices):
    """Raises ValueError if `value` is none of `choices`, naming them."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}")


def check_image_shape(name, input_shape, smallest, advice, fixed=False):
    """The shape as (height, width, channels), or a ValueError that says what the backbone `name` needs.

    Height and width may be None unless `fixed`; `advice` says what to do with images smaller than `smallest` pixels.

    >>> check_image_shape("my_net", [32, 32, 3], smallest=8, advice="It halves them three times.")
    (32, 32, 3)
    """
    shape = tuple(input_shape)
    entries = [n for n in shape if n is not None]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in entries)
    if len(shape) != 3 or shape[2] is None or not whole or (fixed and None in shape):
        may = ", all known" if fixed else ", where height and width may be None"
        raise ValueError(f"{name} needs `input_shape` as (height, width, channels){may}. Received: {input_shape}")
    if shape[0] in (1, 3) and shape[2] >= smallest:
        raise ValueError(f"{name} wants the channels last, (height, width, channels). Received: {input_shape}")
    sides = [side for side in shape[:2] if side is not None]
    if sides and min(sides) < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} x {smallest} pixels. {advice} Got: {input_shape}")
    return shape


def finish(name, inputs, feature_map, features, pool, flatten=False):
    """The model from `inputs` to a map or, with `pool`, to its mean or all its values, mapped to `features` values."""
    if features is not None and not pool:
        raise ValueError(f"{name}: `features` is the length of the pooled vector; leave it out with `pool=False`.")
    if pool:
        pooling = keras.layers.Flatten() if flatten else keras.layers.GlobalAveragePooling2D(name="pool")
        feature_map = pooling(feature_map)
    if features is not None:
        feature_map = keras.layers.Dense(features, use_bias=False, name="features")(feature_map)
    return keras.Model(inputs, feature_map, name=name)


def synchronize_batch_norm(model):
    """Lets each BatchNormalization take its statistics over all replicas instead of over its own; returns the model.

    Otherwise what is saved and served under `MirroredStrategy` differs from what `predict` gave. Call it before the
    first `fit`. keras-cv's own model classes (`pool=False`) forget the setting when saved: call it again after loading.

    Args:
        model: A `keras.Model`; layers of models nested in it count too. Changed in place.

    >>> model = synchronize_batch_norm(backbones.lenet_plus_plus())
    >>> sum(getattr(layer, "synchronized", False) for layer in model.layers)
    3
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    return model
