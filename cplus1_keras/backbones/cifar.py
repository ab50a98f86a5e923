"""Nets of the tables on MNIST, CIFAR-10 and CIFAR-100: those of the anchor loss, DenseNet-BC and ResNeXt-29."""

import keras
from keras import layers

from cplus1_keras.backbones.convolutions import bottleneck, convolution
from cplus1_keras.backbones.outputs import check_choice, check_image_shape, finish
from cplus1_keras.labels import check_count

PLAIN = {
    "mnist": ((28, 28, 1), (64, 64, 64, 64), 3, 256),
    "cifar10": ((32, 32, 3), (64, 64, 96, 128), 4, 256),
    "cifar100": ((32, 32, 3), (96, 96, 192, 384), 4, 512),
}
"""Of each data set the shape of its images, the channels of Conv0 to Conv3, convolutions in a unit, and features."""


def plain_cnn(data_set="cifar10", features=None, dropout=0.0, pool=True, width=1.0):
    """The nets of the anchor-based loss, and but for dropout of L-Softmax: units of 3x3 convolutions and max pooling.

    One convolution, then three units of three or four, each with normalisation and ReLU, and halved by max pooling;
    dropout follows the first two. Trainable parameters: 481,088 ("mnist"), 1,532,992 ("cifar10"), 9,291,744
    ("cifar100"), with 256, 256 and 512 features by a linear map. The paper counts none; that map has no bias here, for
    heads with anchors or cosines have none either.

    Args:
        data_set: "mnist", "cifar10" or "cifar100", whose images it takes.
        features: Length of the feature vector; None takes the paper's. It is 2 for its pictures.
        dropout: Share of values that are dropped, in [0, 1).
        width: Share of the channels, in (0, 1], for a smaller net; the features stay.
        pool: False gives the last map (N, h, w, K) instead.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features (N, features) or the map.

    Raises:
        ValueError: Another data set, a share outside its range, or `features` for a map.

    Reference: Anchor NCM (2018), Table 1; Liu et al. (2016), L-Softmax, Table 1.

    >>> plain_cnn("mnist", features=2).output_shape
    (None, 2)
    """
    check_choice("data_set", data_set, PLAIN)
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` is a share in [0, 1). Received: dropout={dropout}")
    if not 0 < width <= 1:
        raise ValueError(f"`width` is a share of the paper's channels, in (0, 1]. Received: width={width}")
    shape, widths, repeats, length = PLAIN[data_set]
    widths = [max(1, round(width * channels)) for channels in widths]
    images = keras.Input(shape, name="images")
    x = convolution(layers.Rescaling(1 / 255)(images), widths[0], 3, "conv0")
    for unit, channels in enumerate(widths[1:], start=1):
        for step in range(1, repeats + 1):
            x = convolution(x, channels, 3, f"conv{unit}_{step}")
        x = layers.MaxPooling2D(2, name=f"pool{unit}")(x)
        if dropout and unit < 3:
            x = layers.Dropout(dropout, name=f"dropout{unit}")(x)
    length = length if pool and features is None else features
    return finish(f"plain_cnn_{data_set}", images, x, length, pool, flatten=True)


def cifar_densenet(depth=100, growth=12, input_shape=(32, 32, 3), features=None, pool=True):
    """DenseNet-BC for 32-pixel images: three blocks of bottlenecks, each of which reads all before it in its block.

    With depth 100 and growth 12 it has 765,732 trainable parameters, with a classifier of ten classes the published
    0.8M. It reduces images 4-fold.

    Args:
        depth: L = 6n + 4, n bottlenecks in each block; 100, 190 and 250 are in the paper.
        growth: k, the channels that each bottleneck adds.
        input_shape: (height, width, channels), pixels; height and width may be None.
        features: Length of the feature vector by a linear map without bias; None leaves the channels, 342.
        pool: False gives the last map (N, h, w, K) instead.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features.

    Raises:
        ValueError: A depth that is no 6n + 4, a shape that is no image shape or too small, `features` for a map.

    Reference: G. Huang et al., "Densely connected convolutional networks", CVPR 2017, section 3 and table 2.

    >>> cifar_densenet(10, 4).output_shape
    (None, 9)
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"`depth` is 6n + 4, like 100, of three blocks with n bottlenecks. Received: depth={depth}")
    growth = check_count(growth, "growth")
    name = f"cifar_densenet{depth}_{growth}"
    images = keras.Input(check_image_shape(name, input_shape, 8, "It halves them twice."), name="images")
    start = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(2 * growth, 3, **start, name="stem_conv")(layers.Rescaling(1 / 255)(images))
    for block in range(1, 4):
        for number in range(1, (depth - 4) // 6 + 1):
            part = f"block{block}_{number}"
            y = layers.Conv2D(4 * growth, 1, **start, name=f"{part}_1_conv")(_normalize(x, f"{part}_1"))
            y = layers.Conv2D(growth, 3, **start, name=f"{part}_2_conv")(_normalize(y, f"{part}_2"))
            x = layers.Concatenate(name=f"{part}_concat")([x, y])
        x = _normalize(x, f"transition{block}")
        if block < 3:
            x = layers.Conv2D(x.shape[-1] // 2, 1, **start, name=f"transition{block}_conv")(x)
            x = layers.AveragePooling2D(2, name=f"transition{block}_pool")(x)
    return finish(name, images, x, features, pool)


def _normalize(x, name):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def cifar_resnext(depth=29, groups=8, width=64, input_shape=(32, 32, 3), features=None, pool=True):
    """ResNeXt for 32-pixel images: three stages of bottlenecks with 3x3 convolutions of many groups.

    With depth 29 it has 34,416,448 trainable parameters in 8 groups of 64, 68,144,960 in 16 groups: with a classifier
    of ten classes the published 34.4M, and 68.16M where 68.1M are published. It reduces images 4-fold.

    Args:
        depth: 9n + 2, n bottlenecks in each stage.
        groups: Groups of each 3x3 convolution, the cardinality.
        width: Channels of each group in the first stage; they double with each stage.
        input_shape: (height, width, channels), pixels; height and width may be None.
        features: Length of the feature vector by a linear map without bias; None leaves the 1024 channels.
        pool: False gives the last map (N, h, w, 1024) instead.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features.

    Raises:
        ValueError: A depth that is no 9n + 2, a shape that is no image shape or too small, `features` for a map.

    Reference: S. Xie et al., "Aggregated residual transformations for deep neural networks", CVPR 2017, section 5.3.

    >>> cifar_resnext(11, groups=2, width=4).output_shape
    (None, 1024)
    """
    if depth < 11 or depth % 9 != 2:
        raise ValueError(f"`depth` is 9n + 2, like 29, of three stages with n bottlenecks. Received: depth={depth}")
    name = f"cifar_resnext{depth}_{check_count(groups, 'groups')}x{check_count(width, 'width')}d"
    images = keras.Input(check_image_shape(name, input_shape, 8, "It halves them twice."), name="images")
    x = convolution(layers.Rescaling(1 / 255)(images), 64, 3, "stem")
    for stage in range(3):
        for block in range((depth - 2) // 9):
            step = 2 if stage and not block else 1
            part = f"stage{stage + 1}_block{block + 1}"
            x = bottleneck(x, groups * width * 2**stage, 256 * 2**stage, part, step, groups)
    return finish(name, images, x, features, pool)
