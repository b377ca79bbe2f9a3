"""How a pixel is converted follows from how it is stored, and from no other pixel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features
from test_orientation import chunk

from blobpack import ImageError
from blobpack.reading.decode import decode_image
from blobpack.reading.wanted import Wanted

VALUES = (0, 1, 200, 255, 256, 257, 4095, 32_767, 32_768, 65_280, 65_535)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png16(pixels: np.ndarray, color: int) -> bytes:
    """A PNG of 16 bits of any colour type, which Pillow does not write: (height, width, channels)."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(pixels: bytes, width: int, bits: int, order: str, sample_format: int = 1) -> bytes:
    """A TIFF of one row of grey numbers."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8 + 2 + 12 * 10 + 4, 277: 1}
    tags |= {278: 1, 279: len(pixels), 339: sample_format}
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    for name, value in tags.items():
        block += struct.pack(f"{order}HHIHH", name, 3, 1, value, 0)
    return block + bytes(4) + pixels


def row(*values: int, kind: str = "u2") -> np.ndarray:
    return np.array([values], kind)


# what it is → an image of one row of numbers from 0 to 65,535
SIXTEEN = {
    "png": lambda *values: saved(row(*values), "PNG"),
    "tiff little-endian": lambda *values: tiff(row(*values).tobytes(), len(values), 16, "<"),
    "tiff big-endian": lambda *values: tiff(
        row(*values, kind=">u2").tobytes(), len(values), 16, ">"
    ),
    "tiff deflated": lambda *values: saved(row(*values), "TIFF", compression="tiff_adobe_deflate"),
    "pgm": lambda *values: b"P5 %d 1 65535\n" % len(values) + row(*values, kind=">u2").tobytes(),
    "pgm plain": lambda *values: b"P2 %d 1 65535\n" % len(values) + b" ".join(b"%d" % value for value in values),
    "jpeg 2000": lambda *values: saved(row(*values), "JPEG2000", irreversible=False),
}  # fmt: skip


@pytest.mark.parametrize("kind", SIXTEEN)
def test_sixteen_bits_are_read_by_their_upper_eight(kind: str) -> None:
    make = SIXTEEN[kind]
    if kind == "jpeg 2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    # alone, beside darker and beside brighter ones, which once changed how a value was read
    rows = [[value] * 40 for value in VALUES] + [[*VALUES] * 4, [0, 200] * 20, [200, 256] * 20]
    for values in rows:
        payload = make(*values)
        assert decode_image(payload, "x", Wanted(None)).tolist() == [values]
        assert decode_image(payload, "x", Wanted("L")).tolist() == [
            [value >> 8 for value in values]
        ]
        expected = [[[value >> 8] * 3 for value in values]]
        assert decode_image(payload, "x").tolist() == expected
        rgba = decode_image(payload, "x", Wanted("RGBA"))
        assert rgba[..., :3].tolist() == expected
        assert (rgba[..., 3] == 255).all()


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_png_of_sixteen_bits_a_channel(color: int, channels: int) -> None:
    rng = np.random.default_rng(3)
    for high in (201, 257, 65_536):
        pixels = rng.integers(0, high, (4, 9, channels), np.uint16)
        upper = (pixels >> 8).astype(np.uint8)
        read = decode_image(png16(pixels, color), "x")
        grey = channels < 3
        assert np.array_equal(read, np.repeat(upper[..., :1], 3, 2) if grey else upper[..., :3])
        if channels in (2, 4):
            alpha = decode_image(png16(pixels, color), "x", Wanted("RGBA"))[..., 3]
            assert np.array_equal(alpha, upper[..., -1])


@pytest.mark.parametrize("order", "<>")
def test_twelve_bits_are_read_by_their_upper_eight(order: str) -> None:
    # Pillow reads two numbers from three bytes in one order of bytes only
    values = [0, 4095, 200, 256, 15, 16]
    packed = b"".join(
        bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
        for a, b in zip(values[::2], values[1::2], strict=True)
    )
    payload = tiff(packed, 6, 12, order)
    try:
        read = decode_image(payload, "x", Wanted(None)).tolist()
    except ImageError:
        pytest.skip("this Pillow does not read it")
    assert read == [values]
    assert decode_image(payload, "x", Wanted("L")).tolist() == [[value >> 4 for value in values]]


@pytest.mark.parametrize("most", [1, 7, 100, 254, 255])
def test_a_map_of_fewer_values_is_scaled_as_its_header_says(most: int) -> None:
    values = sorted({0, 1, most // 2, most})
    scaled = [round(value / most * 255) for value in values]
    for values_, scaled_ in (values, scaled), (values[:2], scaled[:2]):
        payload = b"P5 %d 1 %d\n" % (len(values_), most) + bytes(values_)
        assert decode_image(payload, "x", Wanted("L")).tolist() == [scaled_]


@pytest.mark.parametrize("most", [256, 1023, 4095, 65_534])
def test_a_map_of_up_to_sixteen_bits_does_not_look_at_other_pixels(most: int) -> None:
    values = [0, 1, 200, 255, 256, most]
    whole = decode_image(
        b"P5 6 1 %d\n" % most + row(*values, kind=">u2").tobytes(), "x", Wanted("L")
    )
    for i, value in enumerate(values):
        alone = b"P5 1 1 %d\n" % most + row(value, kind=">u2").tobytes()
        assert decode_image(alone, "x", Wanted("L"))[0, 0] == whole[0, i]
    assert whole[0, -1] == 255


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1", "P", "CMYK", "LAB", "HSV", "LA"])
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(saved(row(0.25, 0.5, kind="f4"), "TIFF"), id="float"),
        pytest.param(saved(row(0, 1, 255, kind="f4"), "TIFF"), id="float of whole numbers"),
        pytest.param(saved(row(7, 1 << 20, kind="i4"), "TIFF"), id="32 bits"),
        pytest.param(tiff(row(7, kind="u4").tobytes(), 1, 32, "<"), id="32 bits unsigned"),
        pytest.param(tiff(row(-7, 7, kind="i2").tobytes(), 2, 16, "<", 2), id="16 bits signed"),
        pytest.param(tiff(row(7, kind=">i2").tobytes(), 1, 16, ">", 2), id="16 bits big-endian"),
        pytest.param(b"Pf\n1 1\n-1.0\n" + row(0.5, kind="<f4").tobytes(), id="pfm"),
    ],
)
def test_numbers_without_a_black_and_a_white_are_refused(payload: bytes, mode: str) -> None:
    with pytest.raises(ImageError, match=r"a.tar: x: its pixels are .*: read it with mode=None"):
        decode_image(payload, "a.tar: x", Wanted(mode))


def test_they_are_read_as_they_are_stored_if_that_is_asked_for() -> None:
    floats = row(0.25, -3, 1e9, kind="f4")
    assert np.array_equal(decode_image(saved(floats, "TIFF"), "x", Wanted(None)), floats)
    assert np.array_equal(decode_image(saved(floats, "TIFF"), "x", Wanted("F")), floats)
    wide = row(-(1 << 31), 7, (1 << 31) - 1, kind="i4")
    assert np.array_equal(decode_image(saved(wide, "TIFF"), "x", Wanted(None)), wide)
    assert np.array_equal(decode_image(saved(wide, "TIFF"), "x", Wanted("I")), wide)
    grey = row(0, 200, 65_535)
    for mode in "I", "F":
        assert np.array_equal(decode_image(saved(grey, "PNG"), "x", Wanted(mode)), grey)


def test_numbers_come_in_the_order_of_this_machine() -> None:
    payload = tiff(row(1, 300, kind=">u2").tobytes(), 2, 16, ">")
    assert decode_image(payload, "x", Wanted(None)).dtype == np.dtype("=u2")


# All modes of 8 bits: an image of one pixel reads as that pixel does among others

STORED = {
    "1": {"PNG": {}, "TIFF": {}, "PPM": {}},
    "L": {"PNG": {}, "TIFF": {}, "PPM": {}, "BMP": {}, "GIF": {}},
    "P": {"PNG": {}, "GIF": {}, "BMP": {}, "TIFF": {}},
    "LA": {"PNG": {}, "TIFF": {}},
    "RGB": {"PNG": {}, "TIFF": {}, "PPM": {}, "BMP": {}},
    "RGBA": {"PNG": {}, "TIFF": {}},
    "CMYK": {"TIFF": {}},
    "LAB": {"TIFF": {}},
    "I;16": {"PNG": {}, "TIFF": {}},
}
TARGETS = [None, "RGB", "L", "RGBA", "LA", "1", "CMYK", "YCbCr", "HSV", "P", "F", "I"]


def some_image(mode: str) -> Image.Image:
    rng = np.random.default_rng(7)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 1 << 16, (6, 8), np.uint16))
    if mode in ("P", "1"):
        return Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).convert(mode)
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (8, 6), rng.integers(0, 256, 48 * bands, np.uint8).tobytes())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", STORED)
def test_a_pixel_alone_reads_as_it_does_among_others(mode: str, target: str | None) -> None:
    image = some_image(mode)
    for kind, options in STORED[mode].items():
        try:
            whole = decode_image(saved(image, kind, **options), "x", Wanted(target))
        except ImageError:
            continue  # there is no such conversion: then there is none of any pixel
        # two pixels in the top row, one of them black, and the last one of all
        for x, y in (0, 0), (3, 0), (7, 5):
            part = image.crop((x, y, x + 1, y + 1))
            if kind == "GIF" or (mode == "P" and target in (None, "P")):
                continue  # written with another palette
            alone = decode_image(saved(part, kind, **options), "x", Wanted(target))
            assert np.array_equal(alone[0, 0], whole[y, x]), (kind, x, y)


@pytest.mark.parametrize("target", ["1", "P"])
def test_conversions_do_not_dither(target: str) -> None:
    grey = np.full((9, 9), 100, np.uint8)
    assert len(np.unique(decode_image(saved(grey, "PNG"), "x", Wanted(target)))) == 1
