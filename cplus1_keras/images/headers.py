"""What encoded images say of themselves before they are decoded: how large they are, and which way up."""

import functools

import numpy as np
import tensorflow as tf

KINDS = {"jpeg": 0xFF, "png": 0x89, "gif": 0x47, "bmp": 0x42, "webp": 0x52}
"""The first byte of each kind of image that TensorFlow reads; no two share it, and its decoders look at the rest."""

STEPS = 2**16
"""How many parts of a GIF are walked through, at most."""

_FRONT = 2**17
_TIFF = r"(II\*\x00|MM\x00\*)"

_MARKS = (r"Exif\x00\x00", "eXIf", r"EXIF\C{4}")
"""What stands before the first bytes of the block in JPEG, also as some write it to WebP; in PNG; in WebP."""

_EXIF = rf"\C*?(?:{'|'.join(_MARKS)}){_TIFF}"

_ENTRY = (
    r"(?:\C{12})*?(?:\x12\x01[\x03\x04]\x00\C{4}([\x01-\x08])\x00\C{2}|"
    r"\x01\x12\x00\x03\C{4}\x00([\x01-\x08])\C{2}|\x01\x12\x00\x04\C{4}\x00{3}([\x01-\x08]))\C*"
)
"""A directory, entries of 12 bytes, with tag 0x112 and a short or a long number, of either order of bytes."""


# Traced once: there are a thousand operations, and each reader of files has them.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def read_header(contents):
    """What is to be decoded, its size and its orientation, from the headers of an encoded image, a string tensor.

    Returns:
        Tuple of the contents, of a GIF up to the end of its first frame; height and width int32 (2,), zeros or less
        where they are not found; orientation int32 (), 1 to 8 as EXIF numbers them, 1 where nothing sound is said.

    Raises:
        tf.errors.InvalidArgumentError: A JPEG has no size.

    >>> read_header(tf.io.encode_png(tf.zeros([2, 3, 1], tf.uint8)))[1].numpy().tolist()
    [2, 3]
    """
    readers = {"jpeg": _jpeg, "png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp}
    branches = [functools.partial(readers[name], contents) for name in KINDS]
    kind, nothing = find_kind(contents), (contents, tf.constant([0, 0]))
    # WebP has its EXIF behind its pixels, the others have it in front of them.
    front = tf.strings.substr(contents, 0, tf.where(kind == list(KINDS).index("webp"), -1, _FRONT))
    # What begins with letters is searched for six times as fast as a match of the whole, or of one mark among several.
    without = [tf.strings.regex_replace(front, mark + _TIFF, "", replace_global=False) for mark in _MARKS]
    has_exif = tf.strings.length(front) > tf.reduce_min([tf.strings.length(own) for own in without])
    orientation = tf.cond(has_exif, lambda: _orientation(front), lambda: 1)
    return *tf.switch_case(kind, [*branches, lambda: nothing]), orientation


def read_size(contents):
    """(2,) int32, height and width of an encoded image as it is stored, without decoding it; see `read_header`.

    >>> read_size(tf.io.encode_jpeg(tf.zeros([4, 3, 1], tf.uint8))).numpy().tolist()
    [4, 3]
    """
    return read_header(contents)[1]


def find_kind(contents):
    """Index in `KINDS` of what an encoded image seems to be, their number if it is none of them; int32 ()."""
    table = [list(KINDS.values()).index(byte) if byte in KINDS.values() else len(KINDS) for byte in range(256)]
    return tf.gather(table, read_bytes(contents, 0, 1)[0])


def read_bytes(contents, start, count):
    """(count,) int32: the bytes from a place on, zeros beyond the end."""
    start = tf.clip_by_value(start, 0, tf.strings.length(contents))
    part = tf.strings.substr(contents, start, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=count), tf.int32)


def read_numbers(contents, start, *fields, big=False):
    """Numbers int32 () that some bytes write, the smallest first, or the largest first where `big`.

    Args:
        contents: A string tensor.
        start: A place in it.
        fields: Pairs of where a number begins, from `start` on, and how many bytes it has, 1 to 4.
        big: bool.

    >>> [int(number) for number in read_numbers(tf.constant("\\x01\\x02\\x03"), 1, (0, 1), (0, 2))]
    [2, 770]
    """
    weights = np.zeros((len(fields), max(first + length for first, length in fields)), "int64")
    for row, (first, length) in zip(weights, fields, strict=True):
        row[first : first + length] = 256 ** np.arange(length)[:: -1 if big else 1]
    digits = read_bytes(contents, start, weights.shape[1])
    return tf.unstack(tf.reduce_sum(digits * weights.astype("int32"), axis=1))


def _jpeg(contents):
    return contents, tf.io.extract_jpeg_shape(contents)[:2]


def _png(contents):
    return contents, tf.stack(read_numbers(contents, 16, (4, 4), (0, 4), big=True))


def _bmp(contents):
    return contents, tf.abs(tf.stack(read_numbers(contents, 18, (4, 4), (0, 4))))


def _webp(contents):
    # The last letter of VP8X, VP8L and of "VP8 "; then what follows each of them.
    fields = (15, 1), (24, 3), (27, 3), (21, 4), (26, 2), (28, 2)
    form, canvas_width, canvas_height, bits, width, height = read_numbers(contents, 0, *fields)
    lossless = [tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1]
    size = tf.where(form == ord("L"), lossless, [height % 2**14, width % 2**14])
    return contents, tf.where(form == ord("X"), [canvas_height + 1, canvas_width + 1], size)


def _gif(contents):
    """Cut behind the first frame: TensorFlow decodes all of them to give one, however large."""
    width, height, flags = read_numbers(contents, 6, (0, 2), (2, 2), (4, 1))

    def colours(flags):
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def step(at, frame, data, count):
        first, width, height, flags = read_numbers(contents, at, (0, 1), (5, 2), (7, 2), (9, 1))
        image, extension = ~data & (first == 0x2C), ~data & (first == 0x21)
        jump = tf.where(image, 11 + colours(flags), tf.where(extension, 2, 1 + first))
        frame = tf.where(image, [height, width], frame)
        more = image | extension | (data & (first > 0))
        return at + jump, frame, more, tf.where(data | more, count + 1, STEPS)

    def go_on(at, frame, data, count):
        return (data | (frame[0] == 0)) & (count < STEPS) & (at < tf.strings.length(contents))

    state = 13 + colours(flags), tf.constant([0, 0]), tf.constant(False), tf.constant(0)
    end, frame, _, _ = tf.while_loop(go_on, step, state)
    size = tf.where(frame[0] > 0, tf.maximum(frame, [height, width]), 0)
    return tf.strings.substr(contents, 0, end) + ";", size


def _orientation(contents):
    """The orientation that the first directory of a block of EXIF says, 1 to 8; 1 where it says none."""
    exif = tf.strings.regex_replace(contents, _EXIF, r"\1", replace_global=False)
    motorola = read_bytes(exif, 0, 1)[0] == ord("M")

    def read(start, length):
        (small,), (big,) = (read_numbers(exif, start, (0, length), big=big) for big in (False, True))
        return tf.where(motorola, big, small)

    start = read(4, 4)
    place = tf.clip_by_value(start + 2, 0, tf.strings.length(exif))
    directory = tf.strings.substr(exif, place, 12 * read(start, 2))
    said = tf.strings.regex_replace(directory, _ENTRY, r"\1\2\3", replace_global=False)
    return tf.where(tf.strings.length(said) == 1, read_bytes(said, 0, 1)[0], 1)
