"""Encoded images of every kind against PIL, the right way up, and within bounds whatever they hold."""

import io
import pathlib
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

tf = pytest.importorskip("tensorflow", reason="images are read by TensorFlow")
if keras.backend.backend() != "tensorflow":
    pytest.skip("images are read on Keras's TensorFlow backend", allow_module_level=True)

from cplus1_keras import data, images  # noqa: E402  needs TensorFlow

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), "uint8")
PICTURE = Image.fromarray(PIXELS)
PALETTE = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE)


def encode(picture, form, **given):
    file = io.BytesIO()
    picture.save(file, form, **given)
    return file.getvalue()


def looked_at(raw, mode):
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert(mode))
    return pixels if mode == "RGB" else pixels[..., None]


@pytest.fixture(scope="module")
def decode():
    """`images.decode` in a graph, as readers and servers have it."""
    graphs = {k: tf.function(lambda raw, k=k: images.decode(raw, k, max_pixels=10_000)) for k in (1, 3)}
    return lambda raw, channels=3: graphs[channels](tf.constant(raw)).numpy()


def test_grey_holds_no_integers_of_all_channels_at_once():
    """They would take four times the image, on each core."""
    graph = tf.function(lambda raw: images.decode(raw, 1)).get_concrete_function(tf.TensorSpec((), tf.string)).graph
    outputs = [output for operation in graph.get_operations() for output in operation.outputs]
    integers = [output for output in outputs if output.dtype == tf.int32 and output.shape.rank == 3]
    assert integers
    assert {output.shape[-1] for output in integers} == {1}


KINDS = {
    "jpeg": encode(PICTURE, "JPEG"),
    "jpeg, progressive": encode(PICTURE, "JPEG", progressive=True),
    "jpeg, grey": encode(PICTURE.convert("L"), "JPEG"),
    "jpeg, CMYK": encode(PICTURE.convert("CMYK"), "JPEG"),
    "png": encode(PICTURE, "PNG"),
    "png, grey": encode(PICTURE.convert("L"), "PNG"),
    "png, grey and alpha": encode(PICTURE.convert("LA"), "PNG"),
    "png, alpha": encode(PICTURE.convert("RGBA"), "PNG"),
    "png, palette": encode(PALETTE, "PNG"),
    "png, one bit": encode(PICTURE.convert("1"), "PNG"),
    "webp": encode(PICTURE, "WEBP"),
    "webp, lossless": encode(PICTURE, "WEBP", lossless=True),
    "webp, alpha": encode(PICTURE.convert("RGBA"), "WEBP", lossless=True),
    "bmp": encode(PICTURE, "BMP"),
    "bmp, alpha": encode(PICTURE.convert("RGBA"), "BMP"),
    "bmp, grey": encode(PICTURE.convert("L"), "BMP"),
    "bmp, palette": encode(PALETTE, "BMP"),
    "gif": encode(PALETTE, "GIF"),
    "gif, animated": encode(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90), PALETTE.rotate(180)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_as_pil_does(decode, kind):
    raw = KINDS[kind]
    assert images.read_size(raw).numpy().tolist() == [20, 30]
    for channels, mode in ((3, "RGB"), (1, "L")):
        found = decode(raw, channels)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, looked_at(raw, mode))
    np.testing.assert_array_equal(data.decode(raw, 1), found)


def test_16_bits_keep_their_upper_8(decode):
    values = np.arange(600, dtype="uint16").reshape(20, 30) * 109
    raw = encode(Image.fromarray(values), "PNG")
    found = decode(raw, 1)[..., 0]
    np.testing.assert_array_equal(found, values >> 8)
    assert np.abs(found - images.preprocess(values)[..., 0]).max() < 1  # what an array of 16 bits becomes


