"""Batch normalisation over all replicas."""

import keras


def synchronize_batch_norm(model):
    """Lets each BatchNormalization of a model take its statistics over all replicas instead of over its own.

    Under `MirroredStrategy` each replica otherwise keeps moving statistics of its own, and what is saved and served
    then differs from what `predict` gave. Call it before the first `fit`. keras-cv's own model classes
    (`pool=False`) forget the setting when they are saved: call it again after loading one.

    Args:
        model: a `keras.Model`; layers of models nested in it count too. Changed in place.

    Returns:
        The same model.

    Example:
        >>> model = synchronize_batch_norm(backbones.lenet_plus_plus())
        >>> sum(getattr(layer, "synchronized", False) for layer in model.layers)
        3
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    return model
