"""Of headers made by hand, those that are usual are read as libjpeg-turbo reads them; the others are left to Pillow."""

from __future__ import annotations

import random
import tracemalloc
import warnings
from collections import Counter

import pytest
import simplejpeg
from jpegs import encoded, judge, picture, random_jpeg
from PIL import Image

from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")  # Pillow's, of what is odd


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def segments(payload: bytes) -> tuple[list[bytes], bytes]:
    """Split a JPEG into its segments before the pixels, and the rest."""
    found, pos = [], 2
    while payload[pos + 1] != 0xDA:
        end = pos + 2 + int.from_bytes(payload[pos + 2 : pos + 4], "big")
        found.append(payload[pos:end])
        pos = end
    return found, payload[pos:]


def joined(parts: list[bytes], rest: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(parts) + rest


def with_ids(payload: bytes, ids: bytes) -> bytes:
    """Rename the components, in the frame and in each scan."""
    parts, rest = segments(payload)
    changed = bytearray(joined(parts, rest))
    frame = changed.index(b"\xff\xc0")
    scan = len(changed) - len(rest)
    for i, name in enumerate(ids):
        changed[frame + 10 + 3 * i] = name
        changed[scan + 5 + 2 * i] = name
    return bytes(changed)


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
ADOBE = {n: segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([n])) for n in (0, 1, 2, 3)}
# what stands in place of the JFIF marker, and what it means for three components
APPLICATION_DATA = {
    "none": b"",
    "JFIF": JFIF,
    "JFIF that is short": segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0"),
    "JFIF 2": segment(0xE0, b"JFIF\0\2\1\0\0\1\0\1\0\0"),
    "JFXX": segment(0xE0, b"JFXX\0\x13" + bytes(20)),
    "JFIF in APP1": segment(0xE1, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
    **{f"Adobe {n}": marker for n, marker in ADOBE.items()},
    "Adobe that is short": segment(0xEE, b"Adobe\0\x64\0\0\0\0"),
    "Adobe that is long": segment(0xEE, b"Adobe\0\x64\0\0\0\0\0more"),
    "adobe": segment(0xEE, b"adobe\0\x64\0\0\0\0\0"),
    "Adobe in APP13": segment(0xED, b"Adobe\0\x64\0\0\0\0\0"),
    "JFIF and Adobe 0": JFIF + ADOBE[0],
    "Adobe 0 and JFIF": ADOBE[0] + JFIF,
    "Adobe 0, then 1": ADOBE[0] + ADOBE[1],
    "Adobe 1, then 0": ADOBE[1] + ADOBE[0],
}


@pytest.mark.parametrize("said", APPLICATION_DATA)
def test_colours_are_those_that_libjpeg_finds(said: str) -> None:
    payload = encoded(picture(random.Random(8), 40, 30), quality=92)
    parts, rest = segments(payload)
    for ids in (b"\1\2\3", b"RGB", b"rgb", b"\0\1\2", b"YCC", b"BGR", b"\1\2\4"):
        made = with_ids(joined([APPLICATION_DATA[said], *parts[1:]], rest), ids)
        for wanted in (Wanted(), Wanted(None), Wanted("L")):
            decoder = judge(made, wanted)
            header = stored_colours(made)
            ours = "simplejpeg" if header == "YCbCr" and wanted.mode != "L" else "Pillow"
            assert decoder in (ours, "refused"), (ids, header)


def stored_colours(payload: bytes) -> str | None:
    """The colours by simplejpeg's own function; None if it refuses."""
    try:
        return simplejpeg.decode_jpeg_header(payload)[2]
    except ValueError:
        return None


def test_segments_in_any_order() -> None:
    rng = random.Random(9)
    seen = Counter()
    for _ in range(300):
        parts, rest = segments(random_jpeg(rng, largest=40))
        more = rng.sample([*APPLICATION_DATA.values(), segment(0xFE, b"text")], 2)
        fill = rng.choice((b"", b"", b"\xff", b"\xff\xff\xff"))
        parts = parts[rng.randrange(2) :] + more  # with and without the JFIF marker
        parts = [fill + part for part in rng.sample(parts, len(parts))]
        made = joined(parts, rest)
        decoder = judge(made)
        seen[decoder] += 1
        if decoder == "simplejpeg":
            assert stored_colours(made) in ("YCbCr", "Gray")
    assert min(seen["simplejpeg"], seen["Pillow"]) > 50, seen


ODD = {
    "a second frame": segment(0xC0, b"\x08\0\x10\0\x10\1\1\x11\0"),
    "an arithmetic frame": segment(0xC9, b"\x08\0\x10\0\x10\1\1\x11\0"),
    "a lossless frame": segment(0xC3, b"\x08\0\x10\0\x10\1\1\x11\0"),
    "stray bytes": b"\0\1\2",
    "a stuffed zero": b"\xff\0",
    "the start again": b"\xff\xd8",
    "the end": b"\xff\xd9",
    "a restart": b"\xff\xd0",
    "a marker that stands alone": b"\xff\x01",
    "a number of lines": segment(0xDC, b"\0\x10"),
    "a reserved marker": segment(0xF0, b"text"),
    "a segment without a length": b"\xff\xfe\0\0",
    "a segment of length 1": b"\xff\xfe\0\1",
    "a segment beyond the end": b"\xff\xfe\xff\xff",
}


@pytest.mark.parametrize("odd", ODD)
def test_headers_that_are_unusual_are_left_to_pillow(odd: str) -> None:
    parts, rest = segments(encoded(picture(random.Random(10), 40, 30)))
    for at in range(len(parts) + 1):
        made = joined([*parts[:at], ODD[odd], *parts[at:]], rest)
        assert judge(made) in ("Pillow", "refused")


def test_frames_that_are_unusual_are_left_to_pillow() -> None:
    """Each byte of a frame's header, with values that libjpeg knows and others."""
    for mode in ("RGB", "L"):
        payload = encoded(picture(random.Random(11), 40, 30).convert(mode))
        at = payload.index(b"\xff\xc0")
        length = int.from_bytes(payload[at + 2 : at + 4], "big")
        for place in range(1, 2 + length):
            for value in (0, 1, 2, 3, 4, 7, 8, 9, 12, 16, 0x11, 0x21, 0x22, 0x41, 0xC2, 0xFF):
                changed = bytearray(payload)
                changed[at + place] = value
                if judge(bytes(changed)) == "simplejpeg":
                    assert stored_colours(bytes(changed)) in ("YCbCr", "Gray")


def test_headers_that_claim_too_much_take_no_memory() -> None:
    payload = encoded(picture(random.Random(15), 40, 30))
    at = payload.index(b"\xff\xc0")
    claims = payload[: at + 5] + b"\x1f\x40\x1f\x40" + payload[at + 9 :]  # 8,000 x 8,000
    tracemalloc.start()
    try:
        decoded = decode_jpegs([claims] * 64 + [payload], Wanted(), None)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert decoded[:64] == [None] * 64
    assert decoded[64] is not None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_of_one_colour_are_not_taken_for_damaged(mode: str, progressive: bool) -> None:
    image = Image.new(mode, (2000, 1000))
    payload = encoded(image, progressive=progressive, optimize=True, subsampling=2)
    assert len(payload) < 30_000
    assert judge(payload) == "simplejpeg"
