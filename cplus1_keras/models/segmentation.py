"""Segmentation models: a backbone, a decoder, any head of the package, and outputs at the image's size."""

import keras

from cplus1_keras.layers.resizing import ResizeLike, ScaleWithin
from cplus1_keras.models import decoders
from cplus1_keras.models.open_set import OpenSetModel

# The outputs that are resized to the image: few channels, and read together by scores and margins.
PER_CLASS = ("logits", "cosines", "scale", "distances", "auxiliary_logits")
AUXILIARY_WEIGHT = 0.4  # of an auxiliary classifier's loss, as in mmsegmentation's and OCRNet's published settings


def segmentation_model(images, features, head, auxiliary_logits=None, name="segmentation_model"):
    """The model from images to a head's outputs for each pixel.

    What is per class (`logits`, `cosines`, `scale`, `distances`) is resized bilinearly to the image, so cross-entropy
    reads logits of each pixel. `features`, `embeddings` and all else stay at the features' own size, so that the C+1
    loss never holds a vector for each pixel; losses and centres take labels there by nearest neighbour.

    Args:
        images: Symbolic images (N, H, W, channels), pixels 0..255.
        features: Symbolic map (N, h, w, K).
        head: A head, or any function from features to named outputs, such as a head followed by centres.
        auxiliary_logits: Symbolic logits (N, h', w', classes) of a classifier that only training needs, or None.
        name: The model's name.

    Returns:
        `OpenSetModel` from images to a dict of outputs. `predict` concatenates every one of them: predict through
        `keras.Model(model.input, {"logits": model.output["logits"]})`.

    >>> images = keras.Input((None, None, 3))
    >>> features = keras.layers.Conv2D(8, 3, strides=4, padding="same")(images)
    >>> model = segmentation_model(images, features, heads.LinearHead(5, background=True))
    >>> {name: tuple(output.shape) for name, output in model(np.zeros((1, 20, 24, 3), "float32")).items()}
    {'features': (1, 5, 6, 8), 'logits': (1, 20, 24, 6)}
    """
    outputs = dict(head(features))
    if auxiliary_logits is not None:
        outputs["auxiliary_logits"] = auxiliary_logits
    for output in PER_CLASS:
        if output in outputs:
            outputs[output] = ResizeLike(name=f"{output}_at_image_size")([outputs[output], images])
    return OpenSetModel(images, outputs, name=name)


