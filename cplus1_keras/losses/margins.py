"""Margins: maps from (labels, outputs) to training logits. They act in training only; inference never sees one."""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known
from cplus1_keras.numerics import angle, divide, sine
from cplus1_keras.numerics.derivatives import add_at, as_rows, with_taken


def add_at_target(logits, labels, offset):
    """The logits with `offset` added at the true class of each known label; other rows stay as they are.

    Args:
        logits: Tensor of shape (..., C).
        labels: int32 tensor, shape (...).
        offset: Tensor of shape (...).

    Returns:
        Tensor of shape (..., C).

    >>> np.asarray(add_at_target(np.zeros((2, 3)), np.array([1, -1]), np.array([-0.5, -0.5]))).tolist()
    [[0.0, -0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    logits, offset = ops.convert_to_tensor(logits), ops.convert_to_tensor(offset)
    index, moved = _target(labels, logits)
    offset = ops.where(moved, ops.reshape(offset, (-1,)), 0)
    return ops.reshape(add_at(as_rows(logits), index, offset), ops.shape(logits))


def _target(labels, logits):
    """The class of each row whose logit moves, 0 where none does, and whether one does; shape (N,)."""
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    moved = is_known(labels) & (labels < logits.shape[-1])
    return ops.where(moved, labels, 0), moved


def cosface(cosine, margin):
    """CosFace's target: cos θ_y - m.

    Args:
        cosine: Tensor of cosines of the true class, in [-1, 1].
        margin: m >= 0.

    Returns:
        Tensor of the same shape.

    Reference: Open-set losses thesis (2023), Eq 3.15; Wang et al. (2018b), Eq 4.

    >>> float(cosface(np.array(0.75), margin=0.5))
    0.25
    """
    return cosine - margin


def arcface(cosine, margin):
    """ArcFace's target: cos(min(θ_y + m, π)).

        cos(θ + m) = cos θ cos m - sin θ sin m     for θ + m < π, else -1

    Args:
        cosine: Tensor of cosines of the true class, in [-1, 1].
        margin: m, an angle in radians, in [0, π/2).

    Returns:
        Tensor of the same shape. Its derivative divides by no less than `numerics.MIN_SINE`.

    Reference: Open-set losses thesis (2023), Eq 3.16 with the clamp of its text; Deng et al. (2019), Eq 3.

    >>> np.round(arcface(np.array([1.0, 0.0, -1.0]), margin=math.pi / 3), 6).tolist()  # at 60°, 150°, 180°
    [0.5, -0.866025, -1.0]
    """
    shifted = cosine * math.cos(margin) - sine(cosine) * math.sin(margin)
    return ops.where(cosine >= -math.cos(margin), shifted, -1)


def sphereface(cosine, margin):
    """SphereFace's target: the cosine of m times the angle, continued so that it falls from θ = 0 to θ = π.

        ψ(θ) = (-1)^k cos(mθ) - 2k,   k = floor(mθ / π)

    Args:
        cosine: Tensor of cosines of the true class, in [-1, 1].
        margin: m >= 1, a real factor.

    Returns:
        Tensor of the same shape. Its derivative divides by no less than `numerics.MIN_SINE`.

    Reference: Open-set losses thesis (2023), Eq 3.14; Liu et al. (2017), with integer m.

    >>> np.round(sphereface(np.array([1.0, 0.0, -1.0]), margin=2.0), 6).tolist()
    [1.0, -1.0, -3.0]
    """
    multiple = margin * angle(cosine)
    k = ops.floor(ops.stop_gradient(multiple) / math.pi)
    sign = 1 - 2 * ops.mod(k, 2)
    return sign * ops.cos(multiple) - 2 * k


class Margin:
    """A margin that touches the true class of known labels only: cos θ_y becomes ψ(θ_y), times the scale.

        z_y = scale ψ(θ_y)

    Other rows (negatives, unknowns, ignored) keep their logits. A subclass implements `target(cosine)` = ψ.

    Args:
        margin: m.
        detach: The offset scale (ψ(θ) - cos θ) takes no gradient from the angle, as in the published code of the thesis
            and of opensphere. The default is the true derivative; where ψ is the cosine less a constant they are one.

    >>> class Squared(losses.Margin):
    ...     def target(self, cosine):
    ...         return cosine - self.margin * (1 - cosine) ** 2
    >>> losses.CrossEntropyLoss(margin=Squared(0.5)).margin
    Squared(margin=0.5, detach=False)
    """

    reads = ("logits", "scale")

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
        index, moved = _target(labels, logits)
        rows, target = with_taken(as_rows(logits), index)
        scale = ops.reshape(outputs["scale"], (-1,))
        cosine = divide(target, scale)
        change = self.target(cosine) - cosine
        offset = scale * (ops.stop_gradient(change) if self.detach else change)
        return ops.reshape(add_at(rows, index, ops.where(moved, offset, 0)), ops.shape(logits))

    def __repr__(self):
        return represent(self)

    def get_config(self):
        return {"margin": self.margin, "detach": self.detach}

    @classmethod
    def from_config(cls, config):
        """The margin that `get_config` describes."""
        return cls(**config)


@keras.saving.register_keras_serializable("cplus1_keras")
class SMSoftmax(Margin):
    """Additive margin on the raw logit: z_y = φ·W_y - m. Needs `logits` only, as of a `LinearHead`.

    Args:
        margin: m >= 0.
        detach: As in `Margin`; it changes nothing here.

    Raises:
        ValueError: If `margin` is negative.

    Reference: Open-set losses thesis (2023), Eq 3.13; Liang et al. (2017).

    >>> loss = losses.CrossEntropyLoss(margin=losses.SMSoftmax(0.3))
    """

    reads = ("logits",)
    target = None  # no function of a cosine

    def __init__(self, margin=0.3, detach=False):
        if not 0 <= margin < math.inf:
            raise ValueError(f"`margin` is a difference of logits and must be >= 0. Received: margin={margin}")
        super().__init__(margin, detach)

    def training_logits(self, labels, outputs, background=None):
        """The logits that training sees; see `Margin.training_logits`."""
        logits = outputs["logits"]
        return add_at_target(logits, labels, ops.full_like(logits[..., 0], -self.margin))


@keras.saving.register_keras_serializable("cplus1_keras")
class SphereFace(Margin):
    """Multiplicative angular margin: z_y = scale ((-1)^k cos(mθ_y) - 2k), k = floor(mθ_y / π). Needs a `CosineHead`.

    Args:
        margin: m, a real factor >= 1; 1 is no margin.
        detach: As in `Margin`.

    Raises:
        ValueError: If `margin` is below 1.

    Reference: Open-set losses thesis (2023), Eq 3.14; Liu et al. (2017).

    >>> loss = losses.CrossEntropyLoss(margin=losses.SphereFace(1.5))
    """

    def __init__(self, margin=1.5, detach=False):
        if not 1 <= margin < math.inf:
            raise ValueError(f"`margin` is a factor of the angle and must be >= 1. Received: margin={margin}")
        super().__init__(margin, detach)

    def target(self, cosine):
        """(-1)^k cos(mθ) - 2k."""
        return sphereface(cosine, self.margin)


@keras.saving.register_keras_serializable("cplus1_keras")
class CosFace(Margin):
    """Additive cosine margin: z_y = scale (cos θ_y - m). Needs a `CosineHead`.

    Args:
        margin: m, a difference of cosines, in [0, 2).
        detach: As in `Margin`; it changes nothing here.

    Raises:
        ValueError: If `margin` lies outside its range.

    Reference: Open-set losses thesis (2023), Eq 3.15; Wang et al. (2018b), Eq 4.

    >>> loss = losses.CrossEntropyLoss(margin=losses.CosFace(0.35))
    """

    def __init__(self, margin=0.35, detach=False):
        if not 0 <= margin < 2:
            raise ValueError(f"`margin` is a difference of cosines and must lie in [0, 2). Received: margin={margin}")
        super().__init__(margin, detach)

    def target(self, cosine):
        """cos θ - m."""
        return cosface(cosine, self.margin)


@keras.saving.register_keras_serializable("cplus1_keras")
class ArcFace(Margin):
    """Additive angular margin: z_y = scale cos(min(θ_y + m, π)). Needs a `CosineHead`.

    Args:
        margin: m, an angle in radians, in [0, π/2).
        detach: As in `Margin`.

    Raises:
        ValueError: If `margin` lies outside its range.

    Reference: Open-set losses thesis (2023), Eq 3.16; Deng et al. (2019), Eq 3.

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
        """cos(min(θ + m, π))."""
        return arcface(cosine, self.margin)


def represent(margin):
    """A margin as the call that makes it.

    >>> represent(losses.CosFace(0.2))
    'CosFace(margin=0.2, detach=False)'
    """
    arguments = ", ".join(f"{key}={value!r}" for key, value in margin.get_config().items())
    return f"{type(margin).__name__}({arguments})"


def check_margin(margin, optional=False):
    """A margin as given or as its serialised dict; None too if it is optional. Raises ValueError for anything else.

    >>> check_margin(losses.CosFace(0.2))
    CosFace(margin=0.2, detach=False)
    """
    if isinstance(margin, dict):
        margin = keras.saving.deserialize_keras_object(margin)
    if (margin is None and optional) or hasattr(margin, "training_logits"):
        return margin
    raise ValueError(
        f"`margin` must be a margin of cplus1_keras.losses, like `ArcFace(0.5)`{', or None' if optional else ''}. "
        f"Received: margin={margin!r}"
    )
