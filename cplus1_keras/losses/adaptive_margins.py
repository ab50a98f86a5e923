"""Margins that follow something else in training: the norms of the class weights, or the number of steps so far."""

import math

import keras
from keras import ops

from cplus1_keras.losses.margins import Margin, check_margin, rows_to_move
from cplus1_keras.numerics import MIN_SINE, divide
from cplus1_keras.numerics.derivatives import as_rows, with_gradient

LEAST_NORM = 1e-30
"""Stands for the norm of a class weight that is 0, whose logarithm would be infinite."""


def c2am(logits, scale, kernel_norms, index, moves, alpha, clamp=True, detach=False):
    """The training logits of `C2AM`.

        cos m_yj = cos(a_y - a_j) = cos a_y cos a_j + sin a_y sin a_j

    with a = (α/π) ln ‖W‖, so that the cosines and sines of all (N, C) margins are two products of rank 2, and with the
    derivative cos m + sin m cos θ / sin θ written out.

    Logits are s cos θ (N, C), the scale s (N, 1), the norms ‖W‖ (C,), `index` y (N,); rows (N,) without `moves` stay.
    """
    shifts = alpha / math.pi * ops.log(ops.maximum(kernel_norms, LEAST_NORM))
    own = ops.expand_dims(ops.take(shifts, index), -1)
    waves = ops.stack([ops.cos(shifts), ops.sin(shifts)])
    # Zero features have no angle to move, so that under soft normalisation they keep the gradient of the plain logits.
    moved = ops.where(ops.expand_dims(moves, -1) & (scale > 0), own, float("-inf")) > shifts
    own_cosine, own_sine = ops.cos(own), ops.sin(own)
    cos_margin = ops.matmul(ops.concatenate([own_cosine, own_sine], axis=-1), waves)
    sin_margin = ops.matmul(ops.concatenate([own_sine, -own_cosine], axis=-1), waves)

    def forward(logits, scale):
        cosines = logits * divide(1, scale)
        sines = ops.sqrt(ops.maximum((1 - cosines) * (1 + cosines), 0))
        shifted = cosines * cos_margin - sines * sin_margin
        below = None
        if clamp:
            below = (cosines > -cos_margin) & (shifts > own - math.pi)  # θ + m stays below π
            shifted = ops.where(below, shifted, -1)
        return ops.where(moved, scale * shifted, logits), cosines, sines, shifted, below

    def backward(upstream, tensors, kept):
        cosines, sines, shifted, below = kept
        if detach:
            return upstream, ops.sum(ops.where(moved, upstream * (shifted - cosines), 0), axis=-1, keepdims=True)
        slope = cos_margin + sin_margin * cosines / ops.maximum(sines, MIN_SINE)
        if clamp:
            slope = ops.where(below, slope, 0)
        of_scale = ops.where(moved, upstream * (shifted - slope * cosines), 0)
        return upstream * ops.where(moved, slope, 1), ops.sum(of_scale, axis=-1, keepdims=True)

    return with_gradient(forward, backward, logits, scale)


@keras.saving.register_keras_serializable("cplus1_keras")
class C2AM(Margin):
    """Category-aware angular margin: the classes with shorter weights move away from the sample. For long tails.

        z_y = scale cos θ_y,   z_j = scale cos(min(θ_j + m_yj, π)),   m_yj = max(0, (α/π) ln(‖W_y‖ / ‖W_j‖))

    Needs a `CosineHead` (the paper: scale 30), which provides `kernel_norms`. No gradient flows through the norms:
    they grow with the updates of their class and shrink by weight decay alone, so weight decay of the kernel belongs to
    the method. A background class is one more class: under `BackgroundCrossEntropyLoss` the rows of negatives move the
    others as well.

    Args:
        alpha: α >= 0; 0 is the plain cosine softmax.
        clamp: Whether θ_j + m_yj stops at π. Otherwise passing π makes a class more likely again.
        detach: As in `Margin`.

    Reference: C2AM (2022), Eq 6 and 7 (which do not clamp).

    >>> loss = losses.CrossEntropyLoss(margin=losses.C2AM(alpha=0.5))
    """

    reads = ("logits", "scale", "kernel_norms")
    target = None  # no function of one cosine

    def __init__(self, alpha=0.5, clamp=True, detach=False):
        if not 0 <= alpha < math.inf:
            raise ValueError(f"`alpha` must be >= 0. Received: alpha={alpha}")
        self.alpha = float(alpha)
        self.clamp = bool(clamp)
        self.detach = bool(detach)

    def training_logits(self, labels, outputs, background=None):
        logits = outputs["logits"]
        rows, index, moves = rows_to_move(labels, logits, background)
        norms = ops.cast(ops.stop_gradient(outputs["kernel_norms"]), logits.dtype)
        moved = c2am(rows, as_rows(outputs["scale"]), norms, index, moves, self.alpha, self.clamp, self.detach)
        return ops.reshape(moved, ops.shape(logits))

    def get_config(self):
        return {"alpha": self.alpha, "clamp": self.clamp, "detach": self.detach}


@keras.saving.register_keras_serializable("cplus1_keras")
class GrowingMargin(Margin):
    """A margin that grows from none to full over the first steps, for training from scratch.

        z = z_plain + f (z_margin - z_plain),   f from 0 to 1

    For `CosFace` and `SMSoftmax` that is the margin f m; for `SphereFace` it is the annealing of its authors. The
    fraction f comes from the layer `layers.MarginWarmup`, which counts the steps and is saved with the model.

    Args:
        margin: A margin of this package.

    Reference: Liu et al. (2017), SphereFace, whose published code blends by f = 1 / (1 + λ) and lets λ fall.

    >>> features = keras.Input((8,))
    >>> outputs = layers.MarginWarmup(steps=1000)(heads.CosineHead(10, scale=16.0)(features))
    >>> model = OpenSetModel(features, outputs)
    >>> model.compile("sgd", losses.CrossEntropyLoss(margin=losses.GrowingMargin(losses.ArcFace(0.5))))
    """

    target = None

    def __init__(self, margin):
        self.margin = check_margin(margin)
        self.drops = self.margin.drops
        self.reads = (*self.margin.reads, "margin_fraction")

    def training_logits(self, labels, outputs, background=None):
        plain = outputs["logits"]
        fraction = ops.cast(ops.stop_gradient(outputs["margin_fraction"]), plain.dtype)
        return plain + fraction * (self.margin.training_logits(labels, outputs, background) - plain)

    def __repr__(self):
        return f"GrowingMargin({self.margin!r})"

    def get_config(self):
        return {"margin": keras.saving.serialize_keras_object(self.margin)}
