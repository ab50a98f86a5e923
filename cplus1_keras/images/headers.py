"""What encoded images say of themselves before they are decoded: how large they are, and which way up."""

import functools

import tensorflow as tf

KINDS = {"jpeg": 0xFF, "png": 0x89, "gif": 0x47, "bmp": 0x42, "webp": 0x52}
"""The first byte of each kind of image that TensorFlow reads; no two share it, and its decoders look at the rest."""

STEPS = 2**16
"""How many parts of a GIF are walked through, at most."""

_FRONT = 2**17
_EXIF = r"\C*?(?:Exif\x00\x00|eXIf|EXIF\C{4})(II\*\x00|MM\x00\*)"
"""Up to the first bytes of the block in JPEG, also as some write it to WebP; in PNG; in WebP."""

_WIDTHS = {3: 2, 4: 4}  # bytes of the numbers of TIFF that may hold an orientation: short and long


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
    start = tf.strings.substr(contents, 0, tf.where(kind == list(KINDS).index("webp"), -1, _FRONT))
    has_exif = tf.strings.regex_full_match(start, rf"{_EXIF}\C*")
    orientation = tf.cond(has_exif, lambda: _orientation(start), lambda: 1)
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


def number(digits, big=False):
    """The number (...) that bytes (..., 1 to 4) write, the smallest first, or the largest first where `big`."""
    digits = tf.where(big, tf.reverse(digits, [-1]), digits)
    return tf.reduce_sum(tf.bitwise.left_shift(digits, [8 * place for place in range(digits.shape[-1])]), axis=-1)


def _jpeg(contents):
    return contents, tf.io.extract_jpeg_shape(contents)[:2]


def _png(contents):
    header = read_bytes(contents, 16, 8)
    return contents, tf.stack([number(header[4:], big=True), number(header[:4], big=True)])


def _webp(contents):
    head = read_bytes(contents, 0, 30)
    lossy = [number(head[28:30]) % 2**14, number(head[26:28]) % 2**14]
    bits = number(head[21:25])
    lossless = [tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1]
    canvas = [number(head[27:30]) + 1, number(head[24:27]) + 1]
    form = head[15]  # the last letter of VP8X, VP8L and of "VP8 "
    return contents, tf.where(form == ord("X"), canvas, tf.where(form == ord("L"), lossless, lossy))


def _bmp(contents):
    header = read_bytes(contents, 18, 8)
    return contents, tf.stack([tf.abs(number(header[4:])), number(header[:4])])


def _gif(contents):
    """Cut behind the first frame: TensorFlow decodes all of them to give one, however large."""
    screen = read_bytes(contents, 6, 5)

    def colours(flags):
        return tf.where(flags >= 128, 3 * 2 ** (flags % 8 + 1), 0)

    def step(at, frame, data, count):
        head = read_bytes(contents, at, 10)
        image = ~data & (head[0] == 0x2C)
        extension = ~data & (head[0] == 0x21)
        jump = tf.where(image, 11 + colours(head[9]), tf.where(extension, 2, 1 + head[0]))
        frame = tf.where(image, tf.stack([number(head[7:9]), number(head[5:7])]), frame)
        more = image | extension | (data & (head[0] > 0))
        return at + jump, frame, more, tf.where(data | image | extension, count + 1, STEPS)

    def go_on(at, frame, data, count):
        return (data | (frame[0] == 0)) & (count < STEPS) & (at < tf.strings.length(contents))

    state = 13 + colours(screen[4]), tf.constant([0, 0]), tf.constant(False), tf.constant(0)
    end, frame, _, _ = tf.while_loop(go_on, step, state)
    size = tf.maximum(frame, [number(screen[2:4]), number(screen[:2])])
    return tf.strings.substr(contents, 0, end) + ";", tf.where(frame[0] > 0, size, 0)


def _orientation(contents):
    """The orientation that the first directory of a block of EXIF says, 1 to 8; 1 where it says none."""
    exif = tf.strings.regex_replace(contents, _EXIF, r"\1", replace_global=False)
    head = read_bytes(exif, 0, 8)
    big = head[0] == ord("M")
    start = number(head[4:], big)
    entries = number(read_bytes(exif, start, 2), big)
    raw = tf.strings.substr(exif, tf.clip_by_value(start + 2, 0, tf.strings.length(exif)), 12 * entries)
    rows = tf.strings.length(raw) // 12
    fields = tf.cast(tf.io.decode_raw(tf.strings.substr(raw, 0, 12 * rows), tf.uint8), tf.int32)
    fields = tf.reshape(fields, [rows, 12])
    tag, kind = number(fields[:, :2], big), number(fields[:, 2:4], big)
    values = tf.stack([number(fields[:, 8 : 8 + width], big) for width in _WIDTHS.values()], axis=-1)
    said = (tag == 0x112)[:, None] & (kind[:, None] == list(_WIDTHS))
    value = tf.reduce_max(tf.where(said, values, 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)
