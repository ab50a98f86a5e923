"""The C+1 loss's own terms: compact knowns, and a margin between their centres and the background."""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.numerics import divide, root
from cplus1_keras.numerics.derivatives import take_at, unit
from cplus1_keras.numerics.distances import own_squared_distance, squared_distances

DISTANCES = ("euclidean", "squared_euclidean", "cosine")
CLASS_REDUCTIONS = ("mean", "sum")


def compactness(labels, embeddings, centers, seen=None, square=None):
    """Half the squared distance of a known sample to the centre of its class. One value per label.

        ½ ‖f - c_y‖²        for y >= 0, else 0

    Args:
        labels: int32 tensor, shape (...). A label >= C gives NaN, since it names no class.
        embeddings: f, tensor of shape (..., K).
        centers: c, tensor of shape (C, K).
        seen: Boolean tensor of shape (C,), or None for all: a class without a centre yet gives 0.
        square: ‖f - c_k‖², tensor of shape (..., C), if somebody has computed it.

    Returns:
        Tensor of shape (...), values >= 0.

    Reference: C+1 loss (2022), section 3.2, L_compact; Wen et al. (2016), Eq 2.

    >>> embeddings, centers = np.array([[0.0, 3.0], [0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 1.0]])
    >>> np.array(compactness(np.array([1, -1]), embeddings, centers)).tolist()
    [2.0, 0.0]
    """
    known = is_known(labels)
    inside = labels < centers.shape[0]
    index = ops.where(ops.logical_and(known, inside), labels, 0)
    own = own_squared_distance(embeddings, centers, index) if square is None else take_at(square, index)
    values = ops.where(inside, 0.5 * own, float("nan"))
    if seen is not None:
        known = ops.logical_and(known, ops.take(ops.cast(seen, "bool"), index, axis=0))
    return ops.where(known, values, 0)


def background_margin(
    labels, embeddings, centers, margin, distance="euclidean", class_reduction="mean", seen=None, square=None
):
    """How much closer than the margin a negative sample lies to the centres. One value per label.

        R_k max(0, m - d(f, c_k))       for negatives, else 0

    R is the mean or the sum over the classes k, d the Euclidean distance ‖f - c‖, its square, or 1 - cos(f, c).

    Args:
        labels: int32 tensor, shape (...).
        embeddings: f, tensor of shape (..., K).
        centers: c, tensor of shape (C, K).
        margin: m > 0, a distance of the kind of `distance`.
        distance: "euclidean", "squared_euclidean" or "cosine".
        class_reduction: "mean" or "sum". The paper does not say which.
        seen: Boolean tensor of shape (C,), or None for all: a class without a centre yet is left out of the reduction.
        square: ‖f - c_k‖², tensor of shape (..., C), if somebody has computed it.

    Returns:
        Tensor of shape (...), values in [0, m] with the mean, in [0, C m] with the sum.

    Reference: C+1 loss (2022), Eq 2.

    >>> embeddings, centers = np.array([[0.0, 3.0], [0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 1.0]])
    >>> np.array(background_margin(np.array([-1, 0]), embeddings, centers, margin=6.0)).tolist()  # 5 and 2 away
    [2.5, 0.0]
    """
    shortfall = ops.maximum(margin - _distances(embeddings, centers, distance, square), 0)
    seen = ops.ones(centers.shape[:1], "bool") if seen is None else ops.cast(seen, "bool")
    values = ops.sum(ops.where(seen, shortfall, 0), axis=-1)
    if class_reduction == "mean":
        values = divide(values, ops.sum(ops.cast(seen, values.dtype)))
    return ops.where(is_negative(labels), values, 0)


def _distances(embeddings, centers, distance, square):
    if distance == "cosine":
        return 1 - ops.matmul(unit(embeddings), ops.transpose(unit(ops.cast(centers, embeddings.dtype))))
    if square is None:
        square = squared_distances(embeddings, centers)
    return square if distance == "squared_euclidean" else root(square)


