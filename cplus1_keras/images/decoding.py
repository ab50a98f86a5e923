"""Encoded images as pixels: one of them, or a batch of which bad ones spoil no other."""

import functools

import tensorflow as tf

from cplus1_keras.images.headers import KINDS, find_kind, read_bytes, read_header, read_numbers
from cplus1_keras.images.preprocessing import preprocess

MAX_PIXELS = 2**26
"""How many pixels an image of a request may have: 201 MB when it is decoded in colour, 850 MB for a moment in grey."""

_HEADER = 2**16

_LUMA = (19595, 38470, 7471)  # ITU-R BT.601 in 1/65536


def decode(contents, channels=3, upright=True, max_pixels=None):
    """Decode a JPEG, PNG, WebP, BMP or GIF (its first frame), a string tensor, as PIL does; (H, W, channels) uint8.

    JPEG uses the accurate inverse transform; TensorFlow's default differs from PIL by up to 3 levels. CMYK becomes RGB,
    a palette its colours, alpha is dropped; of 16 bits the upper 8 are kept. Colour becomes grey by
    0.299 R + 0.587 G + 0.114 B. An animated WebP is refused.

    Args:
        contents: What an image file holds.
        channels: 1 or 3.
        upright: Whether to turn the image as its EXIF orientation says. Without a sound one it stays as it is.
        max_pixels: An image with more pixels is refused before it is decoded, and so is one of more than four bytes for
            each of this number and 64 KB; None takes any.

    Raises:
        ValueError: For another number of channels.
        tf.errors.InvalidArgumentError: The image cannot be read, or is too large.

    >>> decode(tf.io.encode_png(tf.fill([2, 3, 3], tf.constant(7, tf.uint8)))).shape
    TensorShape([2, 3, 3])
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    if max_pixels is not None:
        most = 4 * max_pixels + _HEADER
        contents = _check(tf.strings.length(contents) <= most, contents, f"at most {most} bytes")
    contents, size, orientation = read_header(contents)
    if max_pixels is not None:
        fits = tf.reduce_all((size >= 1) & (size <= max_pixels // tf.maximum(size[::-1], 1)))
        contents = _check(fits, contents, f"1 to {max_pixels} pixels")
    image = _colours(contents)
    if channels == 1:
        image = _grey(image)
    image = tf.cond(orientation > 1, lambda: turn(image, orientation), lambda: image) if upright else image
    return tf.ensure_shape(image, [None, None, channels])


def decode_batch(contents, size, channels, max_pixels=MAX_PIXELS, short_side=None):
    """Encoded images (N,) as training sees them, float32 (N, *size, channels), of NaN where one cannot be read.

    They are decoded on all cores. Neither a bad image nor none at all is an error.

    Args:
        contents: String tensor.
        size: (height, width).
        channels, max_pixels: As for `decode`.
        short_side: As for `preprocess`.

    >>> png = tf.io.encode_png(tf.zeros([2, 3, 1], tf.uint8))
    >>> tf.math.is_nan(decode_batch(tf.stack([png, "no image"]), (1, 1), 1)).numpy().ravel().tolist()
    [False, True]
    """

    def read(raw):
        return preprocess(decode(raw, channels, max_pixels=max_pixels), size, channels, short_side)

    nothing = tf.fill([*size, channels], float("nan"))
    places, images = _in_parallel(contents, read, nothing)
    return tf.ensure_shape(_in_order(contents, places, images), (None, *size, channels))


def decode_ragged(contents, channels, max_size):
    """Encoded images (N,) of any size, uint8 (N, H, W, channels), as large as the largest, and sizes int32 (N, 2).

    Below and to the right of an image there are zeros. Its size is (0, 0) where it cannot be read, or is larger than
    `max_size`, (height, width).

    >>> png = tf.io.encode_png(tf.zeros([2, 3, 1], tf.uint8))
    >>> decode_ragged(tf.stack([png, "no image"]), 1, (4, 4))[1].numpy().tolist()
    [[2, 3], [0, 0]]
    """

    def read(raw):
        image = decode(raw, channels, max_pixels=max_size[0] * max_size[1])
        size = tf.shape(image)[:2]
        return _check(tf.reduce_all(size <= max_size), image, f"at most {max_size} pixels"), size

    nothing = tf.zeros([1, 1, channels], tf.uint8), tf.constant([0, 0])
    places, images, sizes = _in_parallel(contents, read, nothing, tf.data.Dataset.padded_batch)
    return _in_order(contents, places, images), _in_order(contents, places, sizes)


def turn(image, orientation):
    """An image (H, W, C) as its EXIF orientation, int32 in 1..8, says that it is to be looked at.

    >>> turn(tf.constant([[[1], [2]]]), tf.constant(6)).numpy()[..., 0].tolist()
    [[1], [2]]
    """
    rows, columns = (tf.reduce_any(orientation == which) for which in ((3, 4, 7, 8), (2, 3, 6, 7)))
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(rows, lambda: tf.reverse(image, [0]), lambda: image)
    return tf.cond(columns, lambda: tf.reverse(image, [1]), lambda: image)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _colours(contents):
    readers = [{"jpeg": _jpeg, "bmp": _bmp}.get(name, _any) for name in KINDS]
    return tf.switch_case(find_kind(contents), [functools.partial(read, contents) for read in [*readers, _any]])


def _grey(image):
    """One channel after the other: as integers all three together take four times the image."""
    total = tf.constant(2**15)
    for channel, weight in enumerate(_LUMA):
        with tf.control_dependencies([total]):
            total += tf.cast(image[..., channel : channel + 1], tf.int32) * weight
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)


def _jpeg(contents):
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _any(contents):
    return tf.io.decode_image(contents, channels=3, expand_animations=False)


def _bmp(contents):
    """TensorFlow takes the indices of a palette for levels of grey."""
    length, bits, compression = read_numbers(contents, 14, (0, 4), (14, 2), (16, 4))
    palette = tf.reshape(read_bytes(contents, 14 + length, 1024), [256, 4])
    colours = tf.cast(palette[:, 2::-1], tf.uint8)
    # TensorFlow reads any as if it were none; 3 is none, with masks of bits.
    contents = _check(tf.reduce_any(compression == [0, 3]), contents, "no compression")
    index = bits == 8
    flat = lambda: tf.gather(colours, tf.cast(tf.io.decode_bmp(contents)[..., 0], tf.int32))  # noqa: E731
    return tf.cond(index, flat, lambda: _any(contents))


def _check(fits, value, needs):
    with tf.control_dependencies([tf.debugging.Assert(fits, [f"An image must have {needs}."])]):
        return tf.identity(value)


def _in_parallel(contents, read, nothing, batch=tf.data.Dataset.batch):
    """Places of the images that can be read, and what is read, and at the end `nothing` at the place after the last.

    A graph cannot catch a decoder's error, a data set can.
    """
    number = tf.size(contents, tf.int64)
    found = tf.data.Dataset.range(number).map(
        lambda place: (place, *_tuple(read(contents[place]))), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    last = tf.data.Dataset.from_tensors((number, *_tuple(nothing)))
    return batch(found.ignore_errors().concatenate(last), number + 1).get_single_element()


def _in_order(contents, places, values):
    number, have = tf.size(contents), tf.size(places)
    rows = tf.fill([number + 1], have - 1)
    rows = tf.tensor_scatter_nd_update(rows, places[:, None], tf.range(have))
    return tf.cond(have > number, lambda: values[:number], lambda: tf.gather(values, rows[:number]))


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
