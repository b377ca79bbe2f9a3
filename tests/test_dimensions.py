"""Width and height are those that Pillow shows; damage is unknown, never a failure."""

from __future__ import annotations

import io
import random
import struct
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps, features

from blobpack._native.facts import facts_of
from blobpack._native.gather import recognise_image
from blobpack.columns import MEDIA_TYPES

SAMPLES = sorted((Path(__file__).parent / "data" / "images").iterdir())
ORIENTATIONS = range(1, 9)
SIZES = [(1, 1), (37, 91), (300, 7)]

# what it is → format, mode and options for Pillow, and the media type
WRITTEN = {
    "jpeg": ("JPEG", "RGB", {}, "image/jpeg"),
    "jpeg_progressive": ("JPEG", "L", {"progressive": True}, "image/jpeg"),
    "jpeg_cmyk": ("JPEG", "CMYK", {}, "image/jpeg"),
    "png": ("PNG", "RGB", {}, "image/png"),
    "png_16": ("PNG", "I;16", {}, "image/png"),
    "gif": ("GIF", "P", {}, "image/gif"),
    "webp_lossy": ("WEBP", "RGB", {}, "image/webp"),
    "webp_lossless": ("WEBP", "RGB", {"lossless": True}, "image/webp"),
    "webp_extended": ("WEBP", "RGBA", {"icc_profile": b"profile"}, "image/webp"),
    "bmp": ("BMP", "RGB", {}, "image/bmp"),
    "bmp_1": ("BMP", "1", {}, "image/bmp"),
    "tiff": ("TIFF", "RGB", {}, "image/tiff"),
    "tiff_deflated": ("TIFF", "L", {"compression": "tiff_deflate"}, "image/tiff"),
    "tiff_big": ("TIFF", "RGB", {"big_tiff": True}, "image/tiff"),
    "jp2": ("JPEG2000", "RGB", {}, "image/jp2"),
    "j2k": ("JPEG2000", "RGB", {"no_jp2": True}, "image/jp2"),
    "j2k_offset": ("JPEG2000", "L", {"no_jp2": True, "offset": (0, 0)}, "image/jp2"),
    "pbm": ("PPM", "1", {}, "image/x-portable-anymap"),
    "pgm": ("PPM", "L", {}, "image/x-portable-anymap"),
    "ppm": ("PPM", "RGB", {}, "image/x-portable-anymap"),
    "avif": ("AVIF", "RGB", {}, "image/avif"),
    "qoi": ("QOI", "RGB", {}, "image/qoi"),
}
WITH_EXIF = ["jpeg", "png", "webp_lossy", "webp_lossless", "tiff", "tiff_big", "avif"]


def measured(payload: bytes, name: bytes = b"") -> tuple[str, tuple[int, int]]:
    """What blobpack takes a payload for, and its width and height."""
    code, width, height, _ = facts_of(payload, name)
    return MEDIA_TYPES[code], (width, height)


def encoded(kind: str, size: tuple[int, int] = (37, 91), **options: object) -> bytes:
    form, mode, usual, _ = WRITTEN[kind]
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **(usual | options))
    return file.getvalue()


def shown(payload: bytes) -> tuple[int, int]:
    """The size that Pillow shows an image in."""
    with Image.open(io.BytesIO(payload)) as image:
        return ImageOps.exif_transpose(image).size


def exif(orientation: int, order: str = "<") -> bytes:
    """Make an EXIF block of one tag."""
    mark = b"II" if order == "<" else b"MM"
    tag = struct.pack(f"{order}HHIHH", 0x112, 3, 1, orientation, 0)
    directory = struct.pack(f"{order}H", 1) + tag + bytes(4)
    return mark + struct.pack(f"{order}HI", 42, 8) + directory


def tiff(
    order: str, *, big: bool, size: tuple[int, int], orientation: int = 1, pixels: int = 0
) -> bytes:
    """Make a TIFF of its header, pixels of nothing, and behind them the directory."""
    width, height = size
    tags = {256: (4, width), 257: (3, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8)}
    tags |= {274: (3, orientation), 277: (3, 1), 278: (4, height), 279: (4, width * height)}
    at = (16 if big else 8) + pixels
    header = struct.pack(f"{order}HHHQ", 43, 8, 0, at) if big else struct.pack(f"{order}HI", 42, at)
    directory = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    for tag, (kind, value) in tags.items():
        room = 8 if big else 4
        packed = struct.pack(order + {3: "H", 4: "I"}[kind], value).ljust(room, b"\0")
        directory += struct.pack(f"{order}HH{'Q' if big else 'I'}", tag, kind, 1) + packed
    return (b"II" if order == "<" else b"MM") + header + bytes(pixels) + directory + bytes(8)


