"""Nets for small images: LeNet++, the ResNets of the CIFAR experiments, and a few convolutions for a CPU."""

import keras
from keras import layers, ops

from cplus1_keras.backbones.convolutions import basic_block, convolution
from cplus1_keras.backbones.outputs import check_choice, check_image_shape, finish
from cplus1_keras.labels import check_count


def lenet_plus_plus(input_shape=(28, 28, 1), features=10):
    """LeNet++ as the open-set losses' thesis runs it: purely linear convolutions, without activation functions.

    Three blocks of two 5x5 convolutions (32, 64, 128 channels, with bias), batch normalisation and 2x2 max pooling,
    then one linear map without bias to the features. Max pooling is the only nonlinearity: the published code has
    neither ReLU nor PReLU, unlike the LeNet++ of the centre loss. Kernels start as there, uniform within
    1 / sqrt(fan in).

    Args:
        input_shape: (height, width, channels), pixels, at least 8 x 8.
        features: K, length of the feature vector; the thesis takes the number of known classes, and 2 for pictures.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features (N, K).

    Raises:
        ValueError: The shape is no image shape or too small.

    Reference: Y. Wen et al., "A discriminative feature learning approach for deep face recognition", ECCV 2016; as in
    `LeNetBottleneck` of TwoDigitsOneNumber/openset-imagenet-comparison and the thesis's section 5.3.

    >>> lenet_plus_plus(features=2).output_shape
    (None, 2)
    """
    shape = check_image_shape("lenet_plus_plus", input_shape, 8, "It halves them three times.", fixed=True)
    start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # a variance of 1 / (3 fan in)
    inputs = keras.Input(shape, name="images")
    x = layers.Rescaling(1 / 255)(inputs)
    for block, filters in enumerate((32, 64, 128), start=1):
        for step in (1, 2):
            name = f"conv{block}_{step}"
            x = layers.Conv2D(filters, 5, padding="same", kernel_initializer=start.clone(), name=name)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{block}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{block}")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(features, use_bias=False, kernel_initializer=start.clone(), name="features")(x)
    return keras.Model(inputs, x, name="lenet_plus_plus")


def small_cnn(input_shape=(28, 28, 1), features=None, filters=(32, 64, 64), strides=(2, 2, 1), pool=True):
    """A net of a few convolutions, for small images on a CPU: 3x3 convolutions with batch normalisation and ReLU.

    Args:
        input_shape: (height, width, channels), pixels, at least 8 x 8.
        features: K, length of the features, a linear map of the flattened last map; None flattens it only.
        filters, strides: Channels and stride of each convolution.
        pool: False gives the last map (N, h, w, filters[-1]) instead of a vector.

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features (N, K) or the map.

    Raises:
        ValueError: The shape is no image shape, too small, or unknown; or `features` for a map.

    >>> small_cnn((8, 8, 1), features=32, filters=(32, 64), strides=(1, 2)).output_shape
    (None, 32)
    """
    shape = check_image_shape("small_cnn", input_shape, 8, "It keeps little of smaller ones.", fixed=pool)
    inputs = keras.Input(shape, name="images")
    x = layers.Rescaling(1 / 255)(inputs)
    for channels, stride in zip(filters, strides, strict=True):
        x = layers.Conv2D(channels, 3, stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)  # small sets have few steps, in which 0.99 lags behind
        x = layers.Activation("relu")(x)
    return finish("small_cnn", inputs, x, features, pool, flatten=True)


def small_maps(widths=(32, 48, 64, 96, 128), input_shape=(None, None, 3)):
    """As `small_cnn`, for pixels and boxes: maps of a few convolutions without shortcuts, which learn fast on a CPU.

    A 3x3 convolution of stride 2 for each width and, after all but the first, one more.

    Args:
        widths: Channels at strides 2, 4, 8 and so on; at least two.
        input_shape: (height, width, channels), pixels; height and width may be None.

    Returns:
        A `keras.Model`: images (N, height, width, channels), pixels 0..255 -> a list of maps, fine to coarse, of all
        strides from 4 on.

    Raises:
        ValueError: Fewer widths, or a shape that is no image shape or too small.

    >>> [shape[1:] for shape in small_maps().compute_output_shape((1, 64, 96, 3))]
    [(16, 24, 48), (8, 12, 64), (4, 6, 96), (2, 3, 128)]
    """
    widths = [check_count(width, "widths") for width in widths]
    if len(widths) < 2:
        raise ValueError(f"`widths` must be at least two numbers of channels, of strides 2 and 4. Received: {widths}")
    shape = check_image_shape("small_maps", input_shape, 2 ** len(widths), f"It halves them {len(widths)} times.")
    images = keras.Input(shape, name="images")
    x, maps = layers.Rescaling(1 / 127.5, -1)(images), []
    for stage, width in enumerate(widths, start=1):
        x = convolution(x, width, 3, f"stage{stage}_1", strides=2)
        if stage > 1:
            x = convolution(x, width, 3, f"stage{stage}_2")
            maps.append(x)
    return keras.Model(images, maps, name="small_maps")


def cifar_resnet(depth=20, input_shape=(32, 32, 3), features=None, pool=True):
    """The ResNet for 32-pixel images: three stages of 16, 32 and 64 channels, reducing 4-fold instead of 32-fold.

    A 3x3 convolution, then 2n for each stage, depth = 6n + 2 with the classifier. Shortcuts have no parameters: where a
    stage halves the map they take each second pixel and pad the new channels with zeros (option A of the paper).

    Args:
        depth: 20, 32, 44, 56 or 110.
        input_shape: (height, width, channels), pixels; height and width may be None.
        features: Length of the feature vector by a linear map without bias; None leaves the 64 channels.
        pool: True gives the vector (N, 64 or `features`), False the map (N, height / 4, width / 4, 64).

    Returns:
        A `keras.Model`: images (N, height, width, channels), 0..255 -> features.

    Raises:
        ValueError: Unknown depth, a shape that is no image shape or too small, `features` with `pool=False`.

    Reference: K. He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2 and table 6.

    >>> cifar_resnet(20).output_shape
    (None, 64)
    """
    check_choice("depth", depth, (20, 32, 44, 56, 110))
    shape = check_image_shape(f"cifar_resnet{depth}", input_shape, 8, "It halves them twice.")
    inputs = keras.Input(shape, name="images")
    x = convolution(layers.Rescaling(1 / 255)(inputs), 16, 3, "stem")
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            name = f"stage{stage}_block{block}"
            halve = stage > 1 and block == 1
            shortcut = _subsample(x, filters, name) if halve else x
            x = basic_block(x, filters, name, 2 if halve else 1, shortcut)
    return finish(f"cifar_resnet{depth}", inputs, x, features, pool)


def _subsample(x, filters, name):
    more = (filters - x.shape[-1]) // 2
    x = layers.MaxPooling2D(1, 2, name=f"{name}_subsample")(x)
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [more, more]])