def test_16_bits_are_read_alike_by_all_who_read_files(tmp_path):
    values = np.arange(600, dtype="uint16").reshape(20, 30) * 109
    for ending in ("png", "tif", "pgm"):
        (tmp_path / ending).mkdir()
        Image.fromarray(values).save(tmp_path / ending / f"a.{ending}")
    source = data.sources.folder(tmp_path, channels=1)
    for example in source.examples().as_numpy_iterator():
        np.testing.assert_array_equal(example["image"][..., 0], values >> 8)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_all_orientations_are_looked_at_as_pil_does(decode, form):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112], exif[0x10F] = orientation, "somebody"
        raw = encode(PICTURE, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
        wanted = looked_at(raw, "RGB")
        assert wanted.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
        np.testing.assert_array_equal(decode(raw), wanted)
        np.testing.assert_array_equal(images.decode(raw, upright=False).shape, (20, 30, 3))


def tiff(order, kind, value, tag=0x112, count=1, offset=8):
    entry = struct.pack(order + "HHI", tag, kind, count) + struct.pack(order + ("H2x" if kind == 3 else "I"), value)
    directory = struct.pack(order + "H", 1) + entry + bytes(4)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", offset) + directory


def with_exif(block, form="JPEG"):
    return encode(PICTURE, form, exif=b"Exif\0\0" + block)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_both_orders_of_bytes_and_both_kinds_of_number_are_read(decode, order, kind):
    raw = with_exif(tiff(order, kind, 6))
    np.testing.assert_array_equal(decode(raw), looked_at(raw, "RGB"))
    assert decode(raw).shape == (30, 20, 3)


BROKEN = {
    "nothing": b"",
    "no order": b"XX*\0" + tiff("<", 3, 6)[4:],
    "cut": tiff("<", 3, 6)[:15],
    "cut in the value": tiff("<", 3, 6)[:-8],
    "directory beyond the end": tiff("<", 3, 6, offset=9999),
    "directory before the start": tiff("<", 3, 6, offset=2**32 - 4),
    "more entries than there are": tiff("<", 3, 6).replace(b"\x01\0\x12", b"\xff\xff\x12"),
    "another number": tiff(">", 3, 9),
    "zero": tiff(">", 3, 0),
    "huge": tiff("<", 4, 2**32 - 1),
    "text": tiff("<", 2, 6),
    "another tag": tiff("<", 3, 6, tag=0x113),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_exif_turns_nothing_and_harms_nothing(decode, name):
    expected = (30, 20) if name == "more entries than there are" else (20, 30)  # the one that is there counts
    for form in ("JPEG", "PNG"):
        assert decode(with_exif(BROKEN[name], form)).shape[:2] == expected


def chunk(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def bomb(side):
    """A png of side x side zeros, which deflates a thousand times."""
    deflate = zlib.compressobj(9)
    rows = [deflate.compress(bytes(3 * side + 1)) for _ in range(side)] + [deflate.flush()]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND", b"")


def gif(*frames):
    """A gif with a screen of 4 x 3 and frames (width, height, data of LZW)."""
    blocks = [b"\x2c" + struct.pack("<HHHHB", 0, 0, w, h, 0) + lzw for w, h, lzw in frames]
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0x80, 0, 0) + bytes([9, 9, 9, 200, 200, 200])
    return head + b"".join(blocks) + b";"


def peak():
    """The most memory so far since `forget_peak`, in bytes."""
    told = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return int(told.split()[0]) * 1024


def forget_peak():
    file = pathlib.Path("/proc/self/clear_refs")
    try:
        file.write_text("5")
    except OSError:
        pytest.skip("needs Linux's record of the most memory")


def test_an_image_that_expands_is_refused_and_never_expanded():
    raw = bomb(12_000)  # 432 MB; the larger one of twice the memory would only take longer
    assert len(raw) < 500_000
    forget_peak()
    before = peak()
    read = tf.function(lambda rows: images.decode_batch(rows, (8, 8), 3))
    found = read(tf.constant([raw, KINDS["png"]])).numpy()
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert peak() - before < 150e6
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"An image must have 1 to 67108864 pixels"):
        images.decode(raw, max_pixels=images.MAX_PIXELS)


def test_later_frames_of_a_gif_are_not_decoded():
    frame = encode(Image.new("P", (4, 3)), "GIF")
    lzw = frame[frame.index(b"\x2c" + struct.pack("<HHHH", 0, 0, 4, 3)) + 10 : -1]
    first = gif((4, 3, lzw))
    np.testing.assert_array_equal(images.decode(first), looked_at(first, "RGB"))
    forget_peak()
    before = peak()
    for huge in (gif((4, 3, lzw), *[(60_000, 60_000, lzw)] * 3), gif((4, 3, lzw)) + b"rubbish"):
        np.testing.assert_array_equal(images.decode(huge, max_pixels=100), images.decode(first))
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 100 pixels"):
        images.decode(gif((60_000, 60_000, lzw)), max_pixels=100)
    assert peak() - before < 100e6


def headers_that_lie():
    png = bytearray(KINDS["png"])
    png[16:20] = b"\xff\xff\xff\xff"
    bmp = bytearray(KINDS["bmp"])
    bmp[18:26] = struct.pack("<ii", 60_000, -60_000)
    rle = bytearray(KINDS["bmp, palette"])
    rle[30] = 1
    large = Image.new("L", (101, 100))
    return {
        "negative png": bytes(png),
        "large bmp": bytes(bmp),
        "compressed bmp": bytes(rle),
        "webp": encode(large, "WEBP", lossless=True),
        "lossy webp": encode(large, "WEBP", quality=1),
        "webp with alpha": encode(large.convert("RGBA").rotate(9), "WEBP", quality=1),
        "jpeg": encode(large, "JPEG"),
        "gif": encode(large.convert("P"), "GIF"),
        "bytes": KINDS["png"] + bytes(40_001 + 2**16),
        "animated webp": encode(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
        "cut jpeg": KINDS["jpeg"][:300],
        "cut png": KINDS["png"][:100],
        "cut webp": KINDS["webp"][:40],
        "cut gif": KINDS["gif"][:12],
        "cut bmp": KINDS["bmp"][:30],
        "empty": b"",
        "one byte": b"\xff",
        "text": b"GET / HTTP/1.1",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "only signatures": b"RIFF\0\0\0\0WEBPVP8X",
    }


@pytest.mark.parametrize("name", headers_that_lie())
def test_what_is_too_large_or_none_is_refused(decode, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(headers_that_lie()[name])


def test_a_batch_keeps_its_order_and_its_good_ones():
    rows = [KINDS["png"], b"", KINDS["webp, lossless"], b"no image", KINDS["bmp"]]
    found = images.decode_batch(tf.constant(rows), (20, 30), 3).numpy()
    assert np.isnan(found[[1, 3]]).all()
    for k in (0, 2, 4):
        np.testing.assert_array_equal(found[k], PIXELS)
    padded, sizes = images.decode_ragged(tf.constant([*rows, KINDS["jpeg"]]), 3, (20, 29))
    assert sizes.numpy().tolist() == [[0, 0]] * 6
    padded, sizes = images.decode_ragged(tf.constant(rows[:3]), 3, (30, 30))
    assert sizes.numpy().tolist() == [[20, 30], [0, 0], [20, 30]]
    np.testing.assert_array_equal(padded[2], PIXELS)


def test_images_with_masks_or_boxes_stay_as_they_are_stored(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    for name in ("images", "masks", "plain/a"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("images/a.jpg", "plain/a/a.jpg"):
        PICTURE.save(tmp_path / name, exif=exif)
    Image.fromarray(np.zeros((20, 30), "uint8")).save(tmp_path / "masks" / "a.png")
    masks = data.sources.folder(tmp_path / "images", tmp_path / "masks", names=["all"])
    boxes = data.sources.boxes([tmp_path / "images" / "a.jpg"], [[(0, 0, 30, 20, "all")]])
    plain = data.sources.folder(tmp_path / "plain")
    shapes = [next(source.examples().as_numpy_iterator())["image"].shape for source in (masks, boxes, plain)]
    assert shapes == [(20, 30, 3), (20, 30, 3), (30, 20, 3)]


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"`channels` must be 1 or 3. Received: channels=4"):
        images.decode(KINDS["png"], 4)
