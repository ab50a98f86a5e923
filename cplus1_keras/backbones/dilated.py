"""ResNets whose last stages are dilated instead of strided, for features at a resolution that pixels need."""

import re

import keras

from cplus1_keras.backbones import large, variants
from cplus1_keras.backbones.outputs import check_choice

_LATE_CONVOLUTION = re.compile(r"v2_stack_([23])_block(\d+)_\d_conv")  # keras-cv names its v1 blocks so, too


def dilated_resnet(
    depth=50, output_stride=8, input_shape=(None, None, 3), widths=None, contract_dilation=True, weights=None
):
    """ResNet whose stages beyond `output_stride` keep the resolution: stride 1, and 3x3 convolutions dilated instead.

    A stage in place of which the net would have reduced dilates by 2 more than the one before: at stride 8 stage 3
    by 2 and stage 4 by 4, at stride 16 stage 4 by 2. With `contract_dilation` the first block of such a stage still
    has the dilation of the stage before: (1, 2, 2, ...) and (2, 4, 4) at stride 8.

    It is keras-cv's ResNet: one 7x7 convolution as stem, and the stride of a bottleneck in its first 1x1 convolution.
    The V1c stem of mmsegmentation's models (three 3x3 convolutions) has 19,232 more parameters. Batch normalisation
    has momentum 0.9, as there, where keras-cv has 0.99.

    Args:
        depth: 18, 34, 50, 101 or 152.
        output_stride: 8, 16 or 32 pixels to a cell of the last map.
        input_shape: (height, width, channels), pixels, at least 64 x 64; height and width may be None.
        widths: Channels of the four stages, (64, 128, 256, 512) if None; from depth 50 a stage gives 4 times as many.
            The first must be 64 up to depth 34, whose first shortcut has no convolution.
        contract_dilation: Whether the first block of a dilated stage has half of its dilation. False gives what the
            strided net computes, at more positions.
        weights: None starts at random; the name of a keras-cv preset ("resnet50_imagenet") downloads it; a folder is
            read as a preset saved on this machine.

    Returns:
        A `keras.Model`: images (N, height, width, channels), pixels 0..255 -> a list of the four stages' maps, at
        strides 4, 8, 16 and 32, none of them above `output_stride`.

    Raises:
        ValueError: unknown depth, output stride or weights, wrong widths, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Example:
        >>> [shape[1:3] for shape in dilated_resnet(18, 8).compute_output_shape((1, 64, 96, 3))]
        [(16, 24), (8, 12), (8, 12), (8, 12)]

    Reference:
        L.-C. Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017; `contract_dilation`
        as in the `ResNetV1c` of mmsegmentation.
    """
    check_choice("depth", depth, variants.RESNET)
    check_choice("output_stride", output_stride, (8, 16, 32))
    strided = _strided(depth, input_shape, widths, weights)
    dilations = {8: (2, 4), 16: (1, 2), 32: (1, 1)}[output_stride]

    def dilated(layer):
        config = layer.get_config()
        late = _LATE_CONVOLUTION.fullmatch(layer.name)
        if late:
            dilation = dilations[int(late[1]) - 2]
            if dilation > 1:
                config["strides"] = (1, 1)
            if config["kernel_size"] == (3, 3):
                first = late[2] == "1"
                rate = dilation // 2 if first and contract_dilation and dilation > 1 else dilation
                config["dilation_rate"] = (rate, rate)
        if isinstance(layer, keras.layers.BatchNormalization):
            config["momentum"] = 0.9
        return type(layer).from_config(config)

    clone = keras.models.clone_model(strided, clone_function=dilated)
    clone.set_weights(strided.get_weights())
    maps = [clone.get_layer(name).output for name in strided.pyramid_level_inputs.values()]
    return keras.Model(clone.input, maps, name=f"dilated_resnet{depth}")


def _strided(depth, input_shape, widths, weights):
    """keras-cv's ResNet with the given widths."""
    if widths is None:
        return large.resnet(depth, input_shape, pool=False, weights=weights)
    if weights is not None:
        raise ValueError(f"There are no weights for other widths than the usual: leave out one. Received: {widths=}")
    widths = [int(width) for width in widths]
    if len(widths) != 4 or min(widths) < 1 or (depth < 50 and widths[0] != 64):
        raise ValueError(
            "`widths` must be four positive numbers of channels, the first of them 64 up to depth 34. "
            f"Received: widths={widths} for depth {depth}"
        )
    shape = {**variants.RESNET[depth], "stackwise_filters": widths}
    return large._build("ResNetBackbone", f"resnet{depth}", shape, input_shape, None, False, None)
