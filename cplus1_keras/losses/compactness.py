"""The C+1 loss's own terms: compact knowns, and a margin between their centres and the background."""

import math

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.numerics import divide, root
from cplus1_keras.numerics.derivatives import take_at, unit
from cplus1_keras.numerics.distances import own_squared_distance, squared_distances


def compactness(labels, embeddings, centers, seen=None, square=None):
    """The value of each label, see `CompactnessLoss`, of f (..., K) and c (C, K). A label >= C gives NaN.

    A class that is not `seen` (C,), having no centre yet, gives 0. `square` is ‖f - c_k‖² (..., C), if it is there.
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
    """The value of each label, see `BackgroundMarginLoss`; 0 unless negative. `seen` and `square` as `compactness`."""
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

    The balls are disjoint; the features fill a ball of radius R_L.

    Args:
        num_classes: C >= 1.
        radius: R >= 0, the radius of a class's ball.
        feature_radius: R_L > 0, the radius of the feature space.
        dim: K >= 1, the number of features.

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
    # In logarithms, where nothing underflows.
    inside = math.log(num_classes) + dim * (math.log(radius) - math.log(feature_radius))
    return -math.expm1(inside) if inside < 0 else 0.0


@keras.saving.register_keras_serializable("cplus1_keras")
class CompactnessLoss(OpenSetLoss):
    """Center loss on `embeddings`: each known sample close to the centre of its class. Needs a layer of centres.

        ½ ‖f - c_y‖²

    Reference: C+1 loss (2022), section 3.2, L_compact; Wen et al. (2016), Eq 2.

    >>> loss = losses.CrossEntropyLoss() + 0.1 * losses.CompactnessLoss()  # center loss, no background
    """

    reads = ("embeddings", "centers")
    may_read = ("centers_seen", "squared_distances")

    def values(self, labels, outputs):
        seen, square = outputs.get("centers_seen"), outputs.get("squared_distances")
        return compactness(labels, outputs["embeddings"], outputs["centers"], seen, square)


@keras.saving.register_keras_serializable("cplus1_keras")
class BackgroundMarginLoss(OpenSetLoss):
    """A margin between negatives and all centres, on `embeddings`; only negatives count. Needs a layer of centres.

        R_k max(0, m_b - d(f, c_k))

    A class without a centre yet is left out of the reduction R over the classes k.

    Args:
        margin: m_b > 0. The paper gives none. Unit vectors are at most 2 apart (Euclidean and cosine) or 4 (squared).
        distance: d, "euclidean" ‖f - c‖, "squared_euclidean", or "cosine", 1 - cos(f, c).
        class_reduction: R, "mean" or "sum"; the paper does not say which.

    Reference: C+1 loss (2022), Eq 2.

    >>> loss = losses.EntropicOpenSetLoss() + 0.01 * losses.BackgroundMarginLoss(margin=1.2)
    """

    reads = ("embeddings", "centers")
    may_read = ("centers_seen", "squared_distances")
    counted = staticmethod(is_negative)
    needs_negatives = True

    def __init__(self, margin, distance="euclidean", class_reduction="mean", name=None):
        for argument, value, kinds in (
            ("distance", distance, ("euclidean", "squared_euclidean", "cosine")),
            ("class_reduction", class_reduction, ("mean", "sum")),
        ):
            if value not in kinds:
                raise ValueError(f"`{argument}` must be one of {list(kinds)}. Received: {argument}={value!r}")
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
        settings = self.margin, self.distance, self.class_reduction
        seen, square = outputs.get("centers_seen"), outputs.get("squared_distances")
        return background_margin(labels, outputs["embeddings"], outputs["centers"], *settings, seen, square)

    def get_config(self):
        config = {"margin": self.margin, "distance": self.distance, "class_reduction": self.class_reduction}
        return {**super().get_config(), **config}
