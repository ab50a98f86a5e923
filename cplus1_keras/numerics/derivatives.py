"""Derivatives written by hand, where autodiff would keep or pass through memory more than the mathematics needs."""

import keras
from keras import ops

from cplus1_keras.numerics.arithmetic import divide, norm


def with_gradient(forward, backward, *tensors):
    """`forward(*tensors)` with a derivative of our own, which may use what the forward pass has computed.

    PyTorch's second derivatives do not see what a closure keeps, so there the forward pass runs once more.

    Args:
        forward: Map from the tensors to a tuple: the result, and what `backward` needs besides the tensors.
        backward: Map `(upstream, tensors, kept)` to a tuple of gradients, one per tensor.
        *tensors: Tensors of floats, no variables.

    >>> cube = lambda x: with_gradient(lambda x: (x * x * x, x * x), lambda up, xs, kept: (3 * kept[0] * up,), x)
    >>> float(cube(ops.array(2.0)))
    8.0
    """

    @ops.custom_gradient
    def differentiable(*inputs):
        result, *kept = forward(*inputs)

        def gradient(*arguments, upstream=None):
            if upstream is None:
                return backward(arguments[0], inputs, kept)
            return backward(upstream, arguments, forward(*arguments)[1:] if kept else kept)

        return result, gradient

    return differentiable(*tensors)


def unit(x):
    """Vectors (..., K) divided by their norms; zero vectors stay zero, with a zero gradient. It keeps `x` only."""
    return with_gradient(lambda x: (_unit(x),), _unit_gradient, ops.convert_to_tensor(x))


def _unit(x):
    length = norm(x, keepdims=True)
    return x / ops.where(length > 0, length, 1)


def _unit_gradient(upstream, tensors, kept):
    (x,) = tensors
    inverse = divide(1, norm(x, keepdims=True))
    along = ops.sum(x * upstream, axis=-1, keepdims=True) * inverse * inverse * inverse  # in this order: no overflow
    return (inverse * upstream - along * x,)


def product_with_units(x, kernel):
    """Products of vectors with unit weights, x·W_c / ‖W_c‖, without the unit weights in memory.

        z_c = q_c x·W_c,   q_c = 1/‖W_c‖
        dz/dx -> (g q) Wᵀ,   dz/dW -> xᵀ (g q) - W diag(q_c Σ_i q_c g_ic z_ic)

    The projection onto each weight comes from the products, so that no pass over normalised weights is needed: over W
    there are three passes for its norms and the projection, and none of them keeps anything. A zero weight gives 0 and
    takes no gradient.

    >>> np.array(product_with_units(np.array([[1.0, 2.0]]), np.array([[3.0, 0.0], [4.0, 0.0]]))).tolist()
    [[2.2, 0.0]]
    """
    x = ops.convert_to_tensor(x)
    return with_gradient(_product_with_units, _product_with_units_gradient, x, ops.cast(kernel, x.dtype))


def _product_with_units(x, kernel):
    inverse = divide(1, norm(kernel, axis=0))
    product = ops.matmul(x, kernel) * inverse
    return product, inverse, product


def _product_with_units_gradient(upstream, tensors, kept):
    x, kernel = tensors
    inverse, product = kept
    scaled = upstream * inverse
    along = inverse * ops.sum(as_rows(scaled * product), axis=0)
    rows = as_rows(scaled)
    if kernel.shape[1] > kernel.shape[0]:
        # TensorFlow on a CPU: 140 and 166 ms for 128 rows, 512 features and 100,000 classes; for few classes slower.
        to_x = ops.transpose(ops.matmul(kernel, ops.transpose(rows)))
    else:
        to_x = ops.matmul(rows, ops.transpose(kernel))
    to_kernel = ops.matmul(ops.transpose(as_rows(x)), rows) - kernel * along
    return ops.reshape(to_x, ops.shape(x)), to_kernel


def as_rows(x):
    """The tensor (..., K) as (N, K)."""
    return x if len(x.shape) == 2 else ops.reshape(x, (-1, x.shape[-1]))


def take_at(rows, index):
    """The entry of each row that `index` names: (..., C) and (...) to (...)."""
    return ops.squeeze(ops.take_along_axis(rows, ops.expand_dims(index, -1), axis=-1), -1)


def add_at(rows, index, values):
    """The rows (N, C) with a value (N,) added to the one entry of each that `index` (N,) names.

    In a TensorFlow graph nothing is copied where nobody else holds the rows.
    """
    index = ops.cast(index, "int32")
    positions = ops.stack([ops.arange(ops.shape(rows)[0], dtype="int32"), index], axis=-1)
    return ops.scatter_update(rows, positions, values, reduction="add")


def with_taken(rows, index):
    """The rows, and the entry of each that `index` names: (N, C) and (N,).

    For whoever changes that entry as a function of itself and puts it back by `add_at`: the derivative of the entry is
    added to that of the rows in place, where autodiff would make a second tensor (N, C) of zeros for it.
    """
    if keras.backend.backend() != "tensorflow":
        # Keras's custom gradients have one output on PyTorch, and XLA under JAX does this by itself.
        return rows, take_at(rows, index)

    @ops.custom_gradient
    def differentiable(rows):
        return (rows, take_at(rows, index)), lambda of_rows, of_taken: add_at(of_rows, index, of_taken)

    return differentiable(rows)
