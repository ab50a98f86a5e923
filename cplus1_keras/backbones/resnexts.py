"""ResNeXt: residual nets whose 3x3 convolutions are of many groups, for detectors."""

import keras
from keras import layers

from cplus1_keras.backbones.convolutions import bottleneck, convolution
from cplus1_keras.backbones.outputs import TOO_SMALL, check_choice, check_image_shape
from cplus1_keras.backbones.resnets import BLOCKS
from cplus1_keras.labels import check_count


def resnext(depth=101, groups=64, width=4, input_shape=(None, None, 3)):
    """ResNeXt, "101 64x4d" unless told otherwise: bottlenecks with 3x3 convolutions of many thin groups.

    A group's `width` doubles with each stage; the stages give 256, 512, 1024 and 2048 channels. Trainable parameters:
    81,406,272 with depth 101 in 64 groups of 4, 22,979,904 with depth 50 in 32 groups of 4; with a classifier of 1,000
    classes they are the published 83.5M and 25.0M. There are no pretrained weights in Keras's format; the layout is
    torchvision's.

    Args:
        depth: 50, 101 or 152.
        groups: Groups of each 3x3 convolution, the cardinality.
        width: Channels of each group in the first stage.
        input_shape: (height, width, channels), pixels, at least 64 x 64; height and width may be None.

    Returns:
        A `keras.Model`: images (N, height, width, channels), pixels 0..255 -> a list of the four stages' maps, at
        strides 4, 8, 16 and 32.

    Raises:
        ValueError: Unknown depth, groups or width below 1, or images below 64 pixels.

    Reference: S. Xie et al., "Aggregated residual transformations for deep neural networks", CVPR 2017.

    >>> [shape[1:] for shape in resnext(50, 32).compute_output_shape((1, 64, 96, 3))]
    [(16, 24, 256), (8, 12, 512), (4, 6, 1024), (2, 3, 2048)]
    """
    check_choice("depth", depth, (50, 101, 152))
    name = f"resnext{depth}_{check_count(groups, 'groups')}x{check_count(width, 'width')}d"
    images = keras.Input(check_image_shape(name, input_shape, 64, TOO_SMALL), name="images")
    x = convolution(layers.Rescaling(1 / 127.5, -1, name="rescaling")(images), 64, 7, "stem", strides=2)
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(x))
    maps = []
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            step = 2 if stage and not block else 1
            part = f"stage{stage + 1}_block{block + 1}"
            x = bottleneck(x, groups * width * 2**stage, 256 * 2**stage, part, step, groups)
        maps.append(x)
    return keras.Model(images, maps, name=name)
