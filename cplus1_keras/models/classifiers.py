"""Classifiers of images: a backbone and a head, each by a function that makes a new one."""

import keras

from cplus1_keras.models.open_set import OpenSetModel


def classifier(num_classes, backbone, head, name="classifier"):
    """The model from images to a head's outputs.

    Args:
        num_classes: C, the number of known classes.
        backbone: Function of no argument that gives a `keras.Model` from images (N, H, W, channels), pixels 0..255, to
            features (N, K), or to a map (N, h, w, K) for a head that takes maps, like `CAMHead`.
        head: Function from C to a head, or to any function from features to named outputs.
        name: The model's name.

    Returns:
        `OpenSetModel` from images to a dict of outputs, `logits` (N, C) or (N, C + 1) among them, not compiled.

    Raises:
        TypeError: A model or a head where a function that makes one is wanted.
        ValueError: Features that the head does not take, or outputs that are no classifier's of C classes.

    >>> backbone = lambda: backbones.small_cnn((8, 8, 1), features=32)
    >>> classifier(6, backbone, heads.LinearHead).output["logits"].shape
    (None, 6)
    """
    check_makers(backbone, head)
    net, head = backbone(), head(num_classes)
    features = getattr(net, "output", None)
    rank = len(getattr(features, "shape", ()))
    if not isinstance(net, keras.Model) or rank not in (2, 4):
        raise ValueError(
            "A classifier needs a backbone from images to one vector (N, K) or one map (N, h, w, K) of features; lists "
            f"of maps are for segmentation. Received: {net!r} with output {features}"
        )
    received = f"Received: {net.name!r} with features of shape {tuple(features.shape)}"
    if getattr(head, "takes_maps", False) and rank != 4:
        needs = f"{type(head).__name__} reads maps (N, h, w, K), before pooling"
        raise ValueError(f"{needs}: give the backbone `pool=False`. {received}")
    outputs = head(features)
    logits = getattr(outputs.get("logits"), "shape", None) if isinstance(outputs, dict) else None
    if logits is not None and len(logits) == 4 and rank == 4:
        needs = "This head classifies each cell of a map"
        raise ValueError(f"{needs}: give the backbone `pool=True`, or take CAMHead. {received}")
    if logits is None or len(logits) != 2 or logits[-1] not in (num_classes, num_classes + 1):
        raise ValueError(
            f"A head for {num_classes} classes gives a dict with `logits` (N, {num_classes}), or one more with the "
            f"background last. Received: {outputs}"
        )
    return OpenSetModel(net.input, outputs, name=name)


def check_makers(backbone, head):
    """TypeError unless both are functions that make one."""
    for argument, given, example in (
        ("backbone", backbone, "functools.partial(backbones.resnet, 50)"),
        ("head", head, "heads.LinearHead or functools.partial(heads.CosineHead, scale=14.0)"),
    ):
        # Keras's models and layers can be called, but one that is there already would be shared by all runs.
        if isinstance(given, keras.layers.Layer) or not callable(given):
            raise TypeError(f"`{argument}` is a function that makes one, like {example}. Received: {given!r}")
