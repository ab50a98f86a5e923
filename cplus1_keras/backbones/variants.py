"""The shapes of keras-cv's nets, as their papers print them: arguments of keras-cv's parametrised classes."""

_RESNET_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

RESNET = {
    depth: {
        "stackwise_filters": [64, 128, 256, 512],
        "stackwise_blocks": list(blocks),
        "stackwise_strides": [1, 2, 2, 2],
        "block_type": "basic_block" if depth < 50 else "block",
    }
    for depth, blocks in _RESNET_STAGES.items()
}
"""He et al., CVPR 2016, table 1."""

DENSENET = {
    depth: {"stackwise_num_repeats": repeats}
    for depth, repeats in {121: [6, 12, 24, 16], 169: [6, 12, 32, 32], 201: [6, 12, 48, 32]}.items()
}
"""Huang et al., CVPR 2017, table 1."""


def _efficientnet(fused, stages, width=1.0, depth=1.0):
    """Stages as (repeats, input filters, output filters, expansion, squeeze-and-excite ratio, stride)."""
    repeats, inputs, outputs, expansions, ratios, strides = (list(column) for column in zip(*stages, strict=True))
    return {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "stackwise_kernel_sizes": [3] * len(stages),
        "stackwise_num_repeats": repeats,
        "stackwise_input_filters": inputs,
        "stackwise_output_filters": outputs,
        "stackwise_expansion_ratios": expansions,
        "stackwise_squeeze_and_excite_ratios": ratios,
        "stackwise_strides": strides,
        "stackwise_conv_types": ["fused"] * fused + ["unfused"] * (len(stages) - fused),
    }


_B = [
    (1, 32, 16, 1, 0, 1),
    (2, 16, 32, 4, 0, 2),
    (2, 32, 48, 4, 0, 2),
    (3, 48, 96, 4, 0.25, 2),
    (5, 96, 112, 6, 0.25, 1),
    (8, 112, 192, 6, 0.25, 2),
]
_S = [
    (2, 24, 24, 1, 0, 1),
    (4, 24, 48, 4, 0, 2),
    (4, 48, 64, 4, 0, 2),
    (6, 64, 128, 4, 0.25, 2),
    (9, 128, 160, 6, 0.25, 1),
    (15, 160, 256, 6, 0.25, 2),
]
_M = [
    (3, 24, 24, 1, 0, 1),
    (5, 24, 48, 4, 0, 2),
    (5, 48, 80, 4, 0, 2),
    (7, 80, 160, 4, 0.25, 2),
    (14, 160, 176, 6, 0.25, 1),
    (18, 176, 304, 6, 0.25, 2),
    (5, 304, 512, 6, 0.25, 1),
]
_L = [
    (4, 32, 32, 1, 0, 1),
    (7, 32, 64, 4, 0, 2),
    (7, 64, 96, 4, 0, 2),
    (10, 96, 192, 4, 0.25, 2),
    (19, 192, 224, 6, 0.25, 1),
    (25, 224, 384, 6, 0.25, 2),
    (7, 384, 640, 6, 0.25, 1),
]

EFFICIENTNET_V2 = {
    "b0": _efficientnet(3, _B),
    "b1": _efficientnet(3, _B, 1.0, 1.1),
    "b2": _efficientnet(3, _B, 1.1, 1.2),
    "b3": _efficientnet(3, _B, 1.2, 1.4),
    "s": _efficientnet(3, _S),
    "m": _efficientnet(3, _M),
    "l": _efficientnet(3, _L),
}
"""Tan and Le, ICML 2021, table 4 (S), and the authors' published configurations of the others."""


def _mobilenet(blocks):
    """Blocks as (expansion, filters, kernel, stride, squeeze-and-excite, activation)."""
    expansions, filters, kernels, strides, excited, activations = (list(column) for column in zip(*blocks, strict=True))
    return {
        "stackwise_expansion": expansions,
        "stackwise_filters": filters,
        "stackwise_kernel_size": kernels,
        "stackwise_stride": strides,
        "stackwise_se_ratio": [0.25 if excite else None for excite in excited],
        "stackwise_activation": activations,
    }


_RELU, _SWISH = "relu", "hard_swish"

MOBILENET_V3 = {
    "small": _mobilenet(
        [
            (1, 16, 3, 2, True, _RELU),
            (72 / 16, 24, 3, 2, False, _RELU),
            (88 / 24, 24, 3, 1, False, _RELU),
            (4, 40, 5, 2, True, _SWISH),
            (6, 40, 5, 1, True, _SWISH),
            (6, 40, 5, 1, True, _SWISH),
            (3, 48, 5, 1, True, _SWISH),
            (3, 48, 5, 1, True, _SWISH),
            (6, 96, 5, 2, True, _SWISH),
            (6, 96, 5, 1, True, _SWISH),
            (6, 96, 5, 1, True, _SWISH),
        ]
    ),
    "large": _mobilenet(
        [
            (1, 16, 3, 1, False, _RELU),
            (4, 24, 3, 2, False, _RELU),
            (3, 24, 3, 1, False, _RELU),
            (3, 40, 5, 2, True, _RELU),
            (3, 40, 5, 1, True, _RELU),
            (3, 40, 5, 1, True, _RELU),
            (6, 80, 3, 2, False, _SWISH),
            (2.5, 80, 3, 1, False, _SWISH),
            (2.3, 80, 3, 1, False, _SWISH),
            (2.3, 80, 3, 1, False, _SWISH),
            (6, 112, 3, 1, True, _SWISH),
            (6, 112, 3, 1, True, _SWISH),
            (6, 160, 5, 2, True, _SWISH),
            (6, 160, 5, 1, True, _SWISH),
            (6, 160, 5, 1, True, _SWISH),
        ]
    ),
}
"""Howard et al., ICCV 2019, tables 1 and 2."""

_MIT_STAGES = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}

MIT = {
    variant: {
        "depths": list(depths),
        "embedding_dims": [32, 64, 160, 256] if variant == "b0" else [64, 128, 320, 512],
    }
    for variant, depths in _MIT_STAGES.items()
}
"""Xie et al., SegFormer, NeurIPS 2021, table 6."""
