"""Arithmetic that stays finite, hand-written derivatives, distances to centres."""

from cplus1_keras.numerics.arithmetic import MIN_SINE, angle, at_least_float32, divide, norm, root, sine

__all__ = ["MIN_SINE", "angle", "at_least_float32", "divide", "norm", "root", "sine"]
