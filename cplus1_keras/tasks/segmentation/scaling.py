"""Models that see images at the scale they were trained at, and answer at the images' own size."""

import keras
import tensorflow as tf

from cplus1_keras.backbones.convolutions import ResizeLike
from cplus1_keras.data.preprocessing import size_pair
from cplus1_keras.data.segmentation.augment import scaled_size


@keras.saving.register_keras_serializable("cplus1_keras")
class ScaleWithin(keras.layers.Layer):
    """Resizes images bilinearly to the scale that training starts from, `data.segmentation.augment.scaled_size`.

        factor = min(short / smaller side, long / larger side)

    On the TensorFlow backend, for images of any size.

    Args:
        base: (long, short), pixels, in any order: the result is the largest size within it, either way up.
        keep_ratio: False stretches to `base`, then (height, width).
        **kwargs: Keras's `name`, `dtype`.

    >>> ScaleWithin((40, 12))(np.ones((1, 6, 8, 3), "float32")).shape.as_list()
    [1, 12, 16, 3]

    Reference: the test images of mmsegmentation, `Resize(scale=(2048, 512), keep_ratio=True)`.
    """

    def __init__(self, base, keep_ratio=True, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.base = size_pair(base)
        self.keep_ratio = keep_ratio

    def call(self, images):
        # The size is a tensor, for it depends on the image's own; `keras.ops.image.resize` refuses that.
        return tf.image.resize(images, scaled_size(tf.shape(images)[1:3], self.base, self.keep_ratio))

    def compute_output_spec(self, images):
        return keras.KerasTensor((images.shape[0], None, None, images.shape[-1]), dtype=images.dtype)

    def get_config(self):
        return {**super().get_config(), "base": list(self.base), "keep_ratio": self.keep_ratio}


def scaled(model, base, keep_ratio=True):
    """A trained model behind `ScaleWithin`, with logits at the size of the images it was given.

    Args:
        model: `keras.Model`, images (N, H, W, channels) -> dict with `features` and `logits` (N, H, W, ...).
        base, keep_ratio: As `ScaleWithin` has them; a base of None gives `model` itself.

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
    outputs = model(ScaleWithin(base, keep_ratio, name="scale_within")(images))
    logits = ResizeLike(name="logits_at_image_size")([outputs["logits"], images])
    return keras.Model(images, {"features": outputs["features"], "logits": logits}, name=model.name)
