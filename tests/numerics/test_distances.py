"""The lean derivatives against the plain forms, and the digits of small distances."""

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras.numerics import derivatives, distances, divide, norm, root

RNG = np.random.default_rng(0)
X, CENTERS, INDEX = RNG.normal(size=(7, 5)), RNG.normal(size=(3, 5)), np.array([0, 2, 1, 1, 0, 2, 2])


def unit_plain(x):
    return divide(x, norm(x, keepdims=True))


def squared_distances_plain(x, centers):
    return tf.reduce_sum(tf.square(x[:, None] - centers), axis=-1)


PAIRS = {
    "unit": (derivatives.unit, unit_plain, (X,)),
    "squared_distances": (distances.squared_distances, squared_distances_plain, (X, CENTERS)),
    "unit_squared_distances": (
        distances.unit_squared_distances,
        lambda x, c: squared_distances_plain(unit_plain(x), c),
        (X, CENTERS),
    ),
    "own_squared_distance": (
        lambda x, c: distances.own_squared_distance(x, c, INDEX),
        lambda x, c: tf.reduce_sum(tf.square(x - tf.gather(c, INDEX)), axis=-1),
        (X, CENTERS),
    ),
}


def value_and_gradients(function, arguments, second=False):
    """The function's value, the gradients of a random projection of it, and those of a projection of these."""
    arguments = [tf.convert_to_tensor(a) for a in arguments]
    with tf.GradientTape() as outer:
        outer.watch(arguments)
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
            along = tf.reduce_sum(tf.sin(value) * np.random.default_rng(1).normal(size=value.shape))
        first = [tf.convert_to_tensor(g) for g in tape.gradient(along, arguments)]
        across = tf.add_n([tf.reduce_sum(g * np.random.default_rng(2).normal(size=g.shape)) for g in first])
    second = [tf.convert_to_tensor(g) for g in outer.gradient(across, arguments)] if second else []
    return [value, *first, *second]


@pytest.mark.parametrize("name", PAIRS)
def test_lean_is_plain_to_the_second_derivative(name):
    lean, plain, arguments = PAIRS[name]
    expected = value_and_gradients(plain, arguments, second=True)
    assert np.abs(expected[-1]).max() > 0.1
    for a, b in zip(value_and_gradients(lean, arguments, second=True), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "jit"])
def test_graph_is_eager(name, jit):
    lean, _, arguments = PAIRS[name]
    compiled = tf.function(lambda *a: value_and_gradients(lean, a), jit_compile=jit)(*map(tf.constant, arguments))
    for a, b in zip(compiled, value_and_gradients(lean, arguments), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", PAIRS)
def test_leading_axes_are_free(name):
    lean, _, (x, *centers) = PAIRS[name]
    x, index = np.stack([x[:6], 2 * x[:6]]).reshape(2, 3, 2, 5), np.stack([INDEX[:6]] * 2)
    if name == "own_squared_distance":
        dense = distances.own_squared_distance(x, *centers, index.reshape(2, 3, 2))
        flat = distances.own_squared_distance(x.reshape(-1, 5), *centers, index.reshape(-1))
    else:
        dense, flat = lean(x, *centers), lean(x.reshape(-1, 5), *centers)
    np.testing.assert_allclose(np.reshape(dense, np.shape(flat)), flat, rtol=1e-14)


def test_squared_distances_by_hand():
    np.testing.assert_array_equal(
        distances.squared_distances(np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 1.0]])), [[25.0, 4.0]]
    )


@pytest.mark.parametrize("norm", [1.0, 13.0, 1e4])
def test_the_own_distance_keeps_its_digits(norm):
    """At norm 13 the product's rounding is 9e-5, far above a d² of 1e-6."""
    center = np.full((1, 64), norm / 8, "float32")
    x = center + np.float32(norm * 1e-5)
    exact = np.sum((x.astype("float64") - center.astype("float64")) ** 2)
    own = distances.own_squared_distance(x, center, np.array([0]))
    np.testing.assert_allclose(own, [exact], rtol=1e-5)
    others = np.concatenate([-center, center, 2 * center])
    np.testing.assert_allclose(distances.squared_distances(x, others)[:, 1], [exact], rtol=1e-5)


def test_the_nearest_unit_distance_keeps_its_digits():
    """1 - cos θ = 5e-9 is lost in a float32 cosine."""
    x = np.array([[13.0, 13e-4, 0.0]], "float32")
    square = distances.unit_squared_distances(x, np.eye(3, dtype="float32"))
    np.testing.assert_allclose(square, [[1e-8, 2 - 2e-4, 2]], rtol=1e-4)


@pytest.mark.parametrize("classes", [3, 200])
def test_class_sums(classes):
    """By a product for few classes, by segments for many."""
    index = np.array([0, 2, 1, 1, 0, 2, classes - 1])
    expected = np.zeros((classes, 5))
    np.add.at(expected, index, X)
    np.testing.assert_allclose(distances.class_sums(tf.constant(X), index, classes), expected, rtol=1e-14)


def test_zero_vectors():
    x = tf.zeros((2, 3))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        unit = derivatives.unit(x)
        d = root(distances.squared_distances(x, tf.zeros((1, 3))))
        of_unit = root(distances.unit_squared_distances(x, tf.zeros((1, 3))))
    for result in (unit, d, of_unit, tape.gradient(unit, x), tape.gradient(d, x), tape.gradient(of_unit, x)):
        np.testing.assert_array_equal(result, np.zeros(result.shape))


@pytest.mark.parametrize("length", [1e-15, 1e-8, 1e15])
def test_unit_of_tiny_and_huge_vectors_is_finite(length):
    x = tf.constant(np.array([[3.0, 4.0]]) * length, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = derivatives.unit(x)[0, 0]
    np.testing.assert_allclose(first, 0.6, rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(first, x)[0] * length, [0.128, -0.096], rtol=1e-4)  # (4², -3 4) / 5³


def test_float32_centers_do_not_round_float64_features():
    assert distances.squared_distances(X, CENTERS.astype("float32")).dtype == "float64"


@pytest.mark.parametrize("length", [0.0, 1.0, 3.0])
def test_the_unit_of_zero_is_zero_and_as_far_from_a_centre_as_that_is_long(length):
    """Not 1 + ‖c‖², as the formula of unit vectors has it."""
    centers = np.array([[length, 0.0], [0.0, 2.0]])
    square = distances.unit_squared_distances(np.zeros((1, 2)), centers)
    np.testing.assert_array_equal(square, [[length**2, 4.0]])
