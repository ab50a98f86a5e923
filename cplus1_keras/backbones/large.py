"""keras-cv's backbones by one call each, with the shapes that their papers print: keras-cv asks a hub for its own.

All reduce images 32-fold and take, return and raise what `resnet` does; with `pool=False` they give keras-cv's own
model, whose `pyramid_level_inputs` name the layers to tap for segmentation and detection.
"""

import keras

from cplus1_keras.backbones import kerascv, resnets
from cplus1_keras.backbones.outputs import TOO_SMALL, check_choice, check_image_shape, finish

DENSENET = {121: [6, 12, 24, 16], 169: [6, 12, 32, 32], 201: [6, 12, 48, 32]}
"""Layers of each block, Huang et al., table 1."""

_STAGES = {
    "b": ([1, 2, 2, 3, 5, 8], [32, 16, 32, 48, 96, 112, 192]),
    "s": ([2, 4, 4, 6, 9, 15], [24, 24, 48, 64, 128, 160, 256]),
    "m": ([3, 5, 5, 7, 14, 18, 5], [24, 24, 48, 80, 160, 176, 304, 512]),
    "l": ([4, 7, 7, 10, 19, 25, 7], [32, 32, 64, 96, 192, 224, 384, 640]),
}
"""Repeats, and channels from the stem on: Tan and Le, table 4, and their code. The first three stages are fused."""

EFFICIENTNET_V2 = {"b0": (1.0, 1.0), "b1": (1.0, 1.1), "b2": (1.1, 1.2), "b3": (1.2, 1.4)}
EFFICIENTNET_V2 |= dict.fromkeys("sml", (1.0, 1.0))
"""Factors of the width and of the depth."""

MOBILENET_V3 = {
    "small": {
        "stackwise_expansion": [1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        "stackwise_kernel_size": [3] * 3 + [5] * 8,
        "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [0.25] + [None] * 2 + [0.25] * 8,
        "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
    },
    "large": {
        "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160],
        "stackwise_kernel_size": [3] * 3 + [5] * 3 + [3] * 6 + [5] * 3,
        "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
        "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
    },
}
"""Howard et al., tables 2 and 1: each block's own."""

MIT = {"b0": [2, 2, 2, 2], "b1": [2, 2, 2, 2], "b2": [3, 4, 6, 3]}
MIT |= {"b3": [3, 4, 18, 3], "b4": [3, 8, 27, 3], "b5": [3, 6, 40, 3]}
"""Depths of the stages, Xie et al., table 6."""


def resnet_v2(depth=50, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """ResNet v2: residual blocks with normalisation and ReLU before the convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152: 512 features up to depth 34, then 2048.
        input_shape, features, pool, weights: As `resnet`.

    Reference: K. He et al., "Identity mappings in deep residual networks", ECCV 2016.

    >>> resnet_v2(18, (64, 64, 3), features=10).output_shape
    (None, 10)
    """
    check_choice("depth", depth, resnets.BLOCKS)
    form = resnets.keras_cv_form(depth)
    return _backbone("ResNetV2Backbone", f"resnet{depth}_v2", form, input_shape, features, pool, weights)


def efficientnet_v2(variant="b0", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """EfficientNet v2: mobile inverted bottlenecks, fused in the early stages.

    Args:
        variant: "b0", "b1", "b2", "b3", "s", "m" or "l": 1280 features (b2: 1408, b3: 1536).
        input_shape, features, pool, weights: As `resnet`.

    Reference: M. Tan and Q. V. Le, "EfficientNetV2: smaller models and faster training", ICML 2021.

    >>> efficientnet_v2("b0", (64, 64, 3)).output_shape
    (None, 1280)
    """
    check_choice("variant", variant, EFFICIENTNET_V2)
    width, depth = EFFICIENTNET_V2[variant]
    repeats, channels = _STAGES[variant[0]]
    more = len(repeats) - 6
    form = {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "stackwise_kernel_sizes": [3] * len(repeats),
        "stackwise_num_repeats": repeats,
        "stackwise_input_filters": channels[:-1],
        "stackwise_output_filters": channels[1:],
        "stackwise_expansion_ratios": [1, 4, 4, 4] + [6] * (2 + more),
        "stackwise_squeeze_and_excite_ratios": [0] * 3 + [0.25] * (3 + more),
        "stackwise_strides": [1, 2, 2, 2, 1, 2] + [1] * more,
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * (3 + more),
    }
    return _backbone("EfficientNetV2Backbone", f"efficientnetv2_{variant}", form, input_shape, features, pool, weights)


def mobilenet_v3(variant="large", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """MobileNet v3: inverted residuals with hard swish and squeeze-and-excite, for phones.

    Args:
        variant: "small" or "large": 576 or 960 features.
        input_shape, features, pool, weights: As `resnet`.

    Reference: A. Howard et al., "Searching for MobileNetV3", ICCV 2019.

    >>> mobilenet_v3("small", (64, 64, 3)).output_shape
    (None, 576)
    """
    check_choice("variant", variant, MOBILENET_V3)
    form = MOBILENET_V3[variant]
    return _backbone("MobileNetV3Backbone", f"mobilenet_v3_{variant}", form, input_shape, features, pool, weights)


def densenet(depth=121, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """DenseNet: each layer reads all earlier ones of its block.

    Args:
        depth: 121, 169 or 201: 1024, 1664 or 1920 features.
        input_shape, features, pool, weights: As `resnet`.

    Reference: G. Huang et al., "Densely connected convolutional networks", CVPR 2017.

    >>> densenet(121, (64, 64, 3)).output_shape
    (None, 1024)
    """
    check_choice("depth", depth, DENSENET)
    form = {"stackwise_num_repeats": DENSENET[depth]}
    return _backbone("DenseNetBackbone", f"densenet{depth}", form, input_shape, features, pool, weights)


def mit(variant="b0", input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """Mix Transformer, the encoder of SegFormer: four stages of overlapping patches and self-attention.

    Args:
        variant: "b0" to "b5": 256 features (b0) or 512.
        input_shape, features, pool, weights: As `resnet`; height and width must be known multiples of 32.

    Reference: E. Xie et al., "SegFormer: simple and efficient design for semantic segmentation with transformers",
    NeurIPS 2021.

    >>> mit("b0", (64, 64, 3)).output_shape
    (None, 256)
    """
    check_choice("variant", variant, MIT)
    height, width, _ = check_image_shape(f"mit_{variant}", input_shape, 64, TOO_SMALL, fixed=True)
    if height % 32 or width % 32:
        raise ValueError(f"mit needs a height and width that are multiples of 32 pixels. Received: {input_shape}")
    dims = [32, 64, 160, 256] if variant == "b0" else [64, 128, 320, 512]
    form = {"depths": MIT[variant], "embedding_dims": dims}
    return _backbone("MiTBackbone", f"mit_{variant}", form, input_shape, features, pool, weights)


def _backbone(class_name, name, form, input_shape, features, pool, weights):
    shape = check_image_shape(name, input_shape, 64, TOO_SMALL)
    backbone = kerascv.build(class_name, name, form, shape, weights)
    if not pool and features is None:
        return backbone
    # As one nested layer, because keras-cv's inner layers do not all survive saving; its backbones do.
    images = keras.Input(shape, name="images")
    return finish(f"{name}_features", images, backbone(images), features, pool)
