"""Derivatives written by hand: those of the plain forms, to the second order, on every backend.

Keras takes its backend from the environment before it is imported, so each other backend runs this file as a script.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
RANDOM = np.random.default_rng(0)
X, KERNEL, LOGITS = (RANDOM.normal(size=size) for size in ((2, 3, 4), (4, 5), (2, 3, 5)))
X[1, 1], KERNEL[:, 3] = 0, 0
INDEX = np.array([[0, 4, 2], [3, 3, 1]])
EVEN = np.array([[True, False, False], [False, True, False]])
ROW_INDEX = INDEX.reshape(-1)
NORMS, MOVES = np.array([9.0, 1.0, 400.0, 2.0, 2.0]), np.array([True, True, True, False, True, True])


def pairs():
    """Name -> fast form, plain form (maps from one tensor to one), and where to compare them."""
    from keras import ops

    from cplus1_keras.losses.adaptive_margins import c2am
    from cplus1_keras.losses.classification import sparse_cross_entropy
    from cplus1_keras.numerics import derivatives as gradients

    def replaced(rows):
        rows, taken = gradients.with_taken(rows, ops.convert_to_tensor(ROW_INDEX))
        return gradients.add_at(rows, ops.convert_to_tensor(ROW_INDEX), ops.sin(taken))

    def replaced_plain(rows):
        return rows + ops.one_hot(ROW_INDEX, 5, dtype=rows.dtype) * ops.sin(rows)

    def kernel_of(form):
        return lambda kernel: form(ops.cast(X, kernel.dtype), kernel)

    def x_of(form):
        return lambda x: form(x, ops.cast(KERNEL, x.dtype))

    def to_class(form):
        return lambda logits: form(ops.convert_to_tensor(INDEX), logits)

    def to_some(form):
        return lambda logits: form(ops.convert_to_tensor(INDEX), logits, ops.convert_to_tensor(EVEN))

    def c2am_of(form, clamp):
        def compute(logits):
            norms = ops.cast(NORMS, logits.dtype)
            given = norms, ops.convert_to_tensor(ROW_INDEX), ops.convert_to_tensor(MOVES), 2.0, clamp
            return form(2 * ops.sin(logits), 2 + 0 * logits[:, :1], *given)

        return compute

    def scale_of(form):
        def compute(scale):
            given = ops.cast(NORMS, scale.dtype), ops.convert_to_tensor(ROW_INDEX), ops.convert_to_tensor(MOVES), 2.0
            return form(ops.cast(np.sin(LOGITS.reshape(-1, 5)), scale.dtype), scale, *given)

        return compute

    def few_of(form):
        return lambda x: form(x, ops.cast(KERNEL[:, :3], x.dtype))

    def wide(form):
        return lambda kernel: form(ops.cast(LOGITS, kernel.dtype), kernel)

    product = gradients.product_with_units, product_with_units_plain
    entropy = sparse_cross_entropy, sparse_cross_entropy_plain
    return {
        "product, x": (*map(x_of, product), X),
        "product, kernel": (*map(kernel_of, product), KERNEL),
        "product, fewer classes": (*map(wide, product), LOGITS.reshape(5, -1)[:, :3]),
        "product, fewer classes, x": (*map(few_of, product), X),
        "cross-entropy": (*map(to_class, entropy), LOGITS),
        "cross-entropy, even": (*map(to_some, entropy), 30 * LOGITS),
        "c2am": (c2am_of(c2am, True), c2am_of(c2am_plain, True), LOGITS.reshape(-1, 5)),
        "c2am, unclamped": (c2am_of(c2am, False), c2am_of(c2am_plain, False), LOGITS.reshape(-1, 5)),
        "c2am, scale": (scale_of(c2am), scale_of(c2am_plain), np.linspace(1.1, 3, 6)[:, None]),
        "replaced": (replaced, replaced_plain, LOGITS.reshape(-1, 5)),
    }


def product_with_units_plain(x, kernel):
    from keras import ops

    from cplus1_keras.numerics import divide, norm

    return ops.matmul(x, divide(kernel, norm(kernel, axis=0, keepdims=True)))


def sparse_cross_entropy_plain(index, logits, even=None):
    from keras import ops

    values = ops.sparse_categorical_crossentropy(index, logits, from_logits=True)
    if even is None:
        return values
    return ops.where(even, ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1), values)


def c2am_plain(logits, scale, kernel_norms, index, moves, alpha, clamp=True):
    """C2AM (2022), Eq 6 and 7, with the margins as one tensor."""
    from keras import ops

    from cplus1_keras.numerics import divide, sine

    logarithm = ops.log(kernel_norms)
    margins = alpha / np.pi * ops.maximum(ops.expand_dims(ops.take(logarithm, index), -1) - logarithm, 0)
    margins = ops.minimum(margins, np.pi) if clamp else margins
    cosines = divide(logits, scale)
    shifted = cosines * ops.cos(margins) - sine(cosines) * ops.sin(margins)
    if clamp:
        shifted = ops.where(cosines > -ops.cos(margins), shifted, -1)
    return logits + scale * ops.where((margins > 0) & ops.expand_dims(moves, -1), shifted - cosines, 0)


def derivatives(function, x, dtype):
    """Value, first derivative of a function of it, and derivative of the same function of the first."""
    import keras
    from keras import ops

    def summed(values):
        weights = np.sin(1.0 + np.arange(np.prod(values.shape))).reshape(values.shape)
        return ops.sum(ops.sin(values) * ops.convert_to_tensor(weights.astype(dtype)))

    x = ops.convert_to_tensor(x.astype(dtype))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(x)
                total = summed(value)
            first = tape.gradient(total, x)
            total = summed(first)
        second = outer.gradient(total, x)
    elif backend == "jax":
        import jax

        def gradient(x):
            return jax.grad(lambda x: summed(function(x)))(x)

        value, first = function(x), gradient(x)
        second = jax.jit(jax.grad(lambda x: summed(gradient(x))))(x)
    else:
        import torch

        x = x.clone().requires_grad_(True)
        value = function(x)
        (first,) = torch.autograd.grad(summed(value), x, create_graph=True)
        (second,) = torch.autograd.grad(summed(first), x)
    return [np.asarray(ops.convert_to_numpy(ops.stop_gradient(each))) for each in (value, first, second)]


def differences(dtype):
    """The largest difference of fast and plain form for each pair: of value, first and second derivative."""
    results = {}
    for name, (fast, plain, x) in pairs().items():
        both = zip(derivatives(fast, x, dtype), derivatives(plain, x, dtype), strict=True)
        results[name] = [float(np.max(np.abs(own - other) / (1 + np.abs(other)))) for own, other in both]
    return results


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 3e-6)])
def test_fast_is_plain(dtype, tolerance):
    for name, found in differences(dtype).items():
        assert max(found) < tolerance, (name, found)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_fast_is_plain_on_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(found) == set(pairs())
    for name, values in found.items():
        assert max(values) < 3e-6, (name, values)


def test_a_product_with_a_zero_weight_is_zero():
    from cplus1_keras.numerics.derivatives import product_with_units

    product = np.asarray(product_with_units(X, KERNEL))
    np.testing.assert_array_equal(product[..., 3], 0)
    np.testing.assert_allclose(product[..., 0], X @ KERNEL[:, 0] / np.linalg.norm(KERNEL[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("logit", [1e4, -1e4, np.inf])
def test_cross_entropy_of_huge_logits(logit):
    """By hand: 0 for the class that wins by far, the difference for one that loses."""
    import tensorflow as tf

    from cplus1_keras.losses.classification import sparse_cross_entropy

    logits = tf.constant([[logit, 0.0, 0.0]] if np.isfinite(logit) else [[0.0, -np.inf, -np.inf]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = sparse_cross_entropy(np.array([0]), logits)
    expected = 0 if logit > 0 else 1e4 + np.log(2)
    np.testing.assert_allclose(value, [expected], rtol=1e-6)
    gradient = [0, 0, 0] if logit > 0 else [-1, 0.5, 0.5]
    np.testing.assert_allclose(tape.gradient(value, logits), [gradient], atol=1e-7)


if __name__ == "__main__":
    print(json.dumps(differences("float32")))
