"""Images against the facts and `read_image`. Oracle: Pillow alone.

An image that Pillow shows has the width and height that the facts say, or they are unknown. Pixels are those that Pillow shows;
of 16 bits, the upper 8. Facts that are taken from the first bytes of an image, and from ranges of its rest, are the same facts.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from test_conversion import SIXTEEN, VALUES, png16
from test_dimensions import SAMPLES, WRITTEN, encoded, tiff
from test_orientation import GENERATORS

from blobpack import ImageError
from blobpack._native.facts import facts_of
from blobpack.columns import MEDIA_TYPES
from blobpack.reading.by_pillow import WIDE_MODES
from blobpack.reading.decode import decode_image
from blobpack.reading.wanted import Wanted
from fuzz.damage import damage

if TYPE_CHECKING:
    import random
    from pathlib import Path

# A damaged header can claim any size, for which Pillow would take its memory.
PIXELS_MAX = 1 << 20
# Most of what decides about an image stands in its first bytes.
HEAD_BYTES = 400
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# what Pillow calls formats for which blobpack has one type, or another name
MEDIA_TYPE_OF = {"PPM": "image/x-portable-anymap", "MPO": "image/jpeg", "QOI": "image/qoi"}


class Case(NamedTuple):
    """An image, how many of its first bytes are at hand at once, and its media type if it is sound."""

    data: bytes
    head_bytes: int
    media_type: str | None


def make(generator: random.Random) -> Case:
    """Make an image: with random metadata, or of any format; half of the time damaged."""
    head_bytes = generator.choice((32, 512, 4096, 1 << 20))
    chance = generator.random()
    if chance < 0.4:
        kind = generator.choice(sorted(GENERATORS))
        data, media_type = GENERATORS[kind](generator), f"image/{kind}"
    elif chance < 0.5:
        data, media_type = make_sixteen_bits(generator), None
    elif chance < 0.6:
        size = generator.choice(((3, 5), (40, 1)))
        order, big = generator.choice("<>"), generator.random() < 0.5
        orientation = generator.randrange(10)
        data = tiff(order, big=big, size=size, orientation=orientation, pixels=size[0] * size[1])
        media_type = "image/tiff"
    else:
        data, media_type = generator.choice(samples())
    if generator.random() < 0.5:
        return Case(data, head_bytes, media_type)
    return Case(damaged(data, generator), head_bytes, None)


def make_sixteen_bits(generator: random.Random) -> bytes:
    """Make an image of 16 bits a channel."""
    if generator.random() < 0.3:
        color, channels = generator.choice(((0, 1), (2, 3), (4, 2), (6, 4)))
        numbers = np.frombuffer(generator.randbytes(2 * 4 * 9 * channels), np.uint16)
        return png16(numbers.reshape(4, 9, channels), color)
    values = generator.choices(VALUES, k=generator.choice((1, 2, 9)))
    make_image = SIXTEEN[generator.choice(sorted(SIXTEEN))]
    return bytes(make_image(*values))  # type: ignore[no-untyped-call]


@functools.cache
def samples() -> list[tuple[bytes, str]]:
    """Return small images of every format that this Pillow writes, and of those that others wrote."""
    Image.init()
    made = [
        (encoded(kind, (37, 91)), media_type)
        for kind, (form, _, _, media_type) in WRITTEN.items()
        if form in Image.SAVE
    ]
    others = [path.read_bytes() for path in SAMPLES if path.stat().st_size < 50_000]
    return made + [(data, MEDIA_TYPES[facts_of(data, b"").media_type]) for data in others]


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Damage an image, mostly near its beginning; the checksums of a PNG are mostly right."""
    edge = min(len(data), HEAD_BYTES) if generator.random() < 0.7 else len(data)
    changed = damage(data[:edge], generator, most=3) + data[edge:]
    if changed.startswith(PNG_MAGIC) and generator.random() < 0.8:
        return with_checksums(changed)
    return changed


def with_checksums(png: bytes) -> bytes:
    """Return a PNG whose chunks have right checksums, as far as there are chunks."""
    fixed = bytearray(png)
    start = len(PNG_MAGIC)
    while start + 12 <= len(fixed):
        (size,) = struct.unpack_from(">I", fixed, start)
        end = start + 8 + size
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[start + 4 : end]))
        start = end + 4
    return bytes(fixed)


def check(case: Case, _folder: Path) -> str:
    """Compare the facts with the pixels, and the pixels with Pillow's.

    Returns:
        "refused", or "accepted" if there are pixels.
    """
    usual = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = PIXELS_MAX
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of what is odd
            return check_image(case)
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def check_image(case: Case) -> str:
    """See check."""
    facts = facts_of(case.data, b"")
    check_fetched(case)
    media_type = MEDIA_TYPES[facts.media_type]
    assert case.media_type in {None, media_type}, media_type
    try:
        pixels = decode_image(case.data, "x", Wanted(None))
    except ImageError:
        assert by_pillow(case.data) is None, "Pillow shows it"
        return "refused"
    sides = facts.width, facts.height
    assert sides in {(0, 0), pixels.shape[1::-1]}, (sides, pixels.shape)
    judged = by_pillow(case.data)
    if judged is None:
        return "accepted"
    assert MEDIA_TYPE_OF.get(judged.form, Image.MIME.get(judged.form)) == media_type, media_type
    check_colours(case.data, pixels, judged)
    return "accepted"


def check_fetched(case: Case) -> None:
    """Compare facts of the whole image with those of its first bytes, for which more are fetched."""
    size = len(case.data)

    def read(start: int, end: int) -> bytes:
        assert 0 <= start < end <= size, (start, end)
        return case.data[start:end]

    whole = facts_of(case.data, b"")
    fetched = facts_of(case.data[: case.head_bytes], b"", size=size, read=read)
    assert fetched[:3] == whole[:3], (fetched, whole)


class Judged(NamedTuple):
    """An image as Pillow alone shows it."""

    form: str
    mode: str
    stored: np.ndarray
    colours: np.ndarray


def by_pillow(data: bytes) -> Judged | None:
    """Return what Pillow alone shows, or None."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            form = image.format or ""
            if form == "AVIF":  # of which XMP turns nothing
                image.info.pop("xmp", None)
            shown = ImageOps.exif_transpose(image)
            return Judged(form, shown.mode, np.array(shown), np.array(shown.convert("RGB")))
    except Exception:  # of any kind: Pillow shows it, or it does not
        return None


def check_colours(data: bytes, pixels: np.ndarray, judged: Judged) -> None:
    """Check stored numbers and colours: those of wide numbers are their upper eight bits, or refused."""
    assert np.array_equal(pixels, judged.stored, equal_nan=pixels.dtype.kind == "f"), "stored"
    if judged.mode not in WIDE_MODES:
        assert np.array_equal(decode_image(data, "x"), judged.colours), "colours"
        return
    is_whole = judged.mode.startswith("I;16") or (
        judged.form in {"PNG", "PPM"} and judged.mode == "I"
    )
    try:
        grey = decode_image(data, "x", Wanted("L"))
    except ImageError:
        assert not is_whole, judged.mode
        return
    assert is_whole, judged.mode
    shifts = (8, 4) if judged.form == "TIFF" else (8,)  # TIFFs may have 12 bits
    assert any(np.array_equal(grey, (pixels >> by).astype(np.uint8)) for by in shifts), "upper bits"
