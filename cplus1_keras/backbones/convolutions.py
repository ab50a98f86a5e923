"""The blocks of dense nets: convolutions with normalisation."""

from keras import layers


def convolution(x, filters, kernel_size, name, strides=1, activation=True, groups=1):
    """A convolution without bias, batch normalisation and, if asked for, ReLU: (N, h, w, K) -> (N, ..., filters).

    With a stride the zeros around are still the same on all sides, so that maps of different strides stay aligned:
    "same" would pad only behind.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    start = {"use_bias": False, "kernel_initializer": "he_normal"}
    x = layers.Conv2D(filters, kernel_size, strides, padding, groups=groups, **start, name=f"{name}_conv")(x)
    return _normalize(x, name, activation)


def separable_convolution(x, filters, name, rate=1):
    """A 3x3 depthwise convolution, dilated by `rate` cells, and a 1x1 one, each with normalisation and ReLU.

    Reference: L.-C. Chen et al., "Encoder-decoder with atrous separable convolution", ECCV 2018.
    """
    start = {"use_bias": False, "depthwise_initializer": "he_normal"}
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=rate, **start, name=f"{name}_depthwise_conv")(x)
    return convolution(_normalize(x, f"{name}_depthwise", True), filters, 1, f"{name}_pointwise")


def basic_block(x, filters, name, strides=1, shortcut=None):
    """Two 3x3 convolutions beside a shortcut, which is `x` itself where none is given; the sum goes through ReLU."""
    y = convolution(x, filters, 3, f"{name}_1", strides)
    y = convolution(y, filters, 3, f"{name}_2", activation=False)
    return add(x if shortcut is None else shortcut, y, name)


def bottleneck(x, width, filters, name, strides=1, groups=1):
    """1x1, 3x3 and 1x1 convolutions, the first two to `width` channels, beside a shortcut, which fits itself."""
    shortcut = x
    if x.shape[-1] != filters or strides > 1:
        shortcut = convolution(x, filters, 1, f"{name}_0", strides, activation=False)
    y = convolution(x, width, 1, f"{name}_1")
    y = convolution(y, width, 3, f"{name}_2", strides, groups=groups)
    return add(shortcut, convolution(y, filters, 1, f"{name}_3", activation=False), name)


def add(shortcut, y, name):
    """The end of a residual block: the sum goes through ReLU."""
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([shortcut, y]))


def _normalize(x, name, activation):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x
