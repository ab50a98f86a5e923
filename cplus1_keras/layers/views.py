"""A model that in training also sees its images mirrored, and smaller: what attention consistency compares."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("cplus1_keras")
class Views(keras.layers.Wrapper):
    """Runs a model on images, and in training on transformed views of them too.

    Gives the model's outputs, and each again with the prefix `mirrored_` (and `smaller_`), of the view. Maps, outputs
    (batch, h, w, ...), are transformed back onto the grid of the image. A loss of the view as well, such as its
    classification, is `loss.of("mirrored_")`. Outside training the outputs of each view are the image's own.

    The image and its mirror image are one batch of twice the size, with one set of statistics in batch normalisation,
    the smaller view is a second one, as in the authors' code.

    Args:
        layer: A model or layer from images (batch, height, width, channels) to a dict of tensors (batch, ...).
        smaller: Side of the smaller view as a part of the image's, in (0, 1); None for no such view.

    Reference: Guo et al., "Visual attention consistency under image transforms", CVPR 2019, Figure 2.

    >>> images = keras.Input((32, 32, 3))
    >>> maps = keras.layers.Conv2D(8, 3, 2, "same")(images)
    >>> model = models.OpenSetModel(images, heads.CAMHead(5)(maps))
    >>> model = models.OpenSetModel(images, layers.Views(model)(images))
    >>> sorted(model.output)
    ['cams', 'features', 'logits', 'mirrored_cams', 'mirrored_features', 'mirrored_logits']
    """

    def __init__(self, layer, smaller=None, **kwargs):
        super().__init__(layer, **kwargs)
        if smaller is not None and not 0 < smaller < 1:
            raise ValueError(f"`smaller` is a part of the image's sides, in (0, 1). Received: smaller={smaller}")
        self.smaller = smaller

    def call(self, images, training=False):
        if not training:
            outputs = self.layer(images, training=False)
            prefixes = ("", "mirrored_") if self.smaller is None else ("", "mirrored_", "smaller_")
            return {prefix + name: value for prefix in prefixes for name, value in outputs.items()}
        both = self.layer(ops.concatenate([images, ops.flip(images, axis=2)]), training=True)
        outputs = {}
        for name, value in both.items():
            outputs[name], mirrored = ops.split(value, 2)
            outputs[f"mirrored_{name}"] = ops.flip(mirrored, axis=2) if _is_map(value) else mirrored
        if self.smaller is not None:
            size = [max(round(self.smaller * side), 1) for side in images.shape[1:3]]
            small = self.layer(ops.image.resize(images, size, antialias=True), training=True)
            for name, value in small.items():
                size = outputs[name].shape[1:3]
                outputs[f"smaller_{name}"] = ops.image.resize(value, size) if _is_map(value) else value
        return outputs

    def get_config(self):
        return {**super().get_config(), "smaller": self.smaller}


def _is_map(output):
    return len(output.shape) == 4
