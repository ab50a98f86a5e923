"""How large a scale must be so that the softmax of a cosine classifier can reach a wanted probability, and a margin."""

import math

from keras import ops


def simplex_bound(num_classes, probability=0.999995, margin=None):
    """Least scale at which a sample in its class centre can have the given probability, the centres being a simplex.

        s >= L / (ψ(0) + 1/(C - 1)),   L = ln((C - 1) p / (1 - p))

    ψ(0) is what the margin makes of the true class's cosine 1: 1 without margin, 1 - m for CosFace, cos m for ArcFace.
    The other cosines are -1/(C - 1), which needs at least C - 1 features. Without margin it is (C - 1)/C L, Eq 3.11.

    Args:
        num_classes: C >= 2.
        probability: p, in (0, 1): that of the true class, margin included.
        margin: A margin on the true class's cosine, like `losses.CosFace(0.35)` or `losses.ArcFace(0.5)`, or None.

    Returns:
        The bound, a float.

    Raises:
        ValueError: If an argument lies outside its range, or no scale is enough for the margin.

    Reference: Open-set losses thesis (2023), Eq 3.11 and Table 5.2; the margin is this project's extension.

    >>> math.ceil(simplex_bound(10))
    13
    >>> round(simplex_bound(10, margin=losses.CosFace(0.35)), 1)
    18.9
    """
    return _bound(num_classes, probability, margin, simplex=True)


def orthogonal_bound(num_classes, probability=0.999995, margin=None):
    """As `simplex_bound`, the centres being orthogonal, so that the other cosines are 0: s >= L / ψ(0).

    Reference: Open-set losses thesis (2023), Eq 3.10, solved for s.

    >>> round(orthogonal_bound(10, margin=losses.ArcFace(0.5)), 1)
    16.4
    """
    return _bound(num_classes, probability, margin, simplex=False)


def largest_margin(num_classes, dim, kind):
    """Largest margin that a sample in its class centre can satisfy, with the centres as far apart as they can be.

        dim = 2:      cosine 1 - cos(2π/C),   angular 2π/C
        dim >= C - 1: cosine C/(C - 1),       angular arccos(-1/(C - 1))

    Args:
        num_classes: C >= 2.
        dim: K, the number of features: 2, or at least C - 1; between them no formula is known.
        kind: "cosine" for the margin of CosFace, "angular" for that of ArcFace (in radians).

    Reference: Open-set losses thesis (2023), section 5.4; the regular simplex for dim >= C - 1.

    >>> round(largest_margin(10, 2, "angular"), 3)
    0.628
    """
    if num_classes < 2:
        raise ValueError(f"A margin needs `num_classes` >= 2. Received: num_classes={num_classes}")
    if kind not in ("cosine", "angular"):
        raise ValueError(f'`kind` must be "cosine" (CosFace) or "angular" (ArcFace). Received: kind={kind!r}')
    if dim != 2 and dim < num_classes - 1:
        raise ValueError(
            "The largest margin is known for `dim` = 2 and `dim` >= num_classes - 1. "
            f"Received: num_classes={num_classes}, dim={dim}. Between, take the smallest angle of points spread apart."
        )
    cosine = -1 / (num_classes - 1) if dim >= num_classes - 1 else math.cos(2 * math.pi / num_classes)
    return 1 - cosine if kind == "cosine" else math.acos(cosine)


def _bound(num_classes, probability, margin, simplex):
    if num_classes < 2 or not 0 < probability < 1:
        received = f"num_classes={num_classes}, probability={probability}"
        raise ValueError(f"A bound needs `num_classes` >= 2 and `probability` in (0, 1). Received: {received}")
    if margin is not None and not callable(getattr(margin, "target", None)):
        needed = "`margin` must act on the true class's cosine, like `losses.CosFace(0.35)`"
        raise ValueError(f"{needed}. Received: margin={margin!r}")
    log_odds = math.log((num_classes - 1) * probability / (1 - probability))
    own, others = 1.0, -1 / (num_classes - 1) if simplex else 0.0
    if margin is not None:
        own = float(ops.convert_to_numpy(margin.target(ops.ones((), "float64"))))
    if not own > others:
        raise ValueError(
            f"No scale is enough: the margin takes the true class's cosine from 1 to {own:.3f}, not above the others' "
            f"{others:.3f}. Choose one below cplus1_keras.scale.largest_margin."
        )
    return log_odds / (own - others)
