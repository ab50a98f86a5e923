"""Files of images and masks, read inside tf.data without a Python function."""

import concurrent.futures
import io
import os
import pathlib
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from cplus1_keras.data.masks import require
from cplus1_keras.images import decode

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
"""Endings of image files that TensorFlow reads."""

OTHER_ENDINGS = (".tif", ".tiff", ".ppm", ".pgm")
"""Endings of image files that are read once, by PIL, and held as png: TensorFlow has no operation for them."""

MASK_ENDINGS = (".png", ".bmp", ".gif", ".tif", ".tiff", ".pgm")

_HEADER = 33  # bytes of a png up to the end of its first chunk, which says bits and kind of colour
_GREY, _PALETTE = 0, 3
_COLOURS = (
    ": a mask is a grey image or one with a palette, so that each pixel is one integer. Received: {}. Convert its "
    "colours to class numbers first."
)
_SPREAD = {1: 65535, 2: 21845, 4: 4369, 8: 257}


def existing(path, what="file"):
    """`path` as a pathlib.Path, once there is such a file, or with `what` "folder" such a folder."""
    path = pathlib.Path(path)
    if not (path.is_dir() if what == "folder" else path.is_file()):
        raise FileNotFoundError(f"No {what} at {path} (looked from {pathlib.Path.cwd()}). Check the path.")
    return path


def image_reader(files, channels=3, upright=True):
    """Function of an index, a scalar int64 tensor, giving the image of a file, (H, W, channels) uint8.

    Without `upright` it stays as it is stored, whatever its EXIF orientation: masks and boxes belong to that.
    """
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    contents = _contents(files, IMAGE_ENDINGS, _image_as_png)

    def read(index):
        path, raw = contents(index)
        image = _attempt(lambda raw: decode(raw, channels, upright), raw, tf.zeros([0, 0, channels], tf.uint8))
        return require(tf.size(image) > 0, lambda: tf.strings.join([path, " is damaged, or no image."]), image)

    return read


def mask_reader(files=(), contents=None, places=None):
    """Function of an index, a scalar int64 tensor, giving a mask, (H, W) int32: grey values or a palette's indices.

    TensorFlow's decoder gives the palette's colours, so a palette image is told that it is grey before it is decoded:
    the two kinds of png differ in one byte and its checksum. `contents` are png files in memory, which `places` name.
    """
    if contents is None:
        contents = _contents(files, (".png",), _mask_as_png)
    else:
        held, names = tf.constant(contents), tf.constant(places)
        contents = lambda index: (tf.gather(names, index), tf.gather(held, index))  # noqa: E731

    def read(index):
        path, raw = contents(index)
        header = tf.io.decode_raw(tf.strings.substr(tf.strings.join([raw, "\0" * _HEADER]), 0, _HEADER), tf.uint8)
        grey = (header[25] == _GREY) | (header[25] == _PALETTE)

        def damaged():
            return tf.strings.join([path, " is damaged, or no png image."])

        raw = require(tf.reduce_all(header[:4] == list(b"\x89PNG")), damaged, raw)
        raw = require(grey, lambda: tf.strings.join([path, _COLOURS.format("an image in colour")]), raw)
        raw = _as_grey(raw, header)
        mask = _attempt(lambda raw: tf.io.decode_png(raw, 1, tf.uint16), raw, tf.zeros([0, 0, 1], tf.uint16))
        # Grey values of fewer than 16 bits are spread over 0..65535.
        factor = tf.gather([_SPREAD.get(bits, 1) for bits in range(17)], tf.minimum(tf.cast(header[24], tf.int32), 16))
        return require(tf.size(mask) > 0, damaged, tf.cast(mask[..., 0], tf.int32) // factor)

    return read


def image_sizes(files):
    """Height and width of each image file, from its header."""

    def size(path):
        with _opened(path, load=False) as image:
            return image.height, image.width

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(size, files))