def outside_probability(num_classes, radius, feature_radius, dim):
    """Probability that a random point of the feature space lies outside the balls of all classes.

        P = 1 - C (R / R_L)^K,      0 where that is negative

    The balls are disjoint; the features fill a ball of radius R_L. Computed in logarithms, where nothing
    underflows.

    Args:
        num_classes: C >= 1.
        radius: R >= 0, the radius of a class's ball.
        feature_radius: R_L > 0, the radius of the feature space.
        dim: K >= 1, the number of features.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: C+1 loss (2022), Eq 3 (with the exponents that print lost).

    >>> outside_probability(num_classes=2, radius=0.5, feature_radius=1.0, dim=2)
    0.5
    """
    if num_classes < 1 or not radius >= 0 or not 0 < feature_radius < math.inf or dim < 1:
        raise ValueError(
            "The probability needs `num_classes` >= 1, `radius` >= 0, `feature_radius` > 0 and `dim` >= 1. Received: "
            f"num_classes={num_classes}, radius={radius}, feature_radius={feature_radius}, dim={dim}"
        )
    if radius == 0:
        return 1.0
    inside = math.log(num_classes) + dim * (math.log(radius) - math.log(feature_radius))
    return -math.expm1(inside) if inside < 0 else 0.0


@keras.saving.register_keras_serializable("cplus1_keras")
class CompactnessLoss(OpenSetLoss):
    """Center loss on `embeddings`: each known sample close to the centre of its class. Needs a layer of centres.

    Args:
        name: As in `OpenSetLoss`.

    Reference: C+1 loss (2022), section 3.2, L_compact; Wen et al. (2016), Eq 2.

    >>> loss = losses.CrossEntropyLoss() + 0.1 * losses.CompactnessLoss()  # center loss, no background
    """

    reads = ("embeddings", "centers")
    may_read = ("centers_seen", "squared_distances")

    def __init__(self, name="compactness"):
        super().__init__(name)

    def values(self, labels, outputs):
        """½ ‖f - c_y‖² of each known label."""
        seen, square = outputs.get("centers_seen"), outputs.get("squared_distances")
        return compactness(labels, outputs["embeddings"], outputs["centers"], seen, square)


@keras.saving.register_keras_serializable("cplus1_keras")
class BackgroundMarginLoss(OpenSetLoss):
    """A margin between negatives and all centres, on `embeddings`. Needs a layer of centres.

    Args:
        margin: m_b > 0. The paper gives none. Unit vectors are at most 2 apart (Euclidean and cosine) or 4 (squared).
        distance: "euclidean", "squared_euclidean" or "cosine".
        class_reduction: "mean" or "sum" over the classes.
        name: As in `OpenSetLoss`.

    Raises:
        ValueError: If an argument lies outside its range.

    Reference: C+1 loss (2022), Eq 2.

    >>> loss = losses.EntropicOpenSetLoss() + 0.01 * losses.BackgroundMarginLoss(margin=1.2)
    """

    reads = ("embeddings", "centers")
    may_read = ("centers_seen", "squared_distances")
    counted = staticmethod(is_negative)
    needs_negatives = True

    def __init__(self, margin, distance="euclidean", class_reduction="mean", name="background_margin"):
        if distance not in DISTANCES:
            raise ValueError(f"`distance` must be one of {list(DISTANCES)}. Received: distance={distance!r}")
        if class_reduction not in CLASS_REDUCTIONS:
            raise ValueError(
                f"`class_reduction` must be one of {list(CLASS_REDUCTIONS)}. "
                f"Received: class_reduction={class_reduction!r}"
            )
        if not 0 < margin < math.inf or (distance == "cosine" and margin > 2):
            raise ValueError(
                "`margin` is a distance and must be > 0, with the cosine distance at most 2. "
                f"Received: margin={margin}, distance={distance!r}"
            )
        self.margin = float(margin)
        self.distance = distance
        self.class_reduction = class_reduction
        super().__init__(name)

    def values(self, labels, outputs):
        """R_k max(0, m_b - d(f, c_k)) of each negative label."""
        return background_margin(
            labels,
            outputs["embeddings"],
            outputs["centers"],
            self.margin,
            self.distance,
            self.class_reduction,
            outputs.get("centers_seen"),
            outputs.get("squared_distances"),
        )

    def get_config(self):
        config = {"margin": self.margin, "distance": self.distance, "class_reduction": self.class_reduction}
        return {**super().get_config(), **config}
