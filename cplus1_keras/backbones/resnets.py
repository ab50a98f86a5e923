"""ResNet with normalisation and ReLU after the convolutions, strided, or dilated for features at a pixel's resolution.

One net, laid out as keras-cv's: a 7x7 stem, and the stride of a bottleneck in its first 1x1 convolution. So keras-cv's
weights fit. Batch normalisation has momentum 0.9, as in mmsegmentation, where keras-cv has 0.99.
"""

import keras
from keras import layers, ops

from cplus1_keras.backbones import kerascv
from cplus1_keras.backbones.convolutions import add
from cplus1_keras.backbones.outputs import TOO_SMALL, check_choice, check_image_shape, finish

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Residual blocks of the four stages by depth, He et al., table 1; they are bottlenecks from depth 50."""

WIDTHS = (64, 128, 256, 512)


def resnet(depth=50, input_shape=(224, 224, 3), features=None, pool=True, weights=None):
    """ResNet, which reduces images 32-fold.

    Args:
        depth: 18, 34, 50, 101 or 152.
        input_shape: (height, width, channels), pixels, at least 64 x 64; height and width may be None.
        features: Length of the feature vector by a linear map without bias; None leaves the pooled channels.
        pool: True gives a vector (N, K), False the last map (N, h, w, K).
        weights: None starts at random; the name of a keras-cv preset ("resnet50_imagenet") downloads it; a folder is
            read as a preset saved on this machine.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features, 512 of them up to depth 34, then 2048.

    Raises:
        ValueError: Unknown depth or weights, or images below 64 pixels.
        ConnectionError: `weights` were asked for and the model hub did not answer.

    Reference: K. He et al., "Deep residual learning for image recognition", CVPR 2016.

    >>> resnet(18, (64, 64, 3)).output_shape
    (None, 512)
    """
    images, maps = _trunk(depth, input_shape, WIDTHS, 32, True, weights)
    return finish(f"resnet{depth}", images, maps[-1], features, pool)


def dilated_resnet(
    depth=50, output_stride=8, input_shape=(None, None, 3), widths=None, contract_dilation=True, weights=None
):
    """ResNet whose stages beyond `output_stride` keep the resolution: stride 1, and 3x3 convolutions dilated instead.

    A stage that would have reduced dilates twice as much as the one before: at stride 8 stage 3 by 2 and stage 4 by 4.

    Args:
        depth, input_shape, weights: As for `resnet`; height and width may be None.
        output_stride: 8, 16 or 32 pixels to a cell of the last map.
        widths: Channels of the four stages, (64, 128, 256, 512) if None; from depth 50 a stage gives 4 times as many.
        contract_dilation: Whether the first block of a dilated stage has half of its dilation, (1, 2, 2, ...) and
            (2, 4, 4) at stride 8. False gives what the strided net computes, at more positions.

    Returns:
        A `keras.Model`: images (N, height, width, channels), pixels 0..255 -> a list of the four stages' maps, at
        strides 4, 8, 16 and 32, none of them above `output_stride`.

    Raises:
        ValueError, ConnectionError: As `resnet`; an unknown output stride or wrong widths.

    Reference: L.-C. Chen et al., "Rethinking atrous convolution for semantic image segmentation", 2017;
    `contract_dilation` as in the `ResNetV1c` of mmsegmentation, whose stem has 19,232 parameters more.

    >>> [shape[1:3] for shape in dilated_resnet(18, 8).compute_output_shape((1, 64, 96, 3))]
    [(16, 24), (8, 12), (8, 12), (8, 12)]
    """
    check_choice("output_stride", output_stride, (8, 16, 32))
    widths = WIDTHS if widths is None else tuple(int(width) for width in widths)
    if len(widths) != 4 or min(widths) < 1:
        raise ValueError(f"`widths` must be four positive numbers of channels. Received: {widths=}")
    if weights is not None and widths != WIDTHS:
        raise ValueError(f"There are no weights for other widths than {WIDTHS}: leave out one. Received: {widths=}")
    images, maps = _trunk(depth, input_shape, widths, output_stride, contract_dilation, weights)
    return keras.Model(images, maps, name=f"dilated_resnet{depth}")


def keras_cv_form(depth):
    """The arguments of keras-cv's parametrised ResNet classes."""
    return {
        "stackwise_filters": list(WIDTHS),
        "stackwise_blocks": list(BLOCKS[depth]),
        "stackwise_strides": [1, 2, 2, 2],
        "block_type": "basic_block" if depth < 50 else "block",
    }


