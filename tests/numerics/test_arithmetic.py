"""Guarded arithmetic: exact values, derivatives by the textbook, finite where the true ones are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras import numerics
from cplus1_keras.numerics.derivatives import unit

INSIDE = np.array([-0.99, -0.5, 0.0, 0.3, 0.999])


def through(function, *arguments):
    arguments = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        value = function(*arguments)
    return value.numpy(), *(gradient.numpy() for gradient in tape.gradient(value, arguments))


def test_sine_and_angle():
    value, gradient = through(numerics.sine, INSIDE)
    np.testing.assert_allclose(value, np.sqrt(1 - INSIDE**2), rtol=1e-12)
    np.testing.assert_allclose(gradient, -INSIDE / np.sqrt(1 - INSIDE**2), rtol=1e-12, atol=1e-15)
    value, gradient = through(numerics.angle, INSIDE)
    np.testing.assert_allclose(value, np.arccos(INSIDE), rtol=1e-12)
    np.testing.assert_allclose(gradient, -1 / np.sqrt(1 - INSIDE**2), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_at_the_ends(dtype):
    ends = np.array([1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6], dtype)
    value, gradient = through(numerics.sine, ends)
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_allclose(gradient, np.array([-1, 1, -1, 1]) / numerics.MIN_SINE, rtol=1e-4)
    value, gradient = through(numerics.angle, ends)
    np.testing.assert_array_equal(value, np.array([0, np.pi, 0, np.pi], dtype))
    np.testing.assert_allclose(gradient, -1 / numerics.MIN_SINE, rtol=1e-4)
    close = np.array([1 - 1e-7, -1 + 1e-7], dtype)  # just above the floor
    value, gradient = through(numerics.angle, close)
    square = close.astype("float64") ** 2
    np.testing.assert_allclose(value, np.arccos(close.astype("float64")), rtol=1e-6)
    np.testing.assert_allclose(gradient, -1 / np.sqrt(1 - square), rtol=1e-6)
    closer = np.array([1 - 6e-8, -1 + 6e-8], dtype)  # below it, where only the derivative is changed
    value, gradient = through(numerics.angle, closer)
    square = closer.astype("float64") ** 2
    np.testing.assert_allclose(value, np.arccos(closer.astype("float64")), rtol=1e-6)
    # By hand: θ = atan2(s, c), ds/dc = -c / 3.5e-4 and s² + c² = 1, so that dθ/dc = -(c² / 3.5e-4 + s).
    np.testing.assert_allclose(gradient, -(square / numerics.MIN_SINE + np.sqrt(1 - square)), rtol=1e-6)


def test_norm_unit_and_root():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    value, gradient = through(numerics.norm, x)
    np.testing.assert_array_equal(value, [5, 0])
    np.testing.assert_allclose(gradient, [[0.6, 0.8], [0, 0]])
    value, gradient = through(unit, x)
    np.testing.assert_allclose(value, [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(gradient[0], (1 - np.array([0.6, 0.8]) * 1.4) / 5)
    np.testing.assert_array_equal(gradient[1], 0)
    value, gradient = through(numerics.root, np.array([9.0, 0.0]))
    np.testing.assert_array_equal(value, [3, 0])
    np.testing.assert_allclose(gradient, [1 / 6, 0])
    assert numerics.norm(x, axis=0, keepdims=True).shape == (1, 2)


def test_divide():
    value, of_x, of_y = through(numerics.divide, np.array([6.0, 6.0]), np.array([3.0, 0.0]))
    np.testing.assert_array_equal(value, [2, 0])
    np.testing.assert_allclose(of_x, [1 / 3, 0])
    np.testing.assert_allclose(of_y, [-2 / 3, 0])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("bool", "float32"),
    ],
)
def test_at_least_float32(given, expected):
    converted = numerics.at_least_float32(keras.ops.ones((2,), dtype=given))
    assert keras.backend.standardize_dtype(converted.dtype) == expected
