"""The one place that knows about replicas: sums over all copies of a model that train in step.

Under `tf.distribute.MirroredStrategy` every replica sees its part of the global batch. Elsewhere (one device, Keras on
JAX, whose arrays are global, or on PyTorch) there is one replica and a sum is the value itself.
"""

import keras
from keras import ops


def count():
    """Number of replicas that train in step."""
    context = _context()
    return 1 if context is None else context.num_replicas_in_sync


def total(value):
    """Sum of a tensor over the replicas, the same on each; no gradient flows through it."""
    value = ops.stop_gradient(ops.convert_to_tensor(value))
    context = _context()
    return value if context is None else context.all_reduce("SUM", value)


def gather(values):
    """The values (batch, ...) of all replicas, one after another; the same on each. No gradient flows through it."""
    values = ops.stop_gradient(ops.convert_to_tensor(values))
    context = _context()
    return values if context is None else context.all_gather(values, axis=0)


def _context():
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
