"""Which devices train: all GPUs that are there, each with its share of a batch."""

import keras
import tensorflow as tf


def strategy():
    """`MirroredStrategy` over all GPUs if there are several, else TensorFlow's default strategy.

    >>> strategy().num_replicas_in_sync
    1
    """
    several = len(tf.config.list_physical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()


def per_replica(batch_size, strategy):
    """How many images of a batch each replica gets.

    Args:
        batch_size: Images in a global batch.
        strategy: A `tf.distribute.Strategy`.

    Returns:
        int.

    Raises:
        ValueError: If they cannot all get as many: one without an image fails in its layers.

    >>> per_replica(16, strategy())
    16
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the {replicas} replicas (GPUs) that share a batch. "
            f"Received: batch_size={batch_size}"
        )
    return batch_size // replicas


def check_backend():
    """Raises RuntimeError where Keras runs on another backend than TensorFlow, which data, runs and serving need."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Runs need Keras's TensorFlow backend: set KERAS_BACKEND=tensorflow before Keras is imported. "
            f"It is {keras.backend.backend()!r}."
        )
