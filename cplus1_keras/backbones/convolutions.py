"""The blocks of dense nets: convolutions with normalisation, and resizing to the size of another map."""

import keras
from keras import layers, ops


def convolution(x, filters, kernel_size, name, strides=1, activation=True):
    """A convolution without bias, batch normalisation and, if asked for, ReLU.

    The zeros around are the same on all sides also with a stride, so that maps of different strides stay aligned:
    "same" would pad only behind.

    Args:
        x: Map (N, h, w, K).
        filters: Channels that it gives.
        kernel_size: Odd number.
        name: Prefix of the layers' names.
        strides: 1 or 2.
        activation: Whether a ReLU follows.

    Returns:
        Map (N, ceil(h / strides), ceil(w / strides), filters).

    Example:
        >>> convolution(keras.Input((8, 8, 3)), 4, 3, "stem", strides=2).shape
        (None, 4, 4, 4)
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return _normalized(x, name, activation)


def separable_convolution(x, filters, name, rate=1):
    """A 3x3 depthwise and a 1x1 convolution, each with batch normalisation and ReLU.

    Args:
        x: Map (N, h, w, K).
        filters: Channels that it gives.
        name: Prefix of the layers' names.
        rate: Dilation of the depthwise convolution, in cells.

    Returns:
        Map (N, h, w, filters).

    Example:
        >>> separable_convolution(keras.Input((8, 8, 3)), 4, "context", rate=2).shape
        (None, 8, 8, 4)

    Reference: L.-C. Chen et al., "Encoder-decoder with atrous separable convolution", ECCV 2018.
    """
    x = layers.DepthwiseConv2D(
        3,
        padding="same",
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise_conv",
    )(x)
    return convolution(_normalized(x, f"{name}_depthwise", True), filters, 1, f"{name}_pointwise")


def _normalized(x, name, activation):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if activation else x


@keras.saving.register_keras_serializable("cplus1_keras")
class ResizeLike(layers.Layer):
    """Resizes a map bilinearly, with half-pixel centres (`align_corners=False`), to the height and width of another.

    Args:
        **kwargs: Keras's `name`, `dtype`.

    >>> ResizeLike()([np.ones((1, 2, 2, 5), "float32"), np.ones((1, 9, 8, 3), "float32")]).shape.as_list()
    [1, 9, 8, 5]
    """

    def __init__(self, **kwargs):
        # The map keeps its type, and the other is read for its shape only: neither must be cast.
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        x, like = inputs
        if None not in x.shape[1:3] and tuple(x.shape[1:3]) == tuple(like.shape[1:3]):
            return x
        size = ops.shape(like)[1:3]
        if all(isinstance(n, int) for n in size):
            return ops.cast(ops.image.resize(x, size, "bilinear"), x.dtype)
        # A graph for images of any size, which only TensorFlow has: Keras 3.15 compares sizes with 0 in Python, so that
        # `ops.image.resize` refuses one that is a tensor.
        import tensorflow as tf

        return ops.cast(tf.image.resize(x, size), x.dtype)

    def compute_output_spec(self, inputs):
        x, like = inputs
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[-1]), dtype=x.dtype)
