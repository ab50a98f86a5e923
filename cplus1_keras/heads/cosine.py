"""The cosine classifier, with hard or soft feature normalisation."""

import warnings

import keras
from keras import ops

from cplus1_keras.heads.base import Head
from cplus1_keras.numerics import divide, norm
from cplus1_keras.numerics.derivatives import product_with_units, unit
from cplus1_keras.scale import simplex_bound


def cosine_outputs(features, kernel, scale=None):
    """The outputs of `CosineHead`; zero features and zero weights have cosines of 0."""
    length = norm(features, keepdims=True)
    if scale is None:
        # Not cosines * length, whose gradient would be 0 instead of the unit weights at zero features.
        logits, scale = product_with_units(features, kernel), length
    else:
        scale = ops.full_like(length, scale)
        logits = product_with_units(scale * unit(features), kernel)
    return {"features": features, "cosines": divide(logits, scale), "scale": scale, "logits": logits}


def kernel_norms(kernel):
    """The norms of the columns of a kernel (K, C), shape (C,); no gradient flows through them."""
    return norm(ops.stop_gradient(ops.convert_to_tensor(kernel)), axis=0)


@keras.saving.register_keras_serializable("cplus1_keras")
class CosineHead(Head):
    """Cosine classifier: z_c = scale cos θ_c, cos θ_c = φ·W_c / (‖φ‖ ‖W_c‖). Margins need this head.

    Gives `features` φ (..., K), `cosines` and `logits` (..., C), or (..., C + 1) with the background last, and `scale`
    (..., 1). Its weight is `kernel`, shape (K, C) or (K, C + 1); it is normalised in the forward pass and
    differentiated through, never projected. For the margin `C2AM` it provides `kernel_norms` (C,).

    Args:
        num_classes: C, the number of known classes.
        scale: A number s > 0 for hard feature normalisation: the scale is s. None for soft feature normalisation: the
            scale is ‖φ‖, so that z_c = φ·W_c / ‖W_c‖.
        background: Whether there is a logit for the background, the last one.

    Warns:
        UserWarning: If `scale` is below the bound of Eq 3.11, at which the loss can reach 0.

    Reference: Open-set losses thesis (2023), sections 3.2 and 3.3, Eq 3.11.

    >>> outputs = heads.CosineHead(3, scale=12.0)(np.ones((2, 5), "float32"))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'features': (2, 5), 'cosines': (2, 3), 'scale': (2, 1), 'logits': (2, 3)}
    """

    def __init__(self, num_classes, scale, background=False, **kwargs):
        super().__init__(num_classes, **kwargs)
        if scale is not None and not 0 < scale < float("inf"):
            raise ValueError(
                f"`scale` must be a finite number > 0 (hard normalisation) or None (soft normalisation), not {scale}."
            )
        self.scale = None if scale is None else float(scale)
        self.background = bool(background)
        columns = self.num_classes + self.background
        if scale is not None and columns >= 2 and scale < simplex_bound(columns):
            warnings.warn(
                f"scale={scale} is below {simplex_bound(columns):.1f}, the least with which the softmax of {columns} "
                "classes can reach a probability of 0.999995 (Eq 3.11 of the thesis): the loss stays above 0 even for "
                "a perfect fit. Raise `scale`, or see cplus1_keras.scale.simplex_bound.",
                stacklevel=2,
            )

    def build(self, input_shape):
        columns = self.num_classes + self.background
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], columns), initializer="glorot_uniform")

    def outputs(self, features):
        return cosine_outputs(features, ops.convert_to_tensor(self.kernel), self.scale)

    def provide(self, tensors):
        return {"kernel_norms": kernel_norms(self.kernel)}

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "background": self.background}