# What Pillow writes


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", WRITTEN)
def test_size_is_what_pillow_shows(kind: str, size: tuple[int, int]) -> None:
    payload = encoded(kind, size)
    assert measured(payload) == (WRITTEN[kind][3], size)
    assert shown(payload) == size


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_every_orientation_is_applied(kind: str, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x112] = orientation
    payload = encoded(kind, exif=tag)
    assert measured(payload)[1] == shown(payload)
    assert measured(payload)[1] == ((91, 37) if orientation > 4 else (37, 91))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [0, 1, 6, 9])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp_lossy"])
def test_exif_of_either_byte_order(kind: str, orientation: int, order: str) -> None:
    prefix = b"Exif\0\0" if kind == "jpeg" else b""
    payload = encoded(kind, exif=prefix + exif(orientation, order))
    assert measured(payload)[1] == shown(payload)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("big", [False, True], ids=["classic", "big"])
@pytest.mark.parametrize("order", "<>")
def test_tiff_of_either_byte_order(order: str, big: bool, orientation: int) -> None:
    payload = tiff(order, big=big, size=(37, 91), orientation=orientation, pixels=37 * 91)
    if order == ">" and big:  # of these, Pillow 13 reads the orientation wrong
        assert measured(payload)[1] == ((37, 91) if orientation == 1 else (0, 0))
        return
    assert measured(payload) == ("image/tiff", (91, 37) if orientation > 4 else (37, 91))
    assert measured(payload)[1] == shown(payload)


# What others wrote


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_of_other_encoders(path: Path) -> None:
    stem, _, rest = path.stem.partition("_")
    if stem == "turned":
        expected = (91, 37) if int(rest.partition("_")[0]) > 4 else (37, 91)
    else:
        width, height = map(int, stem.split("x"))
        expected = (width, height)
    kind = "image/jxl" if path.suffix == ".jxl" else "image/heif"
    assert measured(path.read_bytes()) == (kind, expected)


def bmp(header: bytes) -> bytes:
    return b"BM" + bytes(12) + header + bytes(16)


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    parts = [b"\xff\xd8"]
    for marker, body in segments:
        parts.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
    return b"".join(parts)


FRAME = (0xC2, struct.pack(">BHH", 8, 91, 37) + bytes(10))
SCAN = (0xDA, bytes(10))
TURN = (0xE1, b"Exif\0\0" + exif(6))