def deeplab_v3_plus(
    backbone,
    head,
    auxiliary=None,
    channels=512,
    low_level_channels=48,
    rates=None,
    dropout=0.1,
    name="deeplab_v3_plus",
):
    """DeepLabV3+, as the C+1 paper's framework has it: on a dilated ResNet, features at stride 4.

    Trainable parameters with 21 classes and a bias: 43,572,186 on `dilated_resnet(50)` with an auxiliary head,
    41,206,981 without; 62,564,314 on `dilated_resnet(101)` with one. mmsegmentation publishes 43.59M and 62.58M: its
    V1c stem has 19,232 more than the 7x7 stem of keras-cv. The example is one for small machines.

    Args:
        backbone: `keras.Model` from images to a list of maps, fine to coarse, such as `backbones.dilated_resnet`.
        head: A head, or any function from features to named outputs. The framework's own classifier is
            `LinearHead(num_classes, use_bias=True, background=True)`.
        auxiliary: A head for the FCN on the last map but one, or None. It gives `auxiliary_logits`, for a term
            `0.4 * BackgroundCrossEntropyLoss().of("auxiliary_", name="auxiliary")`.
        channels: Of the features.
        low_level_channels: To which the first map is reduced.
        rates: Dilations of the context; None takes (12, 24, 36) at stride 8, (6, 12, 18) at stride 16, and so on.
        dropout: Share of the channels that training drops before the classifier.
        name: The model's name.

    Returns:
        `OpenSetModel`: images (N, H, W, channels) of any size, 0..255 -> `features` (N, H/4, W/4, channels), `logits`
        (N, H, W, classes), and what else the head gives; see `segmentation_model`.

    Reference: L.-C. Chen et al., "Encoder-decoder with atrous separable convolution", ECCV 2018.

    >>> backbone = backbones.dilated_resnet(18, 16, widths=(64, 64, 96, 128))
    >>> model = deeplab_v3_plus(backbone, heads.LinearHead(10, use_bias=True, background=True), channels=96)
    """
    maps = _maps(backbone)
    if rates is None:
        rates = [96 * step // output_stride(backbone) for step in (1, 2, 3)]
    features = decoders.deeplab_features(maps, rates, channels, low_level_channels, dropout)
    return segmentation_model(backbone.input, features, head, _auxiliary(maps, auxiliary, dropout), name)


def fcn(backbone, head, auxiliary=None, channels=512, convolutions=2, dropout=0.1, name="fcn"):
    """A fully convolutional network on a dilated ResNet: two 3x3 convolutions on the last map, joined with it.

    Args:
        backbone, head, auxiliary, dropout, name: As `deeplab_v3_plus`.
        channels: Channels of each convolution, and of the features.
        convolutions: How many, at least 1.

    Returns:
        As `deeplab_v3_plus`; `features` at the last map's size.

    Reference: J. Long et al., "Fully convolutional networks for semantic segmentation", CVPR 2015.

    >>> model = fcn(backbones.dilated_resnet(18, 8), heads.LinearHead(10), channels=64)
    """
    maps = _maps(backbone)
    features = decoders.fcn_features(maps[-1], channels, convolutions, dropout=dropout)
    return segmentation_model(backbone.input, features, head, _auxiliary(maps, auxiliary, dropout), name)


def hrnet_fcn(backbone, head, dropout=0.0, name="hrnet_fcn"):
    """HRNetV2 with the classifier of its paper: all branches at stride 4, joined, and one 1x1 convolution.

    Trainable parameters with 21 classes and a bias: 9,641,391 on `hrnet(18)`, 65,860,101 on `hrnet(48)` (published:
    65.8M).

    Args:
        backbone, head, name: As `deeplab_v3_plus`, with `backbones.hrnet`.
        dropout: Share of the channels that training drops before the classifier; the published nets drop none.

    Returns:
        As `deeplab_v3_plus`; `features` have the channels of all branches.

    Reference: K. Sun et al., "High-resolution representations for labeling pixels and regions", 2019.

    >>> model = hrnet_fcn(backbones.hrnet(4), heads.LinearHead(20, use_bias=True, background=True))
    """
    x = decoders.join_maps(_maps(backbone))
    features = decoders.fcn_features(x, x.shape[-1], 1, kernel_size=1, concatenate=False, dropout=dropout)
    return segmentation_model(backbone.input, features, head, name=name)


def ocrnet(backbone, head, auxiliary, channels=512, key_channels=256, name="ocrnet"):
    """OCRNet: HRNetV2's joined branches with object-contextual representations.

    The auxiliary classifier says where each class is, so it is part of prediction too; it is trained by a loss of its
    own with weight 0.4. Trainable parameters with 21 classes and biases: 12,081,604 on `hrnet(18)`, 70,373,914 on
    `hrnet(48)`.

    Args:
        backbone, head, name: As `deeplab_v3_plus`, with `backbones.hrnet`.
        auxiliary: The head of the first classifier, with the same classes, for the same term as there.
        channels: Channels of cells and regions, and of the features.
        key_channels: Channels in which cells and regions are compared.

    Returns:
        As `deeplab_v3_plus`.

    Reference: Y. Yuan et al., "Object-contextual representations for semantic segmentation", ECCV 2020.

    >>> model = ocrnet(backbones.hrnet(4), heads.LinearHead(20), heads.LinearHead(20), channels=16, key_channels=8)
    """
    x = decoders.join_maps(_maps(backbone))
    first = decoders.fcn_features(x, x.shape[-1], 1, 1, concatenate=False, dropout=0.0, name="auxiliary")
    region_logits = auxiliary(first)["logits"]
    features = decoders.ocr_features(x, region_logits, channels, key_channels)
    return segmentation_model(backbone.input, features, head, region_logits, name)


def output_stride(backbone):
    """Pixels, int, to a cell of the last map of a backbone that gives a list of maps, along one axis.

    >>> output_stride(backbones.dilated_resnet(18, output_stride=16))
    16
    """
    _, height, width, channels = backbone.input_shape
    height = height or 512
    return round(height / backbone.compute_output_shape((1, height, width or 512, channels))[-1][1])


def _maps(backbone):
    maps = backbone.output
    if not isinstance(maps, list) or len(maps) < 2 or any(len(x.shape) != 4 for x in maps):
        raise ValueError(
            "Segmentation needs a backbone that gives a list of maps (N, h, w, K), fine to coarse, such as "
            f"backbones.dilated_resnet or backbones.hrnet. Received: {backbone.name!r} with output {maps}"
        )
    return maps


def _auxiliary(maps, head, dropout):
    """Logits of the FCN on the last map but one: half as many channels as are usual there, 256."""
    if head is None:
        return None
    x = decoders.fcn_features(maps[-2], 256, 1, concatenate=False, dropout=dropout, name="auxiliary")
    return head(x)["logits"]


def scale(model, base, keep_ratio=True):
    """A trained segmentation model behind `ScaleWithin`, with logits at the size of the images it was given.

    `base` and `keep_ratio` are those of `ScaleWithin`; a base of None gives `model` itself.

    >>> images = keras.Input((None, None, 3))
    >>> logits = keras.layers.Conv2D(2, 1)(images)
    >>> model = keras.Model(images, {"features": images, "logits": logits})
    >>> scale(model, (40, 12))(np.ones((1, 6, 8, 3), "float32"))["features"].shape.as_list()
    [1, 12, 16, 3]
    """
    if base is None:
        return model
    images = keras.Input((None, None, model.input_shape[-1]), name="images")
    outputs = model(ScaleWithin(base, keep_ratio, name="scale_within")(images))
    logits = ResizeLike(name="logits_at_image_size")([outputs["logits"], images])
    return keras.Model(images, {"features": outputs["features"], "logits": logits}, name=model.name)
