"""The thesis's named losses, each a function that composes the parts. All are sums of ordinary losses: print `terms()`.

Three heads occur: `LinearHead(C)` (raw logits), `CosineHead(C, scale=None)` (soft feature normalisation, SFN: the scale
is the length of the features) and `CosineHead(C, scale=s)` (hard feature normalisation, HFN).
"""

from cplus1_keras.losses.cross_entropy import CrossEntropyLoss, EntropicOpenSetLoss
from cplus1_keras.losses.magnitude import MagnitudeLoss, RingLoss, SymmetricMagnitudeLoss
from cplus1_keras.losses.margins import ArcFace, CosFace


def objectosphere(xi, weight=0.01):
    """Objectosphere: entropic open-set loss + λ (max(0, ξ - ‖φ‖)² for knowns, ‖φ‖² for negatives).

    Head: `LinearHead(num_classes)`.

    Args:
        xi: ξ > 0, the least length of a known's features.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), Eq 3.19; Dhamija et al. (2018), Eq 2.

    >>> [(weight, term.name) for weight, term in losses.objectosphere(xi=50.0).terms()]
    [(1.0, 'entropic_open_set'), (0.01, 'magnitude')]
    """
    return EntropicOpenSetLoss() + weight * MagnitudeLoss(xi)


def sfn_norm(target, weight=0.01):
    """SFN-Norm: cross-entropy on φ·W_c/‖W_c‖ + λ (s - ‖φ‖)². Train it without negatives.

    Head: `CosineHead(num_classes, scale=None)`. (The thesis's published SFN-Norm run forgot to normalise the weights;
    that run is this loss on a `LinearHead`.)

    Args:
        target: s > 0, the length that features get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), section 4.1, Eq 4.3 with m = 0.

    >>> loss = losses.sfn_norm(target=13.0)
    """
    return CrossEntropyLoss() + weight * RingLoss(target)


def sfn_cosface(margin, target, weight=0.01):
    """SFN-CosFace: cross-entropy with CosFace's margin, scaled by ‖φ‖, + λ (s - ‖φ‖)². Train it without negatives.

    Head: `CosineHead(num_classes, scale=None)`.

    Args:
        margin: m, a difference of cosines, in [0, 2).
        target: s > 0, the length that features get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), Eq 4.1 and 4.3.

    >>> loss = losses.sfn_cosface(margin=0.35, target=13.0)
    """
    return CrossEntropyLoss(CosFace(margin)) + weight * RingLoss(target)


def sfn_arcface(margin, target, weight=0.01):
    """SFN-ArcFace: cross-entropy with ArcFace's margin, scaled by ‖φ‖, + λ (s - ‖φ‖)². Train it without negatives.

    Head: `CosineHead(num_classes, scale=None)`.

    Args:
        margin: m, an angle in radians, in [0, π/2).
        target: s > 0, the length that features get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), Eq 4.2 and 4.3.

    >>> loss = losses.sfn_arcface(margin=0.5, target=13.0)
    """
    return CrossEntropyLoss(ArcFace(margin)) + weight * RingLoss(target)


def norm_os(xi, weight=0.01):
    """Norm-OS: cross-entropy on φ·W_c/‖W_c‖ of knowns + λ ((ξ - ‖φ‖)² for knowns, ‖φ‖² for negatives).

    Head: `CosineHead(num_classes, scale=None)`.

    Args:
        xi: ξ > 0, the length that features of knowns get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), section 4.2, Eq 4.4 with m = 0.

    >>> loss = losses.norm_os(xi=13.0)
    """
    return CrossEntropyLoss() + weight * SymmetricMagnitudeLoss(xi)


def cos_os(margin, xi, weight=0.01):
    """Cos-OS: as `norm_os`, with CosFace's margin on the knowns.

    Head: `CosineHead(num_classes, scale=None)`.

    Args:
        margin: m, a difference of cosines, in [0, 2).
        xi: ξ > 0, the length that features of knowns get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), Eq 4.4.

    >>> loss = losses.cos_os(margin=0.35, xi=13.0)
    """
    return CrossEntropyLoss(CosFace(margin)) + weight * SymmetricMagnitudeLoss(xi)


def arc_os(margin, xi, weight=0.01):
    """Arc-OS: as `norm_os`, with ArcFace's margin on the knowns.

    Head: `CosineHead(num_classes, scale=None)`.

    Args:
        margin: m, an angle in radians, in [0, π/2).
        xi: ξ > 0, the length that features of knowns get; see `scale.simplex_bound`.
        weight: λ >= 0.

    Returns:
        The composed loss.

    Reference: Open-set losses thesis (2023), Eq 4.5.

    >>> loss = losses.arc_os(margin=0.5, xi=13.0)
    """
    return CrossEntropyLoss(ArcFace(margin)) + weight * SymmetricMagnitudeLoss(xi)


def norm_eos():
    """Norm-EOS: entropic open-set loss on s cos θ_c.

    Head: `CosineHead(num_classes, scale=s)`; see `scale.simplex_bound`.

    Returns:
        The loss.

    Reference: Open-set losses thesis (2023), section 4.3, Eq 4.6 with m = 0.

    >>> loss = losses.norm_eos()
    """
    return EntropicOpenSetLoss()


def cos_eos(margin):
    """Cos-EOS: entropic open-set loss on s cos θ_c with CosFace's margin on the knowns; negatives get none.

    Head: `CosineHead(num_classes, scale=s)`; see `scale.simplex_bound`. (The thesis's "Cos-EOS (SFN)" rows are this
    loss, with this head, + a ring loss.)

    Args:
        margin: m, a difference of cosines, in [0, 2).

    Returns:
        The loss.

    Reference: Open-set losses thesis (2023), Eq 4.6.

    >>> loss = losses.cos_eos(margin=0.35)
    """
    return EntropicOpenSetLoss(CosFace(margin))


def arc_eos(margin):
    """Arc-EOS: entropic open-set loss on s cos θ_c with ArcFace's margin on the knowns; negatives get none.

    Head: `CosineHead(num_classes, scale=s)`; see `scale.simplex_bound`.

    Args:
        margin: m, an angle in radians, in [0, π/2).

    Returns:
        The loss.

    Reference: Open-set losses thesis (2023), Eq 4.7.

    >>> loss = losses.arc_eos(margin=0.5)
    """
    return EntropicOpenSetLoss(ArcFace(margin))
