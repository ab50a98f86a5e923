"""Terms on the length of the features: Objectosphere's, its symmetric form, and the ring loss.

The functions take labels (...) of int32, features φ (..., K) and a radius > 0, and give values (...) >= 0.
"""

import keras
from keras import ops

from cplus1_keras.labels import is_known, is_negative, is_seen
from cplus1_keras.losses.base import OpenSetLoss
from cplus1_keras.numerics import norm


def magnitude(labels, features, radius):
    """The value of each label; see `MagnitudeLoss`."""
    shortfall = ops.square(ops.maximum(radius - norm(features), 0))
    return _knowns_and_negatives(labels, shortfall, features)


def symmetric_magnitude(labels, features, radius):
    """The value of each label; see `SymmetricMagnitudeLoss`."""
    return _knowns_and_negatives(labels, ops.square(radius - norm(features)), features)


def ring(labels, features, radius):
    """The value of each label; see `RingLoss`."""
    return ops.where(is_seen(labels), ops.square(radius - norm(features)), 0)


def _knowns_and_negatives(labels, of_knowns, features):
    of_negatives = ops.sum(ops.square(features), axis=-1)
    return ops.where(is_known(labels), of_knowns, ops.where(is_negative(labels), of_negatives, 0))


class _LengthLoss(OpenSetLoss):
    """What the three share: they read `features` and hold a radius."""

    reads = ("features",)
    counted = staticmethod(is_seen)

    def __init__(self, radius, name=None):
        if not 0 < radius < float("inf"):
            raise ValueError(f"`radius` is a length of features and must be > 0. Received: radius={radius}")
        self.radius = float(radius)
        super().__init__(name)

    def get_config(self):
        return {**super().get_config(), "radius": self.radius}


@keras.saving.register_keras_serializable("cplus1_keras")
class MagnitudeLoss(_LengthLoss):
    """Objectosphere's term on `features`: knowns get at least the length ξ, negatives the length 0.

        max(0, ξ - ‖φ‖)² for y >= 0,   ‖φ‖² for negatives

    Args:
        radius: ξ > 0.

    Reference: Open-set losses thesis (2023), Eq 3.19; Dhamija et al. (2018), Eq 2.

    >>> loss = losses.MagnitudeLoss(radius=7.0)
    >>> float(loss(np.array([0, -1]), {"features": np.array([[3.0, 4.0], [3.0, 4.0]])}))  # the mean of 2² and 5²
    14.5
    """

    needs_negatives = True

    def values(self, labels, outputs):
        return magnitude(labels, outputs["features"], self.radius)


@keras.saving.register_keras_serializable("cplus1_keras")
class SymmetricMagnitudeLoss(_LengthLoss):
    """The symmetric term on `features`: knowns get the length ξ, negatives the length 0.

        (ξ - ‖φ‖)² for y >= 0,   ‖φ‖² for negatives

    Args:
        radius: ξ > 0.

    Reference: Open-set losses thesis (2023), Eq 4.4 and 4.5.

    >>> cos_os = losses.CrossEntropyLoss(losses.CosFace(0.35)) + 0.01 * losses.SymmetricMagnitudeLoss(radius=13.0)
    """

    needs_negatives = True

    def values(self, labels, outputs):
        return symmetric_magnitude(labels, outputs["features"], self.radius)


@keras.saving.register_keras_serializable("cplus1_keras")
class RingLoss(_LengthLoss):
    """Ring loss on `features`: knowns and negatives alike get the length s, so train it without negatives.

        (s - ‖φ‖)²

    Args:
        radius: s > 0.

    Reference: Open-set losses thesis (2023), Eq 4.3 (no factor 1/2; Zheng et al. (2018), Eq 2, have one and learn s).

    >>> sfn_cosface = losses.CrossEntropyLoss(losses.CosFace(0.35)) + 0.01 * losses.RingLoss(radius=13.0)
    """

    def values(self, labels, outputs):
        return ring(labels, outputs["features"], self.radius)