def png(pixels):
    """The contents of a png file with these pixels, a numpy array of 8 or 16 bits."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def ragged(values):
    """Function of an index giving one of several arrays of one rank and type but of any size, from one flat tensor."""
    starts, shapes = np.cumsum([0] + [value.size for value in values]), np.array([v.shape for v in values], "int32")
    flat = np.concatenate([value.reshape(-1) for value in values])
    held, same = constants({"values": flat, "starts": starts, "shapes": shapes}), common_shape(values)

    def at(index):
        start, stop = tf.gather(held["starts"], index), tf.gather(held["starts"], index + 1)
        return tf.ensure_shape(tf.reshape(held["values"][start:stop], tf.gather(held["shapes"], index)), same)

    return at


def together(readers):
    """Function of an index giving an example, from a dict of functions of an index."""
    return lambda index: {key: read(index) for key, read in readers.items()}


def common_shape(items):
    """The shape of all items, None along an axis where they differ."""
    return tuple(axis[0] if len(set(axis)) == 1 else None for axis in zip(*(i.shape for i in items), strict=True))


def constants(arrays):
    """Dict of numpy arrays as tensors in the host's memory, outside any graph."""
    with tf.init_scope(), tf.device("CPU:0"):
        return {key: tf.constant(values) for key, values in arrays.items()}


def _as_grey(raw, head):
    """A png's contents with a palette's indices as grey values."""
    changed = tf.where(head[25] == _PALETTE, tf.bitwise.bitwise_xor(head, _to_grey()), head)
    characters = tf.constant([bytes([value]) for value in range(256)])
    start = tf.strings.reduce_join(tf.gather(characters, tf.cast(changed, tf.int32)))
    return tf.strings.join([start, tf.strings.substr(raw, _HEADER, -1)])


def _to_grey():
    """What to flip in a png's first 33 bytes so that it is grey and no palette: the kind, 3 to 0, and the checksum.

    CRC is linear: a flip of the same bits changes it by the same bits, whatever else the chunk holds.
    """
    chunk = bytearray(17)
    chunk[4 + 9] = _PALETTE
    flips = np.zeros(_HEADER, "uint8")
    flips[25] = _PALETTE
    flips[29:33] = list(struct.pack(">I", zlib.crc32(bytes(17)) ^ zlib.crc32(bytes(chunk))))
    return flips


def _contents(files, endings, convert):
    """Function of an index giving (path, contents): from the file, or converted once where TensorFlow cannot read."""
    with tf.init_scope(), tf.device("CPU:0"):
        paths = tf.constant([os.fspath(file) for file in files] or [""])
        others = [not str(file).lower().endswith(endings) for file in files]
        if not any(others):
            return lambda index: (tf.gather(paths, index), tf.io.read_file(tf.gather(paths, index)))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pairs = zip(files, others, strict=True)
            held = tf.constant(list(pool.map(lambda pair: convert(pair[0]) if pair[1] else b"", pairs)))

    def read(index):
        path, own = tf.gather(paths, index), tf.gather(held, index)
        return path, tf.cond(own == b"", lambda: tf.io.read_file(path), lambda: own)

    return read


def _image_as_png(path):
    with _opened(path) as image:
        if image.mode.startswith("I"):  # 16 bits, of which the decoder keeps the upper 8
            return png(np.asarray(image).astype("uint16"))
        return png(np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB")))


def _mask_as_png(path):
    with _opened(path) as image:
        pixels = np.asarray(image)
        if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
            raise ValueError(f"{path}{_COLOURS.format(f'an image of mode {image.mode}')}")
        return png(pixels.astype("uint8" if pixels.max(initial=0) < 256 else "uint16"))


def _opened(path, load=True):
    try:
        image = Image.open(existing(path))
        if load:
            image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged, or no image: {error}") from error
    return image


def _attempt(function, argument, otherwise):
    # A graph cannot catch the decoder's error, which does not say which file it read; a data set can. It costs
    # 0.1 ms an image.
    attempt = tf.data.Dataset.from_tensors(argument).map(function)
    nothing = tf.data.Dataset.from_tensors(otherwise)
    return attempt.ignore_errors().concatenate(nothing).take(1).get_single_element()
