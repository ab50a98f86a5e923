"""Anchors: fixed unit vectors, one per class, as far apart as the number of features lets them be.

Each function gives an array (C, K) of float64, row c the anchor of class c, for C = `num_classes` >= 1 and K = `dim`
features; `seed` is of the random assignment to the classes. A `dim` that is too small is a ValueError.
"""

import math

import numpy as np


def orthonormal(num_classes, dim, seed=0):
    """The first C vectors of the standard basis: 90° apart, for K >= C.

    Reference: Anchor-based NCM (2018), section 3.2.

    >>> round(math.degrees(smallest_angle(orthonormal(10, 256))), 6)
    90.0
    """
    _check(num_classes, dim, "An orthonormal set", num_classes)
    return _assigned(np.eye(num_classes, dim), seed)


def circle(num_classes, dim=2, seed=0):
    """C points at equal angles 2π/C on the unit circle, for K = 2.

    Reference: Anchor-based NCM (2018), section 3.2.

    >>> round(math.degrees(smallest_angle(circle(10))), 6)
    36.0
    """
    _check(num_classes, dim, "A circle", 2)
    if dim != 2:
        raise ValueError(
            f"A circle lies in `dim` = 2 features; for more take `simplex` or `spread`. Received: dim={dim}"
        )
    angles = 2 * np.pi * np.arange(num_classes) / num_classes
    return _assigned(np.stack([np.cos(angles), np.sin(angles)], axis=-1), seed)


def simplex(num_classes, dim, seed=0):
    """The corners of a regular simplex, as far apart as C points can be: arccos(-1/(C - 1)), more than 90°.

    It needs K >= C - 1; features beyond the first C - 1 are 0.

    Reference: Anchor-based NCM (2018), Eq 10 with its sign corrected, at the largest angle possible.

    >>> round(math.degrees(smallest_angle(simplex(4, 3))), 2)
    109.47
    """
    _check(num_classes, dim, "A simplex", max(num_classes - 1, 1))
    points = np.zeros((num_classes, dim))
    points[0, 0] = 1.0
    # Column j is a Helmert contrast: equal for the points 0..j, the counterweight at point j + 1, 0 after it.
    for j in range(num_classes - 1):
        points[: j + 1, j] = 1 / math.sqrt((j + 1) * (j + 2))
        points[j + 1, j] = -math.sqrt((j + 1) / (j + 2))
    return _assigned(points / np.linalg.norm(points, axis=-1, keepdims=True), seed)


def spread(num_classes, dim, seed=0):
    """Points spread over the unit sphere, for any number of classes and K >= 2, or 1 for at most two classes.

    Where the best arrangement is known it is taken: `circle`, `simplex`, and for C <= 2K the basis vectors and their
    opposites, 90° apart. Else random points repel each other, at first all, in the end only the closest; in three
    dimensions that comes within 1 % of the best known angles. The seed is of the random start too.

    Reference: Anchor-based NCM (2018), Eq 9 and 10 with the sign corrected.

    >>> bool(smallest_angle(spread(20, 3)) > np.radians(45))
    True
    """
    _check(num_classes, dim, "A spread set", 1 if num_classes <= 2 else 2)
    if dim >= num_classes - 1:
        return simplex(num_classes, dim, seed)
    if dim == 2:
        return circle(num_classes, dim, seed)
    if num_classes <= 2 * dim:
        return _assigned(np.concatenate([np.eye(dim), -np.eye(dim)])[:num_classes], seed)
    start = np.random.default_rng(seed).normal(size=(num_classes, dim))
    return _assigned(_repelled(start / np.linalg.norm(start, axis=-1, keepdims=True)), seed)


def smallest_angle(anchors):
    """Angle between the two anchors that are closest in direction.

    Args:
        anchors: Array of shape (C, K), C >= 2, of any length > 0.

    Returns:
        The angle in radians, in [0, π], a float.

    Raises:
        ValueError: If there are fewer than two anchors or one is zero.

    Reference: Anchor-based NCM (2018), Eq 10.

    >>> smallest_angle(np.array([[1.0, 0.0], [0.0, 2.0]])) * 2 / np.pi
    1.0
    """
    anchors = np.asarray(anchors, "float64")
    if anchors.ndim != 2 or len(anchors) < 2 or not np.all(np.linalg.norm(anchors, axis=-1) > 0):
        raise ValueError(
            f"The smallest angle needs at least two non-zero anchors, shape (C, K). Received: shape {anchors.shape}"
        )
    unit = anchors / np.linalg.norm(anchors, axis=-1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    a, b = np.unravel_index(np.argmax(cosines), cosines.shape)
    # The arc cosine loses half the digits of small and of flat angles.
    return 2 * math.atan2(np.linalg.norm(unit[a] - unit[b]), np.linalg.norm(unit[a] + unit[b]))


def _repelled(points, steps=300):
    """Descend on log sum_ij exp(β cos_ij) with growing β, so that in the end only the closest pairs still push."""
    for beta, step in zip(np.geomspace(2, 3000, steps), np.geomspace(0.3, 3e-4, steps), strict=True):
        cosines = points @ points.T
        np.fill_diagonal(cosines, -np.inf)
        push = np.exp(beta * (cosines - cosines.max()))
        force = -push @ points
        force -= np.sum(force * points, axis=-1, keepdims=True) * points  # along the sphere
        points = points + step * force / max(np.linalg.norm(force, axis=-1).max(), 1e-300)
        points /= np.linalg.norm(points, axis=-1, keepdims=True)
    return points


def _assigned(points, seed):
    return points[np.random.default_rng(seed).permutation(len(points))]


def _check(num_classes, dim, what, least):
    if num_classes < 1:
        raise ValueError(f"Anchors need `num_classes` >= 1. Received: num_classes={num_classes}")
    if dim < least:
        raise ValueError(
            f"{what} of {num_classes} classes needs `dim` >= {least} features. Received: dim={dim}. "
            "`spread` takes fewer features than classes."
        )
