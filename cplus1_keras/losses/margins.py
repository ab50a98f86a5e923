"""Margins: maps from (labels, outputs) to training logits. They act in training only; inference never sees one."""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.numerics import angle, divide, norm, sine
from cplus1_keras.numerics.derivatives import add_at, as_rows, take_at, with_taken


def arcface(cosine, margin):
    """ψ of `ArcFace`: cos θ cos m - sin θ sin m for θ + m < π, else -1."""
    shifted = cosine * math.cos(margin) - sine(cosine) * math.sin(margin)
    return ops.where(cosine >= -math.cos(margin), shifted, -1)


def sphereface(cosine, margin):
    """ψ of `SphereFace`: the cosine of mθ, continued so that it falls from θ = 0 to θ = π."""
    multiple = margin * angle(cosine)
    k = ops.floor(ops.stop_gradient(multiple) / math.pi)
    sign = 1 - 2 * ops.mod(k, 2)
    return sign * ops.cos(multiple) - 2 * k


def rows_to_move(labels, logits, background=None):
    """Logits as rows (N, C), the class of each, which is `background` of negatives, and whether it has one."""
    if background is not None:
        labels = ops.where(is_negative(labels), background, labels)
    labels = ops.reshape(labels, (-1,))
    return as_rows(logits), ops.clip(labels, 0, logits.shape[-1] - 1), is_known(labels)


class Margin:
    """A margin that touches the true class of known labels only: cos θ_y becomes ψ(θ_y), times the scale.

        z_y = scale ψ(θ_y)

    Other rows (negatives, unknowns, ignored) keep their logits. A subclass implements `target(cosine)` = ψ; its
    derivative divides by no less than `numerics.MIN_SINE`.

    Args:
        margin: m.
        detach: The offset scale (ψ(θ) - cos θ) takes no gradient from the angle, as in the published code of the thesis
            and of opensphere. The default is the true derivative; where ψ is the cosine less a constant they are one.

    Raises:
        ValueError: If `margin` lies outside its range.

    >>> class Squared(losses.Margin):
    ...     def target(self, cosine):
    ...         return cosine - self.margin * (1 - cosine) ** 2
    >>> losses.CrossEntropyLoss(margin=Squared(0.5)).margin
    Squared(margin=0.5, detach=False)
    """

    reads = ("logits", "scale")
    drops = False  # whether it leaves out classes, to which label smoothing would give a share

    def __init__(self, margin, detach=False):
        self.margin = float(margin)
        self.detach = bool(detach)

    def target(self, cosine):
        """ψ: what takes the place of the cosine of the true class, (...) to (...)."""
        raise NotImplementedError(f"{type(self).__name__} must implement `target(cosine)`.")

    def training_logits(self, labels, outputs, background=None):
        """The logits that training sees.

        Args:
            labels: int32 tensor, shape (...).
            outputs: Dict with `logits` (..., C), which are cosines times the scale, and `scale` (..., 1).
            background: The index of the class that negatives belong to, or None. Only `C2AM` asks.

        Returns:
            Tensor of shape (..., C).
        """
        # The cosine is taken from the logit: where nobody reads them, a graph need not compute the others.
        logits = outputs["logits"]
        labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
        moved = is_known(labels) & (labels < logits.shape[-1])
        index = ops.where(moved, labels, 0)
        rows, target = with_taken(as_rows(logits), index)
        offset = ops.where(moved, self._offset(target, outputs, index), 0)
        return ops.reshape(add_at(rows, index, offset), ops.shape(logits))

    def _offset(self, logit, outputs, index):
        scale = self._scale(outputs, index)
        cosine = divide(logit, scale)
        change = self.target(cosine) - cosine
        return scale * (ops.stop_gradient(change) if self.detach else change)

    def _scale(self, outputs, index):
        """What the logit of each row's class `index` (N,) is divided by to be a cosine, (N,)."""
        return ops.reshape(outputs["scale"], (-1,))

    def __repr__(self):
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def get_config(self):
        return {"margin": self.margin, "detach": self.detach}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("cplus1_keras")
class SMSoftmax(Margin):
    """Additive margin on the raw logit: z_y = φ·W_y - m. Needs `logits` only, as of a `LinearHead`.

    Args:
        margin: m >= 0.
        detach: Changes nothing here.

    Reference: Open-set losses thesis (2023), Eq 3.13; Liang et al. (2017).

    >>> loss = losses.CrossEntropyLoss(margin=losses.SMSoftmax(0.3))
    """

    reads = ("logits",)
    target = None  # no function of a cosine

    def __init__(self, margin=0.3, detach=False):
        if not 0 <= margin < math.inf:
            raise ValueError(f"`margin` is a difference of logits and must be >= 0. Received: margin={margin}")
        super().__init__(margin, detach)

    def _offset(self, logit, outputs, index):
        return ops.full_like(logit, -self.margin)


@keras.saving.register_keras_serializable("cplus1_keras")
class SphereFace(Margin):
    """Multiplicative angular margin: z_y = scale ((-1)^k cos(mθ_y) - 2k), k = floor(mθ_y / π). Needs a `CosineHead`.

    Args:
        margin: m, a real factor >= 1; 1 is no margin.
        detach: As in `Margin`.

    Reference: Open-set losses thesis (2023), Eq 3.14; Liu et al. (2017), with integer m.

    >>> loss = losses.CrossEntropyLoss(margin=losses.SphereFace(1.5))
    """

    def __init__(self, margin=1.5, detach=False):
        if not 1 <= margin < math.inf:
            raise ValueError(f"`margin` is a factor of the angle and must be >= 1. Received: margin={margin}")
        super().__init__(margin, detach)

    def target(self, cosine):
        return sphereface(cosine, self.margin)


