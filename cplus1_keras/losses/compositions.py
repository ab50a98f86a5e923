"""The papers' named losses as sums of the parts: print `terms()`.

Three heads occur: `LinearHead(C)` (raw logits), `CosineHead(C, scale=None)` (soft feature normalisation, SFN: the scale
is the length of the features) and `CosineHead(C, scale=s)` (hard feature normalisation, HFN). `margin` is CosFace's, a
difference of cosines in [0, 2), or ArcFace's, an angle in radians in [0, π/2); for scales and radii see
`scale.simplex_bound`; `weight` is λ >= 0. Equations are those of the open-set losses thesis (2023) unless named.
"""

from cplus1_keras.losses.classification import BackgroundCrossEntropyLoss, CrossEntropyLoss, EntropicOpenSetLoss
from cplus1_keras.losses.compactness import BackgroundMarginLoss, CompactnessLoss
from cplus1_keras.losses.lengths import MagnitudeLoss, RingLoss, SymmetricMagnitudeLoss
from cplus1_keras.losses.margins import ArcFace, CosFace, GaussianMargin


def objectosphere(radius, weight=0.01):
    """Entropic open-set loss + λ (max(0, ξ - ‖φ‖)² for knowns, ‖φ‖² for negatives). Head: `LinearHead(C)`.

    Reference: Eq 3.19; Dhamija et al. (2018), Eq 2.

    >>> [(weight, term.name) for weight, term in losses.objectosphere(radius=50.0).terms()]
    [(1.0, 'entropic_open_set'), (0.01, 'magnitude')]
    """
    return EntropicOpenSetLoss() + weight * MagnitudeLoss(radius)


def sfn_norm(radius, weight=0.01):
    """SFN-Norm: cross-entropy on φ·W_c/‖W_c‖ + λ (s - ‖φ‖)². Head: `CosineHead(C, scale=None)`, without negatives.

    (The thesis's published run forgot to normalise the weights; that run is this loss on a `LinearHead`.)

    Reference: section 4.1, Eq 4.3 with m = 0.
    """
    return CrossEntropyLoss() + weight * RingLoss(radius)


def sfn_cosface(margin, radius, weight=0.01):
    """SFN-CosFace: `sfn_norm` with CosFace's margin. Reference: Eq 4.1 and 4.3."""
    return CrossEntropyLoss(CosFace(margin)) + weight * RingLoss(radius)


def sfn_arcface(margin, radius, weight=0.01):
    """SFN-ArcFace: `sfn_norm` with ArcFace's margin. Reference: Eq 4.2 and 4.3."""
    return CrossEntropyLoss(ArcFace(margin)) + weight * RingLoss(radius)


def norm_os(radius, weight=0.01):
    """Norm-OS: cross-entropy on φ·W_c/‖W_c‖ of knowns + λ ((ξ - ‖φ‖)² for knowns, ‖φ‖² for negatives).

    Head: `CosineHead(C, scale=None)`. Reference: section 4.2, Eq 4.4 with m = 0.
    """
    return CrossEntropyLoss() + weight * SymmetricMagnitudeLoss(radius)


def cos_os(margin, radius, weight=0.01):
    """Cos-OS: `norm_os` with CosFace's margin on the knowns. Reference: Eq 4.4."""
    return CrossEntropyLoss(CosFace(margin)) + weight * SymmetricMagnitudeLoss(radius)


def arc_os(margin, radius, weight=0.01):
    """Arc-OS: `norm_os` with ArcFace's margin on the knowns. Reference: Eq 4.5."""
    return CrossEntropyLoss(ArcFace(margin)) + weight * SymmetricMagnitudeLoss(radius)


def cos_eos(margin):
    """Cos-EOS: entropic open-set loss on s cos θ_c with CosFace's margin on the knowns; negatives get none.

    Head: `CosineHead(C, scale=s)`. Norm-EOS is `EntropicOpenSetLoss()` on that head. (The thesis's "Cos-EOS (SFN)" rows
    are this loss, with this head, + a ring loss.) Reference: Eq 4.6.
    """
    return EntropicOpenSetLoss(CosFace(margin))


def arc_eos(margin):
    """Arc-EOS: `cos_eos` with ArcFace's margin. Reference: Eq 4.7."""
    return EntropicOpenSetLoss(ArcFace(margin))


def lgm(margin=0.3, weight=0.1):
    """Large-margin Gaussian mixture: cross-entropy with the margin α on distances to the means + λ ½ ‖φ - μ_y‖².

    Head: `GaussianHead(C)`, whose covariances are the identity, as in the authors' configurations (`update_sigma:
    false`), and whose classes are equally frequent. Reference: Wan et al. (2018), section 3.

    >>> [(weight, term.name) for weight, term in losses.lgm(margin=1.0).terms()]
    [(1.0, 'cross_entropy'), (0.1, 'compactness')]
    """
    return CrossEntropyLoss(GaussianMargin(margin)) + weight * CompactnessLoss()


def cplus1(compactness=0.1, background=1e-4, margin=1.0, distance="euclidean", class_reduction="mean"):
    """The C+1 loss: cross-entropy with a background class + α compactness + β background margin.

        L = L_separability + α L_compact + β L_background

    Heads: `MovingAverageCenters(C)(LinearHead(C, background=True)(features))` and its like. With the mean over the
    classes the gradient of β = 1e-4 is at most 1e-4 per negative, close to nothing beside the cross-entropy's: try
    larger ones too.

    Args:
        compactness: α >= 0; 0.1 in the paper, 0.01 for its largest networks.
        background: β >= 0; 1e-4 in the paper.
        margin: m_b. The paper gives none; 1 is the middle of the range of unit vectors.
        distance, class_reduction: As `BackgroundMarginLoss`.

    Reference: C+1 loss (2022), Eq 1.

    >>> [(weight, term.name) for weight, term in losses.cplus1().terms()]
    [(1.0, 'background_cross_entropy'), (0.1, 'compactness'), (0.0001, 'background_margin')]
    """
    margin_loss = BackgroundMarginLoss(margin, distance, class_reduction)
    return BackgroundCrossEntropyLoss() + compactness * CompactnessLoss() + background * margin_loss
