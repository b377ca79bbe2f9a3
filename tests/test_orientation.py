"""Width and height, and pixels, are turned alike: by metadata of every kind, as Pillow's exif_transpose turns them."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps, features
from test_dimensions import WRITTEN, encoded, exif, tiff

import blobpack
from blobpack._native.facts import facts_of, orientation_of
from blobpack.reading.decode import decode_image
from blobpack.reading.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, HEIGHT = 3, 5
PIXELS = np.arange(WIDTH * HEIGHT * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3) * 5
XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
CASES = 1500  # of each format
UNKNOWN = (0, 0)


@cache
def plain(kind: str) -> bytes:
    """An image without metadata."""
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def measured(payload: bytes) -> tuple[int, int]:
    found = facts_of(payload, b"")
    return found.width, found.height


def by_pillow(payload: bytes) -> np.ndarray | None:
    """The pixels as Pillow alone shows them, or None."""
    try:
        with Image.open(io.BytesIO(payload)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Exception:  # of any kind: Pillow shows it, or it does not
        return None


def check(payload: bytes) -> tuple[int, int]:
    """Compare facts with pixels, and pixels with those of Pillow alone; return the width and height."""
    sides = measured(payload)
    try:
        pixels = decode_image(payload, "x")
    except blobpack.ImageError:
        assert by_pillow(payload) is None
        return sides
    assert sides in {UNKNOWN, pixels.shape[1::-1]}, payload
    judged = by_pillow(payload)
    if judged is not None:
        assert np.array_equal(pixels, judged), payload
    return sides


# Images with metadata in every place


def jpeg(*segments: bytes, behind_frame: bool = False) -> bytes:
    parts = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in segments)
    payload = plain("JPEG")
    at = payload.index(b"\xff\xda") if behind_frame else 2
    return payload[:at] + parts + payload[at:]


def behind_segment(length: bytes, stray: int = 0) -> bytes:
    """Make a JPEG whose EXIF stands behind a segment of that length field, which is empty, and stray bytes."""
    payload = jpeg(b"Exif\0\0" + RAW)
    return payload[:2] + b"\xff\xe1" + length + bytes(stray) + payload[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks: bytes, behind: bool = False) -> bytes:
    payload = plain("PNG")
    at = payload.index(b"IEND" if behind else b"IDAT") - 4
    return payload[:at] + b"".join(chunks) + payload[at:]


def text(key: bytes, value: bytes) -> bytes:
    return chunk(b"tEXt", key + b"\0" + value)


def compressed_text(key: bytes, value: bytes) -> bytes:
    return chunk(b"zTXt", key + b"\0\0" + zlib.compress(value))


def international_text(
    key: bytes, value: bytes, *, compressed: bool = False, words: bytes = b"en\0Key\0"
) -> bytes:
    """Make an iTXt chunk; its words are the language and the translated keyword."""
    value = zlib.compress(value) if compressed else value
    return chunk(b"iTXt", key + (b"\0\1\0" if compressed else b"\0\0\0") + words + value)


def raw_profile(block: bytes) -> bytes:
    """EXIF as ImageMagick writes it into a chunk of text."""
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\nexif\n{len(block):8}\n{lines}\n".encode()


def webp(*chunks: tuple[bytes, bytes], flags: int = 0x0C) -> bytes:
    payload = plain("WEBP")
    size = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<II", 10, flags) + size + payload[12:]
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + bytes(len(data) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


XMP_KEY = b"XML:com.adobe.xmp"
XMP_HEAD = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '


def attribute(digit: object) -> bytes:
    return XMP_HEAD + f'tiff:Make="A" tiff:Orientation="{digit}"/></rdf:RDF>'.encode()


def element(digit: object) -> bytes:
    return XMP_HEAD + f"><tiff:Orientation>{digit}</tiff:Orientation>".encode()


# The cases of the issue, one by one

RAW = exif(6)
# chunks, segments or tags: facts look at 65,536 at most
MANY = 66_000
PLACES: dict[str, Callable[[], bytes]] = {
    "jpeg exif": lambda: jpeg(b"Exif\0\0" + RAW),
    "jpeg exif behind the frame": lambda: jpeg(b"Exif\0\0" + RAW, behind_frame=True),
    "jpeg exif behind a segment of length 0": lambda: behind_segment(b"\0\0"),
    "jpeg exif behind a segment of length 1": lambda: behind_segment(b"\0\1"),
    "jpeg exif behind stray bytes": lambda: behind_segment(b"\0\2", stray=60_000),
    "jpeg exif prefix twice": lambda: jpeg(b"Exif\0\0Exif\0\0" + RAW),
    "jpeg xmp attribute": lambda: jpeg(XMP_SEGMENT + attribute(6)),
    "jpeg xmp element": lambda: jpeg(XMP_SEGMENT + element(6)),
    "jpeg xmp twice": lambda: jpeg(XMP_SEGMENT + element(1), XMP_SEGMENT + element(6)),
    "jpeg exif without it, and xmp": lambda: jpeg(
        b"Exif\0\0" + RAW.replace(b"\x12\x01", b"\x13\x01"), XMP_SEGMENT + attribute(6)
    ),
    "jpeg count 2": lambda: jpeg(b"Exif\0\0" + one_tag(3, 2, struct.pack("<HH", 6, 1))),
    "jpeg type LONG": lambda: jpeg(b"Exif\0\0" + one_tag(4, 1, struct.pack("<I", 6))),
    "png exif": lambda: png(chunk(b"eXIf", RAW)),
    "png exif with a prefix": lambda: png(chunk(b"eXIf", b"Exif\0\0" + RAW)),
    "png exif behind the pixels": lambda: png(chunk(b"eXIf", RAW), behind=True),
    "png xmp attribute": lambda: png(international_text(b"XML:com.adobe.xmp", attribute(6))),
    "png xmp element": lambda: png(international_text(b"XML:com.adobe.xmp", element(6))),
    "png xmp behind the pixels": lambda: png(
        international_text(b"XML:com.adobe.xmp", attribute(6)), behind=True
    ),
    "webp exif": lambda: webp((b"EXIF", RAW)),
    "webp exif prefix twice": lambda: webp((b"EXIF", b"Exif\0\0Exif\0\0" + RAW)),
    "webp xmp attribute": lambda: webp((b"XMP ", attribute(6))),
    "png xmp without words": lambda: png(international_text(XMP_KEY, element(6), words=bytes(2))),
    "png xmp behind a keyword": lambda: png(
        international_text(XMP_KEY, attribute(6), words=b"en\0" + b"K" * 252 + b"\0")
    ),
    "png xmp, not its words": lambda: png(
        international_text(XMP_KEY, element(6), words=element(1) + b"\0\0")
    ),
    "webp xmp element": lambda: webp((b"XMP ", element(6))),
}
# turned by Pillow; whether they are is not looked up, so the size is unknown
UNCLEAR: dict[str, Callable[[], bytes]] = {
    "png raw profile": lambda: png(text(b"Raw profile type exif", raw_profile(RAW))),
    "jpeg exif behind more stray bytes": lambda: behind_segment(b"\0\2", stray=70_000),
    "png exif behind very many chunks": lambda: png(
        *[chunk(b"teSt", b"")] * MANY, chunk(b"eXIf", RAW)
    ),
    "webp exif behind very many chunks": lambda: webp(*[(b"test", b"")] * MANY, (b"EXIF", RAW)),
    "jpeg exif behind very many segments": lambda: jpeg(*[b""] * MANY, b"Exif\0\0" + RAW),
    "png compressed raw profile": lambda: png(
        compressed_text(b"Raw profile type exif", raw_profile(RAW))
    ),
    "png compressed xmp": lambda: png(
        international_text(b"XML:com.adobe.xmp", attribute(6), compressed=True)
    ),
    "png xmp behind a long keyword": lambda: png(
        international_text(XMP_KEY, attribute(6), words=b"en\0" + b"K" * 253 + b"\0")
    ),
    "jpeg type RATIONAL": lambda: jpeg(
        b"Exif\0\0" + one_tag(5, 1, struct.pack("<I", 26)) + struct.pack("<II", 6, 1)
    ),
}
UPRIGHT: dict[str, Callable[[], bytes]] = {
    "jpeg type BYTE": lambda: jpeg(b"Exif\0\0" + one_tag(1, 1, b"\6\0\0\0")),
    "jpeg type BYTE, count 2": lambda: jpeg(b"Exif\0\0" + one_tag(1, 2, b"\6\0\0\0")),
    "jpeg type ASCII": lambda: jpeg(b"Exif\0\0" + one_tag(2, 2, b"6\0\0\0")),
    "jpeg exif rules over xmp": lambda: jpeg(b"Exif\0\0" + exif(1), XMP_SEGMENT + element(6)),
    "jpeg exif 0 rules over xmp": lambda: jpeg(b"Exif\0\0" + exif(0), XMP_SEGMENT + element(6)),
    "jpeg xmp digit 9": lambda: jpeg(XMP_SEGMENT + element(9)),
    "jpeg xmp in single quotes": lambda: jpeg(XMP_SEGMENT + b"tiff:Orientation='6'"),
    "jpeg extended xmp": lambda: jpeg(b"http://ns.adobe.com/xmp/extension/\0" + element(6)),
    "png words, and no xmp": lambda: png(
        international_text(XMP_KEY, b"", words=element(6) + bytes(2))
    ),
    "webp without flags": lambda: webp((b"EXIF", RAW), (b"XMP ", element(6)), flags=0),
    "webp xmp without its flag": lambda: webp((b"XMP ", element(6)), flags=8),
}


def one_tag(kind: int, count: int, value: bytes) -> bytes:
    return b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x112, kind, count) + value + bytes(4)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")  # Pillow's, of what is odd


@pytest.mark.parametrize("place", PLACES)
def test_the_image_is_turned_by_what_stands_in(place: str) -> None:
    payload = PLACES[place]()
    assert orientation_of(payload) == 6
    assert check(payload) == (HEIGHT, WIDTH)
    judged = by_pillow(payload)
    assert judged is not None
    assert judged.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("words", [b"", b"en", b"en\0", b"en\0Key"])
def test_a_text_whose_words_do_not_end_turns_nothing(words: bytes) -> None:
    """Whoever reads chunks strictly passes over it, as Pillow does."""
    payload = png(international_text(XMP_KEY, element(6), words=words))
    assert orientation_of(payload) == 0
    assert check(payload) == UNKNOWN
    assert decode_image(payload, "x").shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("place", UPRIGHT)
def test_the_image_is_not_turned_by(place: str) -> None:
    payload = UPRIGHT[place]()
    assert orientation_of(payload) == 1
    assert check(payload) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("place", UNCLEAR)
def test_the_size_is_unknown_if_it_depends_on(place: str) -> None:
    payload = UNCLEAR[place]()
    assert orientation_of(payload) == 0
    assert check(payload) == UNKNOWN
    assert decode_image(payload, "x").shape == (WIDTH, HEIGHT, 3)


def test_exif_that_is_none_does_not_hide_the_image() -> None:
    for payload in (jpeg(b"Exif\0\0nonsense"), png(chunk(b"eXIf", b"")), webp((b"EXIF", b"x" * 9))):
        assert check(payload) == (WIDTH, HEIGHT)
        assert decode_image(payload, "x").shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_only_if_that_is_wanted(orientation: int) -> None:
    file = io.BytesIO()
    tag = Image.Exif()
    tag[0x112] = orientation
    Image.fromarray(PIXELS).save(file, "TIFF", exif=tag)
    check(file.getvalue())
    for mode in "RGB", None:
        stored = decode_image(file.getvalue(), "x", Wanted(mode, apply_exif_orientation=False))
        assert np.array_equal(stored, PIXELS)


# tags whose values are larger than the file, end behind it, or overlap so that they are together larger than the file
NOT_THERE: dict[str, dict[int, tuple[int, int, int]]] = {
    "too large": {1: (2, 1 << 22, 8)},
    "the type of the orientation": {274: (5, (1 << 32) - 1, 0)},
    "behind the end": {1: (2, 100, 5000)},
    "overlap": dict.fromkeys((1, 2, 3), (2, 150, 8)),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("fault", NOT_THERE)
def test_values_of_a_tiff_that_are_not_there_make_xmp_behind_them_unclear(
    fault: str, order: str
) -> None:
    tags = TIFF_TAGS | NOT_THERE[fault]
    assert check(tiff_of(order, tags, attribute(6))) == UNKNOWN
    # what stands before them is not unclear
    behind = {65000 + name: value for name, value in NOT_THERE[fault].items()}
    assert check(tiff_of(order, TIFF_TAGS | behind, attribute(6))) == (HEIGHT, WIDTH)
    if 274 not in tags:
        assert check(tiff_of(order, TIFF_TAGS | {274: (3, 1, 6)} | behind, b"")) == (HEIGHT, WIDTH)


def test_the_size_of_a_big_tiff_is_unknown_if_it_has_very_many_tags() -> None:
    tags = [(name, *value) for name, value in TIFF_TAGS.items()]
    count = len(tags) + 1 + MANY + 1
    tags.append((273, 16, 1, 16 + 8 + 20 * count + 8))
    # tags of no type, which readers step over
    tags += [(1, 0, 1, 0)] * MANY + [(274, 3, 1, 6)]
    directory = b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
    header = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, count)
    assert check(header + directory + bytes(8 + WIDTH * HEIGHT)) == UNKNOWN


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_xmp_does_not_turn_an_avif(orientation: int) -> None:
    tag = Image.Exif()
    tag[0x112] = orientation
    for options in {"exif": tag}, {}:
        payload = encoded("avif", (WIDTH, HEIGHT), xmp=attribute(6), **options)
        turned = "exif" in options and orientation > 4
        assert measured(payload) == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))
        assert decode_image(payload, "x").shape[1::-1] == measured(payload)


# Generated metadata


def random_exif(rng: random.Random) -> bytes:
    """EXIF with tags before and behind the orientation, of which anything may be wrong."""
    order = rng.choice("<>")
    tags = [(name, 2, 3, b"ab\0\0") for name in rng.sample((270, 271, 272, 305), 2)]
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
        kind = rng.choice((3, 3, 3, 3, 3, 4, 1, 2, 5, 6, 7, 8, 9, 11, 12, 13, 16, 0, 99))
        count = rng.choice((1, 1, 1, 1, 1, 2, 0, 3, 200))
        number = rng.choice((1, 6, 6, 8, 3, 0, 9))
        packed = struct.pack(
            f"{order}I" if kind in (4, 9, 13) else f"{order}HH",
            *(number, 1)[: 1 + (kind not in (4, 9, 13))],
        )
        tags.append((0x112, kind, count, packed))
    if rng.random() < 0.1:
        tags.append((272, 2, 50, struct.pack(f"{order}I", rng.choice((8, 60, 5000)))))
    if rng.random() < 0.8:
        tags.sort(key=lambda tag: tag[0])
    said = len(tags) + (rng.random() < 0.05) * rng.choice((-1, 1, 500))
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    if rng.random() < 0.04:
        mark = rng.choice((b"II\0*", b"MM*\0", b"II+\0", b"MM\0+", b"IM*\0", b"\0\0\0\0"))
    at = rng.choice((8,) * 12 + (0, 9, 4000))
    block = mark + struct.pack(f"{order}I", at) + bytes(max(0, at - 8) % 100)
    block += struct.pack(f"{order}H", said)
    for name, kind, count, value in tags:
        block += struct.pack(f"{order}HHI", name, kind, count) + value
    block += bytes(4 + rng.choice((0, 0, 64)))
    if rng.random() < 0.04:
        block = block[: rng.randrange(len(block))]
    return b"Exif\0\0" * rng.choice((0, 0, 0, 1, 1, 2, 3)) + block


def random_xmp(rng: random.Random) -> bytes:
    made = b""
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        made += rng.choice((attribute, element))(
            rng.choice((1, 3, 5, 6, 7, 8, 0, 9, "", "x", " 6", 66))
        )
    if rng.random() < 0.1:
        made += b"tiff:Orientation" + rng.choice(
            (b"='6'", b' ="6"', b"tiff:Orientation>6", b"", b">", b'="')
        )
    return made


def random_jpeg(rng: random.Random) -> bytes:
    segments = []
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
        segments.append((b"" if rng.random() < 0.3 else b"Exif\0\0") + random_exif(rng))
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        segments.append(XMP_SEGMENT + random_xmp(rng))
    rng.shuffle(segments)
    return jpeg(*segments, behind_frame=rng.random() < 0.3)


def random_png(rng: random.Random) -> bytes:
    chunks: list[bytes] = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        xmp, block = random_xmp(rng), random_exif(rng)
        key = rng.choice(
            (b"XML:com.adobe.xmp",) * 6 + (b"Comment", b"xmp", b"exif", b"XML:com.adobe.xmp2")
        )
        words = rng.choice(
            (b"en\0Key\0",) * 4 + (bytes(2), b"", b"en", b"\0", b"x" * 300, xmp + bytes(2))
        )
        chunks.append(
            rng.choice(
                (
                    lambda block=block: chunk(b"eXIf", block),
                    lambda block=block: chunk(b"eXIf", block),
                    lambda key=key, xmp=xmp: international_text(key, xmp),
                    lambda key=key, xmp=xmp, words=words: international_text(key, xmp, words=words),
                    lambda key=key, xmp=xmp: international_text(key, xmp, compressed=True),
                    lambda key=key, xmp=xmp: text(key, xmp),
                    lambda key=key, xmp=xmp: compressed_text(key, xmp),
                    lambda block=block: text(b"Raw profile type exif", raw_profile(block)),
                    lambda block=block: compressed_text(
                        b"Raw profile type exif", raw_profile(block)
                    ),
                    lambda xmp=xmp: chunk(b"prVt", xmp),
                    lambda: chunk(b"pHYs", bytes(9)),
                )
            )()
        )
    made = png(*chunks, behind=rng.random() < 0.5)
    return made[:-12] if rng.random() < 0.03 else made


def random_webp(rng: random.Random) -> bytes:
    chunks = [(b"EXIF", random_exif(rng)) for _ in range(rng.choice((0, 1, 1, 2)))]
    chunks += [(b"XMP ", random_xmp(rng)) for _ in range(rng.choice((0, 1, 1, 2)))]
    chunks += [(b"prVt", random_xmp(rng))] * (rng.random() < 0.2)
    rng.shuffle(chunks)
    made = webp(*chunks, flags=rng.choice((0x0C, 0x0C, 0x0C, 0x08, 0x04, 0)))
    return made + webp((b"EXIF", RAW))[12:] * (rng.random() < 0.05)


TIFF_TAGS = {
    256: (4, 1, WIDTH),
    257: (3, 1, HEIGHT),
    258: (3, 1, 8),
    259: (3, 1, 1),
    262: (3, 1, 1),
    277: (3, 1, 1),
    278: (4, 1, HEIGHT),
    279: (4, 1, WIDTH * HEIGHT),
}


def random_tiff(rng: random.Random) -> bytes:
    order = rng.choice("<>")
    xmp = random_xmp(rng)
    tags = dict(TIFF_TAGS)
    if rng.random() < 0.7:
        tags[274] = (
            rng.choice((3, 3, 3, 3, 4, 1, 5, 8, 99)),
            rng.choice((1, 1, 1, 1, 2, 0, 3)),
            rng.choice(range(10)),
        )
    for name in rng.sample((270, 315, 65000), rng.choice((0, 0, 0, 1, 2))):
        # text that lies in the file, ends behind it, or is larger than the file
        tags[name] = (2, rng.choice((9, 200, 100_000)), rng.choice((8, 8, 8, 1000)))
    return tiff_of(order, tags, xmp, rng.choice((1, 7)))


def tiff_of(
    order: str, tags: dict[int, tuple[int, int, int]], xmp: bytes, xmp_kind: int = 7
) -> bytes:
    """A TIFF with its pixels and XMP; for each tag, its type, count, and value or place."""
    size = 8 + 2 + 12 * (len(tags) + 1 + bool(xmp)) + 4
    tags = {**tags, 273: (4, 1, size)}
    if xmp:
        tags[700] = (xmp_kind, len(xmp), size + WIDTH * HEIGHT)
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    for name, (kind, count, value) in sorted(tags.items()):
        inline = kind in (3, 8) and count in (1, 2)
        block += struct.pack(f"{order}HHI", name, kind, count)
        block += struct.pack(f"{order}HH", value, 1) if inline else struct.pack(f"{order}I", value)
    return block + bytes(4) + bytes(range(WIDTH * HEIGHT)) + xmp


GENERATORS = {"jpeg": random_jpeg, "png": random_png, "webp": random_webp, "tiff": random_tiff}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generated_metadata_turn_facts_and_pixels_alike(kind: str) -> None:
    rng = random.Random(f"orientation of {kind}")
    seen = Counter(check(GENERATORS[kind](rng)) for _ in range(CASES))
    # none of the three is rare, so that each was put to the test
    assert set(seen) == {UNKNOWN, (WIDTH, HEIGHT), (HEIGHT, WIDTH)}
    assert min(seen.values()) > CASES // 50, seen


# Large files, of which only a part is looked at


def large_png(rng: random.Random, size: int, *behind: bytes) -> bytes:
    """A PNG of random pixels, 8 KiB in each IDAT, as libpng writes them."""
    rows = b"".join(b"\0" + rng.randbytes(3 * 1000) for _ in range(size))
    pixels = zlib.compress(rows, 0)
    header = struct.pack(">IIBBBBB", 1000, size, 8, 2, 0, 0, 0)
    parts = [chunk(b"IDAT", pixels[i : i + 8192]) for i in range(0, len(pixels), 8192)]
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return b"".join([start, *parts, *behind, chunk(b"IEND", b"")])


def test_large_images_are_known_wherever_their_metadata_stand(tmp_path: Path) -> None:
    """Packed, read again from the file, and read from a store without a file descriptor."""
    from blobpack.stores.memory import MemoryStore
    from blobpack.tar.scan import scan_store

    rng = random.Random(1)
    xmp = international_text(b"XML:com.adobe.xmp", bytes(9000) + attribute(6))
    payloads = {
        "a_plain.png": large_png(rng, 1500),
        "b_turned.png": large_png(rng, 1600, chunk(b"eXIf", RAW)),
        "c_xmp.png": large_png(rng, 1700, xmp),
        "d_uneven.png": large_png(rng, 1800, chunk(b"IDAT", b""), chunk(b"eXIf", RAW)),
        "e_tiff.tif": tiff("<", big=False, size=(2500, 2000), orientation=8, pixels=5_000_000),
    }
    expected = {
        "a_plain.png": (1000, 1500),
        "b_turned.png": (1600, 1000),
        "c_xmp.png": (1700, 1000),
        "d_uneven.png": (1800, 1000),
        "e_tiff.tif": (2000, 2500),
    }
    (tmp_path / "in").mkdir()
    for name, payload in payloads.items():
        (tmp_path / "in" / name).write_bytes(payload)
    report = blobpack.pack(tmp_path / "in", tmp_path / "o.tar")
    scanned = blobpack.scan(tmp_path / "o.tar", facts=True)
    far = scan_store(MemoryStore((tmp_path / "o.tar").read_bytes()), facts=True)
    for index in report.index, scanned, far:
        assert {member.name: (member.width, member.height) for member in index} == expected
    assert decode_image(payloads["b_turned.png"], "x").shape == (1000, 1600, 3)


def test_formats_without_metadata_agree_with_their_pixels() -> None:
    for kind in WRITTEN:
        if (kind != "avif" or features.check("avif")) and WRITTEN[kind][0] in Image.SAVE:
            payload = encoded(kind, (WIDTH, HEIGHT))
            pixels = decode_image(payload, "x", Wanted(None))
            assert measured(payload) == pixels.shape[1::-1]
