"""Images as a person hands them over: their shape is checked, they are answered in batches, texts come back as str."""

import numpy as np
import tensorflow as tf

from cplus1_keras.serving import guards


def check_images(images, image_shape):
    """Images as an array, TypeError or ValueError where they are no images of this shape.

    Args:
        images: (N, H, W, channels), pixels 0..255, integers or floats; N may be 0.
        image_shape: (H, W, channels) of the model, None where any size will do.

    >>> check_images([[[[0.0]]]], (1, 1, 1)).shape
    (1, 1, 1, 1)
    """
    try:
        images = np.asarray(images)
    except ValueError as error:  # NumPy's, for lists of several lengths
        raise ValueError(f"`images` must be of one size, in one array (N, H, W, C). {error}") from error
    if images.dtype.kind not in "uif":
        raise TypeError(f"`images` must be integers or floats, pixels 0..255. Received: dtype={images.dtype}")
    if not _fits(images.shape[1:], image_shape) or images.ndim != 4:
        sizes = zip(image_shape, ("H", "W", "channels"), strict=True)
        wanted, hint = ", ".join(("N", *(name if size is None else str(size) for size, name in sizes))), ""
        if _fits(images.shape, image_shape):
            hint = " Add a batch axis: images[None]."
        elif images.ndim == 4 and _fits((*images.shape[2:], images.shape[1]), image_shape):
            hint = " Channels come last: np.moveaxis(images, 1, -1)."
        raise ValueError(f"`images` must have the shape ({wanted}). Received: {images.shape}.{hint}")
    guards.warn_of_range(images, stacklevel=4)
    return images


def answer_in_batches(function, rows, batch_size, pad=None):
    """What a TensorFlow function says of an array's rows, so many at once.

    Args:
        function: From a tensor (n, ...) to a dict of tensors (n, ...).
        rows: Array (N, ...); N may be 0.
        batch_size: int >= 1, else ValueError.
        pad: Function of a list of such dicts that gives them one shape, where they have several.

    Returns:
        Dict of arrays (N, ...); strings are str.

    >>> answer_in_batches(lambda x: {"twice": 2 * x}, np.arange(5), 2)["twice"].tolist()
    [0, 2, 4, 6, 8]
    """
    if not batch_size >= 1:
        raise ValueError(f"`batch_size` must be an int >= 1, or None. Received: batch_size={batch_size!r}")
    starts = range(0, max(len(rows), 1), batch_size)
    parts = [function(tf.constant(rows[i : i + batch_size])) for i in starts]
    parts = parts if pad is None else pad(parts)
    answers = {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
    # TensorFlow's strings come as bytes.
    return {n: np.char.decode(x.astype("S"), "utf-8") if x.dtype == object else x for n, x in answers.items()}


def _fits(shape, image_shape):
    return len(shape) == 3 and all(want in (None, have) for have, want in zip(shape, image_shape, strict=True))
