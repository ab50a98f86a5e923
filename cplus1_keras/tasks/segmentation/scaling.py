"""Models that see images at the scale they were trained at, and answer at the images' own size."""

import keras

from cplus1_keras.backbones.convolutions import ResizeLike
from cplus1_keras.data.preprocessing import size_pair


@keras.saving.register_keras_serializable("cplus1_keras")
class ScaleWithin(keras.layers.Layer):
    """Resizes images bilinearly to the largest size within (long, short) that keeps their proportions, either way up.

        factor = min(short / smaller side, long / larger side)

    It is the scale that `data.segmentation.augment.random_scale(base=...)` starts from. On the TensorFlow backend, for
    images of any size.

    Args:
        base: (long, short), pixels, in any order.
        **kwargs: Keras's `name`, `dtype`.

    >>> ScaleWithin((40, 12))(np.ones((1, 6, 8, 3), "float32")).shape.as_list()
    [1, 12, 16, 3]

    Reference: the test images of mmsegmentation, `Resize(scale=(2048, 512), keep_ratio=True)`.
    """

    def __init__(self, base, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.base = tuple(sorted(size_pair(base)))

    def call(self, images):
        import tensorflow as tf  # a size that depends on the image's own is a tensor, which `ops.image.resize` refuses

        size = tf.cast(tf.shape(images)[1:3], tf.float32)
        factor = tf.minimum(self.base[0] / tf.reduce_min(size), self.base[1] / tf.reduce_max(size))
        return tf.image.resize(images, tf.maximum(tf.cast(tf.floor(size * factor + 0.5), tf.int32), 1))

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], None, None, images.shape[-1]), dtype=images.dtype)

    def get_config(self):
        return {**super().get_config(), "base": list(self.base)}


def scaled(model, base):
    """A trained model behind `ScaleWithin`, with logits at the size of the images it was given.

    Args:
        model: `keras.Model`, images (N, H, W, channels) -> dict with `features` and `logits` (N, H, W, ...).
        base: (long, short) in pixels, or None, which gives `model` itself.

    Returns:
        `keras.Model`: images of any size -> dict of `features`, at the size that the model gives, and `logits`.

    >>> images = keras.Input((None, None, 3))
    >>> logits = keras.layers.Conv2D(2, 1)(images)
    >>> model = keras.Model(images, {"features": images, "logits": logits})
    >>> scaled(model, (40, 12))(np.ones((1, 6, 8, 3), "float32"))["features"].shape.as_list()
    [1, 12, 16, 3]
    """
    if base is None:
        return model
    images = keras.Input((None, None, model.input_shape[-1]), name="images")
    outputs = model(ScaleWithin(base, name="scale_within")(images))
    logits = ResizeLike(name="logits_at_image_size")([outputs["logits"], images])
    return keras.Model(images, {"features": outputs["features"], "logits": logits}, name=model.name)
