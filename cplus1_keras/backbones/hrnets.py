"""HRNetV2: four branches at strides 4 to 32 side by side, which exchange what they know all the way."""

import keras
from keras import layers

from cplus1_keras.backbones.convolutions import basic_block, bottleneck, convolution
from cplus1_keras.backbones.outputs import TOO_SMALL, check_image_shape
from cplus1_keras.layers.resizing import ResizeLike

BLOCKS = 4  # of each branch of a module, and of stage 1


def hrnet(width=48, input_shape=(None, None, 3)):
    """HRNetV2: branches of `width`, 2, 4 and 8 times `width` channels at strides 4, 8, 16 and 32.

    Two 3x3 convolutions of stride 2, a stage of 4 bottlenecks, then stages with 2, 3 and 4 branches of 1, 4 and 3
    modules. A module has 4 basic blocks for each branch; then each branch gets the sum of all, brought to its size by
    3x3 convolutions of stride 2, or by a 1x1 convolution and bilinear resizing. Trainable parameters: 9,562,260 with
    width 18 and 65,325,120 with width 48, as published. There are no pretrained weights in Keras's format.

    Args:
        width: Channels of the finest branch: 18, 32 and 48 are published.
        input_shape: (height, width, channels), pixels, at least 32 x 32; height and width may be None.

    Returns:
        A `keras.Model`: images (N, height, width, channels), pixels 0..255 -> a list of four maps, fine to coarse.

    Raises:
        ValueError: A width below 1, a shape that is no image shape or too small.

    Reference: J. Wang et al., "Deep high-resolution representation learning for visual recognition", TPAMI 2020; K. Sun
    et al., "High-resolution representations for labeling pixels and regions", 2019.

    >>> [shape[1:] for shape in hrnet(18).compute_output_shape((1, 64, 96, 3))]
    [(16, 24, 18), (8, 12, 36), (4, 6, 72), (2, 3, 144)]
    """
    if isinstance(width, bool) or int(width) != width or width < 1:
        raise ValueError(f"`width` must be a number of channels >= 1, like 18, 32 or 48. Received: width={width}")
    name = f"hrnet_w{width}"
    shape = check_image_shape(name, input_shape, 32, TOO_SMALL)
    images = keras.Input(shape, name="images")
    x = convolution(layers.Rescaling(1 / 127.5, -1, name="rescaling")(images), 64, 3, "stem1", strides=2)
    x = convolution(x, 64, 3, "stem2", strides=2)
    for block in range(1, BLOCKS + 1):
        x = bottleneck(x, 64, 256, f"stage1_block{block}")
    branches = [x]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        branches = _transition(branches, [width * 2**i for i in range(stage)], f"transition{stage - 1}")
        for module in range(1, modules + 1):
            branches = _module(branches, f"stage{stage}_module{module}")
    return keras.Model(images, branches, name=name)


def _transition(branches, widths, name):
    """The branches with the channels of the next stage, and a new one at half the resolution of the last."""
    maps = list(branches)
    for i, width in enumerate(widths):
        if i == len(branches):
            maps.append(convolution(branches[-1], width, 3, f"{name}_{i + 1}", strides=2))
        elif branches[i].shape[-1] != width:
            maps[i] = convolution(branches[i], width, 3, f"{name}_{i + 1}")
    return maps


def _module(branches, name):
    """Residual blocks on each branch, then the exchange between all of them."""
    branches = list(branches)
    for i, x in enumerate(branches):
        for block in range(1, BLOCKS + 1):
            x = basic_block(x, x.shape[-1], f"{name}_branch{i + 1}_block{block}")
        branches[i] = x
    fused = []
    for i, target in enumerate(branches):
        parts = [_fit(source, target, j - i, f"{name}_{j + 1}to{i + 1}") for j, source in enumerate(branches)]
        fused.append(layers.ReLU(name=f"{name}_fuse{i + 1}_relu")(layers.Add(name=f"{name}_fuse{i + 1}_add")(parts)))
    return fused


def _fit(source, target, coarser, name):
    """`source` with the size and channels of `target`; it is 2**coarser times as coarse."""
    channels = target.shape[-1]
    if coarser > 0:
        x = convolution(source, channels, 1, name, activation=False)
        return ResizeLike(name=f"{name}_resize")([x, target])
    for step in range(-coarser):
        last = step == -coarser - 1
        filters = channels if last else source.shape[-1]
        source = convolution(source, filters, 3, f"{name}_{step + 1}", strides=2, activation=not last)
    return source