@keras.saving.register_keras_serializable("cplus1_keras")
class CosFace(Margin):
    """Additive cosine margin: z_y = scale (cos θ_y - m). Needs a `CosineHead`.

    Args:
        margin: m, a difference of cosines, in [0, 2).
        detach: Changes nothing here.

    Reference: Open-set losses thesis (2023), Eq 3.15; Wang et al. (2018b), Eq 4.

    >>> loss = losses.CrossEntropyLoss(margin=losses.CosFace(0.35))
    """

    def __init__(self, margin=0.35, detach=False):
        if not 0 <= margin < 2:
            raise ValueError(f"`margin` is a difference of cosines and must lie in [0, 2). Received: margin={margin}")
        super().__init__(margin, detach)

    def target(self, cosine):
        return cosine - self.margin


@keras.saving.register_keras_serializable("cplus1_keras")
class ArcFace(Margin):
    """Additive angular margin: z_y = scale cos(min(θ_y + m, π)). Needs a `CosineHead`.

    Args:
        margin: m, an angle in radians, in [0, π/2).
        detach: As in `Margin`.

    Reference: Open-set losses thesis (2023), Eq 3.16 with the clamp of its text; Deng et al. (2019), Eq 3.

    >>> loss = losses.EntropicOpenSetLoss(margin=losses.ArcFace(0.5))  # Arc-EOS
    """

    def __init__(self, margin=0.5, detach=False):
        if not 0 <= margin < math.pi / 2:
            degrees = " (degrees?)" if margin >= math.pi / 2 else ""
            raise ValueError(
                f"`margin` is an angle in radians and must lie in [0, pi/2). Received: margin={margin}{degrees}"
            )
        super().__init__(margin, detach)

    def target(self, cosine):
        return arcface(cosine, self.margin)


@keras.saving.register_keras_serializable("cplus1_keras")
class LSoftmax(SphereFace):
    """Large-margin softmax, SphereFace's margin on raw logits: z_y = ‖W_y‖ ‖φ‖ (λ cos θ_y + ψ(θ_y)) / (1 + λ).

        ψ(θ) = (-1)^k cos(mθ) - 2k,   k = floor(mθ / π)

    Needs a `LinearHead` without bias. Its authors let λ fall from about 1000 to 5 or 0 in training: `GrowingMargin`
    with a `layers.MarginWarmup` does, and ends at this λ.

    Args:
        margin: m >= 1, an integer in the paper (2, 3, 4); 1 is no margin.
        annealing: λ >= 0, the part of the plain logit.
        detach: As in `Margin`.

    Reference: Liu et al. (2016), Eq 4-6 and section 4; Anchor NCM (2018), Table 2.

    >>> loss = losses.CrossEntropyLoss(margin=losses.GrowingMargin(losses.LSoftmax(4, annealing=5.0)))
    """

    reads = ("logits", "features", "weight_norms")

    def __init__(self, margin=2, annealing=0.0, detach=False):
        super().__init__(margin, detach)
        if not 0 <= annealing < math.inf:
            raise ValueError(f"`annealing` is the weight of the plain logit, >= 0. Received: annealing={annealing}")
        self.annealing = float(annealing)

    def target(self, cosine):
        return (self.annealing * cosine + super().target(cosine)) / (1 + self.annealing)

    def _scale(self, outputs, index):
        return norm(as_rows(outputs["features"])) * ops.take(outputs["weight_norms"], index)

    def get_config(self):
        return {**super().get_config(), "annealing": self.annealing}


@keras.saving.register_keras_serializable("cplus1_keras")
class GaussianMargin(Margin):
    """The margin of the large-margin Gaussian mixture: the true class's squared distance counts 1 + α times.

        z_y = -(1 + α) ½ ‖φ - μ_y‖²

    Needs a `GaussianHead`; `losses.lgm` is the whole loss.

    Args:
        margin: α >= 0; the authors' code ends at 0.3 for CIFAR-100.
        detach: The margin takes no gradient.

    Reference: Wan et al. (2018), L-GM, section 3.2.

    >>> loss = losses.CrossEntropyLoss(margin=losses.GaussianMargin(0.3))
    """

    reads = ("logits", "squared_distances")
    target = None  # no function of a cosine

    def __init__(self, margin=0.3, detach=False):
        if not 0 <= margin < math.inf:
            raise ValueError(f"`margin` is a share of a squared distance and must be >= 0. Received: margin={margin}")
        super().__init__(margin, detach)

    def _offset(self, logit, outputs, index):
        offset = -0.5 * self.margin * take_at(as_rows(outputs["squared_distances"]), index)
        return ops.stop_gradient(offset) if self.detach else offset


def check_margin(margin, optional=False):
    """A margin as given or as its serialised dict; None too if it is optional. Raises ValueError for anything else."""
    if isinstance(margin, dict):
        margin = keras.saving.deserialize_keras_object(margin)
    if (margin is None and optional) or hasattr(margin, "training_logits"):
        return margin
    raise ValueError(
        f"`margin` must be a margin of cplus1_keras.losses, like `ArcFace(0.5)`{', or None' if optional else ''}. "
        f"Received: margin={margin!r}"
    )