@pytest.mark.parametrize(
    ("payload", "size"),
    [
        pytest.param(bmp(struct.pack("<IHH", 12, 37, 91)), (37, 91), id="bmp core"),
        pytest.param(bmp(struct.pack("<Iii", 40, 37, -91)), (37, 91), id="bmp top down"),
        pytest.param(bmp(struct.pack("<Iii", 124, 37, 91)), (37, 91), id="bmp v5"),
        pytest.param(bmp(struct.pack("<Iii", 40, -37, 91)), (0, 0), id="bmp negative width"),
        pytest.param(bmp(struct.pack("<IiI", 40, 37, 1 << 31)), (37, 1 << 31), id="bmp lowest height"),
        pytest.param(b"P2\n# a comment\n37 # and\n91\n255\n", (37, 91), id="pnm comments"),
        pytest.param(b"P5 37 91", (0, 0), id="pnm cut in a number"),
        pytest.param(b"P5 99999999999 91 255\n", (0, 0), id="pnm too wide"),
        pytest.param(b"P5 37 9x1 255\n", (0, 0), id="pnm no number"),
        pytest.param(
            b"P7\nDEPTH 4\nHEIGHT 91\nMAXVAL 255\nWIDTH 37\nTUPLTYPE RGB_ALPHA\nENDHDR\n",
            (37, 91),
            id="pam",
        ),
        pytest.param(b"qoif" + struct.pack(">II", 37, 91) + bytes(8), (37, 91), id="qoi"),
        pytest.param(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIH", 3, 91, 37, 8), (37, 91), id="psd"),
        pytest.param(b"GIF87a" + struct.pack("<HH", 37, 0) + bytes(9), (0, 0), id="gif without height"),
        pytest.param(jpeg(FRAME, SCAN), (37, 91), id="jpeg"),
        pytest.param(jpeg(TURN, FRAME, SCAN), (91, 37), id="jpeg turned"),
        pytest.param(jpeg(FRAME, TURN, SCAN), (91, 37), id="jpeg turned behind the frame"),
        pytest.param(jpeg(FRAME, SCAN, TURN), (37, 91), id="jpeg turned behind the pixels"),
        pytest.param(jpeg((0xC4, bytes(30)), FRAME), (37, 91), id="jpeg tables first, cut"),
        pytest.param(jpeg(SCAN, FRAME), (0, 0), id="jpeg without a frame"),
        pytest.param(
            jpeg((0xE0, b"JFIF\0")) + b"stray\xff\xff" + jpeg(FRAME)[3:], (37, 91), id="jpeg stray bytes"
        ),
        pytest.param(jpeg((0xC0, struct.pack(">BHH", 8, 0, 37))), (0, 0), id="jpeg height later"),
    ],
)  # fmt: skip
def test_headers_by_hand(payload: bytes, size: tuple[int, int]) -> None:
    assert measured(payload)[1] == size


def test_webp_that_promises_exif_it_does_not_have_at_hand_is_unknown() -> None:
    payload = encoded("webp_lossy", exif=exif(6))
    assert measured(payload)[1] == (91, 37)
    code, width, height, _ = facts_of(payload[:60], b"", size=len(payload))
    assert (MEDIA_TYPES[code], width, height) == ("image/webp", 0, 0)


@pytest.mark.parametrize(
    ("first", "name", "kind"),
    [
        (b"\0\0\0\x1cftypavif", b"", "image/avif"),
        (b"\0\0\0\x1cftypavis", b"", "image/avif"),
        (b"\0\0\0\x1cftypheic", b"", "image/heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", b"", "image/avif"),
        (b"\0\0\0\x10ftypmif1\0\0\0\0mif1avif", b"", "image/heif"),
        (b"\0\0\0\x1cftypisom", b"", ""),
        (b"v/1\x01", b"", "image/x-exr"),
        (b"#?RADIANCE\n", b"", "image/vnd.radiance"),
        (b"8BPS", b"", "image/vnd.adobe.photoshop"),
        (b"NRRD0004\n", b"", "image/x-nrrd"),
        (b"\xff\x0a", b"", "image/jxl"),
        (b"II+\0", b"", "image/tiff"),
        (b"<svg/>", b"a/B.SVG", "image/svg+xml"),
        (b"<svg/>", b"a/b.txt", ""),
        (b"", b"", ""),
    ],
)
def test_media_type_by_content(first: bytes, name: bytes, kind: str) -> None:
    assert measured(first, name) == (kind, (0, 0))
    assert measured(first + bytes(64), name)[0] == kind
    assert recognise_image(first + bytes(64), name) == bool(kind)


# Damage


@cache
def seeds() -> list[bytes]:
    """An image of each kind, turned where it can be."""
    kinds = [kind for kind in WRITTEN if kind != "avif" or features.check("avif")]
    kinds = [kind for kind in kinds if kind != "qoi" or "QOI" in Image.SAVE]
    plain = [encoded(kind) for kind in kinds]
    turned = [
        encoded(kind, exif=(b"Exif\0\0" if kind == "jpeg" else b"") + exif(6))
        for kind in kinds
        if kind in WITH_EXIF
    ]
    return plain + turned + [path.read_bytes() for path in SAMPLES]


def plausible(payload: bytes) -> tuple[int, int]:
    """Measure, and check what holds of any bytes."""
    _, (width, height) = measured(payload)
    assert (width == 0) == (height == 0)
    assert 0 <= width < 1 << 32
    assert 0 <= height < 1 << 32
    return width, height


def test_cut_at_every_byte() -> None:
    """What is left says the size, or nothing; or, cut before what turns it, the size before."""
    for payload in seeds():
        width, height = plausible(payload)
        assert width
        for length in range(min(len(payload), 1500)):
            assert plausible(payload[:length]) in {(width, height), (height, width), (0, 0)}


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_any_damage_is_survived(data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(seeds())))
    places = st.integers(0, min(len(payload), 700) - 1)
    for place, value in data.draw(
        st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)
    ):
        payload[place] = value
    plausible(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    plausible(bytes(payload))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(seeds()), st.binary(max_size=300), st.integers(2, 60))
def test_any_bytes_behind_a_magic_are_survived(seed: bytes, tail: bytes, kept: int) -> None:
    plausible(seed[:kept] + tail)


def test_damage_is_unknown_or_what_pillow_says() -> None:
    """A single damaged byte, wherever Pillow still opens it."""
    warnings.simplefilter("ignore")  # Pillow's, of what is damaged
    rng = random.Random(5)
    opened = 0
    for payload in seeds():
        if measured(payload)[0] in ("image/jxl", "image/heif"):  # Pillow reads neither
            continue
        for _ in range(200):
            damaged = bytearray(payload)
            damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
            ours = plausible(bytes(damaged))
            try:
                with Image.open(io.BytesIO(damaged)) as image:
                    sides = set(image.size)
            except Exception:  # of any kind: Pillow opens it, or it does not
                continue
            opened += 1
            assert ours == (0, 0) or set(ours) == sides, bytes(damaged[:64])
    assert opened > 1000


def test_boxes_that_contain_themselves_or_nothing_end() -> None:
    """Sizes of 0 and 8, a thousand levels deep and wide, cost no time."""
    box = struct.pack(">I4s", 8, b"free")
    head = b"\0\0\0\x10ftypavif\0\0\0\0"
    for payload in (head + box * 100_000, head + bytes(4) + b"meta" + bytes(4) + box * 100_000):
        assert plausible(payload) == (0, 0)