def _trunk(depth, input_shape, widths, output_stride, contract_dilation, weights):
    """The images and the maps of the four stages."""
    check_choice("depth", depth, BLOCKS)
    name = f"resnet{depth}"
    images = keras.Input(check_image_shape(name, input_shape, 64, TOO_SMALL), name="images")
    x = _convolution(layers.Rescaling(1 / 255, name="rescaling")(images), 64, 7, "stem", 2)
    x = layers.MaxPooling2D(3, 2, "same", name="stem_pool")(x)
    block = _basic_block if depth < 50 else _bottleneck
    maps, stride, dilation = [], 4, 1
    for stage, (width, blocks) in enumerate(zip(widths, BLOCKS[depth], strict=True), start=1):
        step = 2 if stage > 1 and stride < output_stride else 1
        before, dilation = dilation, dilation * (2 if stage > 1 and step == 1 else 1)
        stride *= step
        first = (before, before if contract_dilation else dilation)
        x = block(x, width, f"stage{stage}_block1", first, step, depth >= 50 or stage > 1 or width != 64)
        for number in range(2, blocks + 1):
            x = block(x, width, f"stage{stage}_block{number}", (dilation, dilation))
        maps.append(x)
    if weights is not None:
        donor = kerascv.build("ResNetBackbone", name, keras_cv_form(depth), images.shape[1:], weights)
        keras.Model(images, maps).set_weights(donor.get_weights())
    return images, maps


def _bottleneck(x, width, name, dilations, step=1, project=False):
    shortcut = _convolution(x, 4 * width, 1, f"{name}_0", step, relu=False) if project else x
    y = _convolution(x, width, 1, f"{name}_1", step)
    y = _convolution(y, width, 3, f"{name}_2", dilation=dilations[1])
    return add(shortcut, _convolution(y, 4 * width, 1, f"{name}_3", relu=False), name)


def _basic_block(x, width, name, dilations, step=1, project=False):
    shortcut = _convolution(x, width, 1, f"{name}_0", step, relu=False) if project else x
    first, second = dilations
    if first < second:  # in the strided net the first convolution has the stride, and pads as strides do
        x = PadAsStrided(first, name=f"{name}_pad")(x)
    y = _convolution(x, width, 3, f"{name}_1", step, first, "valid" if first < second else "same")
    return add(shortcut, _convolution(y, width, 3, f"{name}_2", dilation=second, relu=False), name)


def _convolution(x, filters, size, name, strides=1, dilation=1, padding="same", relu=True):
    """Convolution and normalisation with keras-cv's padding, initialiser and epsilon."""
    options = {"padding": padding, "dilation_rate": dilation, "use_bias": False}
    x = layers.Conv2D(filters, size, strides, **options, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1.001e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


@keras.saving.register_keras_serializable("cplus1_keras")
class PadAsStrided(layers.Layer):
    """Zeros around a map so that a dilated 3x3 convolution reads what one of stride 2 and "same" padding would read.

    A stride of 2 pads an odd side by one cell on both ends, and an even one by one cell at its end only. `dilation` is
    the number of cells of the map to one of the strided net's.
    """

    def __init__(self, dilation, **kwargs):
        super().__init__(**kwargs)
        self.dilation = int(dilation)

    def call(self, x):
        rate, (height, width) = self.dilation, ops.shape(x)[1:3]
        x = ops.pad(x, [[0, 0], [rate, 2 * rate], [rate, 2 * rate], [0, 0]])
        top, left = (rate * (1 - (side + rate - 1) // rate % 2) for side in (height, width))  # more behind if even
        return x[:, top : top + height + 2 * rate, left : left + width + 2 * rate]

    def compute_output_spec(self, x):
        height, width = (None if n is None else n + 2 * self.dilation for n in x.shape[1:3])
        return keras.KerasTensor((x.shape[0], height, width, x.shape[-1]), dtype=x.dtype)

    def get_config(self):
        return {**super().get_config(), "dilation": self.dilation}
