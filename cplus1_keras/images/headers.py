"""What encoded images say of themselves before they are decoded: how large they are, and which way up."""

import functools

import tensorflow as tf

KINDS = {"jpeg": 0xFF, "png": 0x89, "gif": 0x47, "bmp": 0x42, "webp": 0x52}
"""The first byte of each kind of image that TensorFlow reads; no two share it, and its decoders look at the rest."""

STEPS = 2**16
"""How many parts of a file are walked through, at most."""

_NO_EXIF = ""
_WIDTHS = {3: 2, 4: 4}  # bytes of the numbers of TIFF that may hold an orientation: short and long


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
    contents, size, exif = tf.switch_case(find_kind(contents), [*branches, lambda: _found(contents, [0, 0])])
    return contents, size, tf.cond(exif == _NO_EXIF, lambda: 1, lambda: _orientation(exif))


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


def _found(contents, size, exif=_NO_EXIF):
    return contents, tf.convert_to_tensor(size, tf.int32), tf.convert_to_tensor(exif)


def _jpeg(contents):
    def segment(at):
        head = read_bytes(contents, at, 10)
        length, marker = number(head[2:4], big=True), head[1]
        exif = (marker == 0xE1) & tf.reduce_all(head[4:] == list(b"Exif\0\0"))
        following = tf.where(marker == 0xFF, at + 1, at + 2 + length)  # any number of FF may stand before a marker
        # What follows the start of the scan, DA, are pixels.
        return exif, at + 10, length - 8, following, (head[0] != 0xFF) | (marker == 0xDA)

    # Few have any, and looking for its name is much faster than walking.
    named = tf.strings.regex_full_match(tf.strings.substr(contents, 0, 2**17), r"\C*Exif\x00\x00\C*")
    exif = tf.cond(named, lambda: _walk(contents, 2, segment), lambda: _NO_EXIF)
    return _found(contents, tf.io.extract_jpeg_shape(contents)[:2], exif)


def _png(contents):
    def chunk(at):
        head = read_bytes(contents, at, 8)
        length = number(head[:4], big=True)
        last = tf.reduce_all(head[4:] == list(b"IDAT")) | (length < 0)
        return tf.reduce_all(head[4:] == list(b"eXIf")), at + 8, length, at + 12 + length, last

    header = read_bytes(contents, 16, 8)
    size = [number(header[4:], big=True), number(header[:4], big=True)]
    return _found(contents, size, _walk(contents, 8, chunk))


def _webp(contents):
    def chunk(at):
        head = read_bytes(contents, at, 8)
        length = number(head[4:])
        return tf.reduce_all(head[:4] == list(b"EXIF")), at + 8, length, at + 8 + length + length % 2, length < 0

    head = read_bytes(contents, 0, 30)
    lossy = [number(head[28:30]) % 2**14, number(head[26:28]) % 2**14]
    bits = number(head[21:25])
    lossless = [tf.bitwise.right_shift(bits, 14) % 2**14 + 1, bits % 2**14 + 1]
    canvas = [number(head[27:30]) + 1, number(head[24:27]) + 1]
    form = head[15]  # the last letter of VP8X, VP8L and of "VP8 "
    size = tf.where(form == ord("X"), canvas, tf.where(form == ord("L"), lossless, lossy))
    return _found(contents, size, tf.cond(form == ord("X"), lambda: _walk(contents, 12, chunk), lambda: _NO_EXIF))


def _bmp(contents):
    header = read_bytes(contents, 18, 8)
    return _found(contents, [tf.abs(number(header[4:])), number(header[:4])])


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
    return _found(tf.strings.substr(contents, 0, end) + ";", tf.where(frame[0] > 0, size, 0))


def _walk(contents, start, part):
    """The block of EXIF, without its own header, of a file made of parts; `part(at)` reads the head of one.

    It gives: whether that is EXIF; where its data begin and how long they are; where the next part begins; whether to
    stop here.
    """

    def step(at, place, length, count):
        exif, begin, own, following, last = part(at)
        stop = exif | last | (following <= at)
        return following, tf.where(exif, begin, place), tf.where(exif, own, length), tf.where(stop, STEPS, count + 1)

    def go_on(at, place, length, count):
        return (count < STEPS) & (at < tf.strings.length(contents))

    _, place, length, _ = tf.while_loop(go_on, step, [tf.constant(start), *tf.unstack(tf.zeros(3, tf.int32))])
    length = tf.clip_by_value(length, 0, 2**16)
    return tf.strings.substr(contents, tf.minimum(place, tf.strings.length(contents)), length)


def _orientation(exif):
    """The orientation that a block of TIFF's first directory says, 1 to 8; 1 where there is none."""
    exif = tf.strings.regex_replace(exif, "^Exif\\x00\\x00", "")  # which some writers of WebP leave there
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
