"""Arithmetic that stays finite: values are exact, derivatives are guarded where the true one is infinite."""

import keras
from keras import ops

MIN_SINE = 3.5e-4
"""The least sine that a derivative divides by: float32's resolution of a cosine near 1."""


def at_least_float32(x):
    """The tensor in float32 if it is half precision or integer; float32 and float64 stay as they are."""
    x = ops.convert_to_tensor(x)
    return x if keras.backend.standardize_dtype(x.dtype) in ("float32", "float64") else ops.cast(x, "float32")


def root(x):
    """Square root of numbers >= 0. Its gradient is 0 where they are 0, instead of infinite."""
    positive = x > 0
    # Both branches of a `where` are differentiated, so the unused one must be finite too.
    return ops.where(positive, ops.sqrt(ops.where(positive, x, 1)), 0)


def norm(x, axis=-1, keepdims=False):
    """Euclidean norm. Its gradient is 0 where the vector is 0, instead of NaN."""
    return root(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def divide(x, y):
    """`x / y`, and 0 with a zero gradient where `y` is 0.

    >>> float(divide(np.float32(1.0), np.float32(0.0)))
    0.0
    """
    nonzero = ops.not_equal(y, 0)
    return ops.where(nonzero, x / ops.where(nonzero, y, 1), 0)


def sine(cosine):
    """sin θ >= 0 of an angle given by its cosine, exact; where it is below `MIN_SINE` the derivative divides by that.

    The true derivative, -cos θ / sin θ, is infinite at cos θ = ±1. Cosines that rounding carried past ±1 count as ±1.

    >>> float(sine(np.float64(0.6)))
    0.8
    """
    fixed = ops.stop_gradient(ops.clip(cosine, -1, 1))
    cosine = fixed + (cosine - ops.stop_gradient(cosine))  # clipped, yet with slope 1 everywhere
    square = (1 - cosine) * (1 + cosine)
    regular = square > MIN_SINE**2
    exact = ops.sqrt(ops.stop_gradient(ops.maximum(square, 0)))
    return ops.where(regular, ops.sqrt(ops.where(regular, square, 1)), exact - fixed / MIN_SINE * (cosine - fixed))


def angle(cosine):
    """θ in [0, π] of an angle given by its cosine, exact, with the derivative's sine floored as in `sine`.

    >>> float(angle(np.float64(-1.0)))
    3.141592653589793
    """
    return ops.arctan2(sine(cosine), cosine)
