"""Resizing to the size of another map, and to the scale of training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("cplus1_keras")
class ScaleWithin(keras.layers.Layer):
    """Resizes images bilinearly to the scale that training starts from, `scaled_size`.

        factor = min(short / smaller side, long / larger side)

    On the TensorFlow backend, for images of any size.

    Args:
        base: (long, short), pixels, in any order: the result is the largest size within it, either way up.
        keep_ratio: False stretches to `base`, then (height, width).

    >>> ScaleWithin((40, 12))(np.ones((1, 6, 8, 3), "float32")).shape.as_list()
    [1, 12, 16, 3]

    Reference: the test images of mmsegmentation, `Resize(scale=(2048, 512), keep_ratio=True)`.
    """

    def __init__(self, base, keep_ratio=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.base = size_pair(base)
        self.keep_ratio = keep_ratio

    def call(self, images):
        import tensorflow as tf

        # The size depends on the image's own, so it is a tensor, which `keras.ops.image.resize` refuses.
        return tf.image.resize(images, scaled_size(tf.shape(images)[1:3], self.base, self.keep_ratio))

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], None, None, images.shape[-1]), dtype=images.dtype)

    def get_config(self):
        return {**super().get_config(), "base": list(self.base), "keep_ratio": self.keep_ratio}


@keras.saving.register_keras_serializable("cplus1_keras")
class ResizeLike(keras.layers.Layer):
    """Resizes a map bilinearly, with half-pixel centres (`align_corners=False`), to the height and width of another.

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
        # A graph for images of any size, which only TensorFlow has: `ops.image.resize` refuses a size that is a tensor.
        import tensorflow as tf

        return ops.cast(tf.image.resize(x, size), x.dtype)

    def compute_output_spec(self, inputs):
        x, like = inputs
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[-1]), dtype=x.dtype)


@keras.saving.register_keras_serializable("cplus1_keras")
class RepeatLike(keras.layers.Layer):
    """Each cell of a map twice along both axes, cut to the height and width of another: that map, halved, goes back.

    >>> coarse, fine = np.arange(4.0).reshape(1, 2, 2, 1), np.ones((1, 3, 4, 1))
    >>> np.array(RepeatLike()([coarse, fine]))[0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]]
    """

    def call(self, inputs):
        x, like = inputs
        # A net that halves an odd side downwards leaves it one short: the last cell serves once more.
        x = ops.repeat(ops.concatenate([x, x[:, -1:]], axis=1), 2, axis=1)
        x = ops.repeat(ops.concatenate([x, x[:, :, -1:]], axis=2), 2, axis=2)
        height, width = ops.shape(like)[1:3]
        return x[:, :height, :width]

    def compute_output_spec(self, inputs):
        x, like = inputs
        return keras.KerasTensor((x.shape[0], *like.shape[1:3], x.shape[-1]), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("cplus1_keras")
class RescalePoints(keras.layers.Layer):
    """Points (B, L, 3: x, y, stride), or distances (B, L, 4: left, top, right, bottom), in pixels of other images.

    Called on these, the images that they belong to, and the same images at another size. A stride stays.

    >>> small, large = np.ones((1, 4, 4, 3)), np.ones((1, 8, 12, 3))
    >>> np.array(RescalePoints()([np.array([[[2.0, 3, 8]]]), small, large]))[0, 0].tolist()
    [6.0, 6.0, 8.0]
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, inputs):
        values, images, others = inputs
        old, new = (ops.cast(ops.stack(ops.shape(each)[1:3]), values.dtype) for each in (images, others))
        down, across = ops.unstack(new / old)
        factors = [across, down, across, down] if values.shape[-1] == 4 else [across, down, ops.ones_like(down)]
        return values * ops.stack(factors)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, dtype=inputs[0].dtype)


def scaled_size(size, base=None, keep_ratio=True, factor=1.0):
    """The size (2,) int32, rounded, at least 1, of an image of a `size` (2,) scaled as `ScaleWithin`, times a factor.

    >>> scaled_size([6, 8], (12, 40)).numpy(), scaled_size([6, 8], (12, 40), keep_ratio=False, factor=0.5).numpy()
    (array([12, 16], dtype=int32), array([ 6, 20], dtype=int32))
    """
    import tensorflow as tf

    size = tf.cast(size, tf.float32)
    if base is not None and keep_ratio:
        short, long = sorted(size_pair(base))
        factor *= tf.minimum(short / tf.reduce_min(size), long / tf.reduce_max(size))
    elif base is not None:
        size = tf.constant(size_pair(base), tf.float32)
    return tf.maximum(tf.cast(tf.floor(size * factor + 0.5), tf.int32), 1)


def size_pair(size):
    """`size` as (height, width): an int is a square. ValueError for what is no positive int nor a pair of them."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in pair):
        raise ValueError(f"An image size is a positive int or (height, width). Received: {size!r}")
    return pair
