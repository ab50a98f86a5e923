"""What keeps one bad image, or none at all, from harming an answer: written once, for every task."""

import warnings

import numpy as np
import tensorflow as tf

# Pixels are 0..255. Resizing may overshoot a little; what lies a whole range outside is no such image, but 16 bits.
LOWEST, HIGHEST = -255.0, 510.0


def isolate(answer, refuse, rows):
    """`[answer(rows)]`; where a graph refuses a row or memory is short, halves by themselves: one harms no other.

    Args:
        answer: Function of a list of rows.
        refuse: Function of one row and the error that it causes.
        rows: List of anything.

    Returns:
        List of what the two functions return, in the order of the rows.

    Raises:
        RuntimeError: The model fails otherwise, or memory is short for one row alone: that is no row's fault.

    >>> isolate(lambda rows: tf.reshape(rows, [2]).numpy().tolist(), lambda row, error: "none", [1, 2, 3])
    ['none', [2, 3]]
    """
    try:
        return [answer(rows)]
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.ResourceExhaustedError) as error:
        if len(rows) > 1:
            middle = len(rows) // 2
            return isolate(answer, refuse, rows[:middle]) + isolate(answer, refuse, rows[middle:])
        if not isinstance(error, tf.errors.ResourceExhaustedError):
            return [refuse(rows[0], error)]
        raise RuntimeError(
            f"Memory is short for one image alone: {error.message.splitlines()[0]}. Free some."
        ) from error
    except tf.errors.OpError as error:
        raise RuntimeError(f"The model fails, by no fault of an image: {error.message.splitlines()[0]}") from error


def only_valid(images):
    """Images (N, H, W, channels) with black ones for those that have a NaN or a pixel far outside 0..255; which not."""
    inside = (images >= LOWEST) & (images <= HIGHEST)  # False for NaN
    valid = tf.reduce_all(inside, axis=(1, 2, 3))
    return tf.where(valid[:, None, None, None], images, 0.0), valid


def infer(model, images):
    """A model's outputs in inference mode, whatever its layers default to, in float32 where they are floating."""
    number, shape = tf.shape(images)[0], images.shape
    # oneDNN's convolutions fail on an empty batch, so a black image stands in for none.
    images = tf.pad(images, [[0, tf.cast(number == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
    # The static shape of a signature is not enforced when it is called, and many a model takes any size.
    outputs = model(tf.ensure_shape(images, (None, *shape[1:])), training=False)
    outputs = {name: tensor[:number] for name, tensor in outputs.items()}
    return {name: tf.cast(x, tf.float32) if x.dtype.is_floating else x for name, x in outputs.items()}


def finite(score, valid):
    """Scores as replies carry them, which travel as JSON too: no infinity, and the lowest number where not valid."""
    return tf.where(valid, tf.clip_by_value(score, score.dtype.min, score.dtype.max), score.dtype.min)


def spread(threshold, logits):
    """A threshold for each image (N,) with an axis of 1 for each position of logits (N, ..., C); None if it is None."""
    return threshold if threshold is None else tf.reshape(threshold, [-1] + [1] * (logits.shape.rank - 2))


def warn_of_range(images, stacklevel=2):
    """Warns of pixels that do not look like 0..255: scaled to 0..1, of 16 bits, standardised."""
    if images.dtype == np.uint8 or not images.size:
        return
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(high - low):
        where = np.isfinite(images)
        low, high = images.min(where=where, initial=np.inf), images.max(where=where, initial=-np.inf)
    takes, text = "the model takes raw pixels, 0..255.", ""
    if images.dtype.kind == "f" and 0 < high <= 1:
        text = f"The pixels look scaled to 0..1; {takes}"
    elif low < -1 or high > 256:
        text = f"The pixels go from {low:g} to {high:g}; {takes} Divide those of 16 bits by 257."
    if text:
        warnings.warn(text, stacklevel=stacklevel + 1)
