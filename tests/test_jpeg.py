"""JPEGs that simplejpeg decodes have Pillow's pixels, and the others are left to Pillow."""

from __future__ import annotations

import os
import random
import sys
import sysconfig
import warnings
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from jpegs import encoded, judge, picture, random_jpeg
from PIL import Image

from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted

# a folder of JPEGs to decode, besides those of this Python installation
MORE = "BLOBPACK_JPEGS"
CASES = 600
SIZES = [None, (1, 1), (7, 5), (16, 16), (40, 64), (100, 30), (300, 300)]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")  # Pillow's, of what is odd


@pytest.mark.parametrize("part", range(4))
def test_generated_files_of_every_kind_have_the_pixels_of_pillow(part: int) -> None:
    rng = random.Random(f"jpeg {part}")
    for _ in range(CASES // 4):
        payload = random_jpeg(rng)
        wanted = Wanted(rng.choice(("RGB", "RGB", None)), rng.random() < 0.8)
        assert judge(payload, wanted) == "simplejpeg"


@pytest.mark.parametrize("part", range(4))
def test_resized_files_have_the_pixels_of_the_calls_that_are_documented(part: int) -> None:
    rng = random.Random(f"resized {part}")
    seen = Counter()
    for _ in range(60):
        payload = random_jpeg(rng, largest=rng.choice((12, 199)))
        for size in SIZES:
            seen[judge(payload, Wanted(size=size))] += 1
    assert seen["simplejpeg"] > 0.9 * seen.total()


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_every_subsampling(subsampling: str) -> None:
    rng = random.Random(subsampling)
    for size in (None, (20, 20)):
        pixels = np.asarray(picture(rng, 93, 71))
        colours = "GRAY" if subsampling == "Gray" else "RGB"
        pixels = np.ascontiguousarray(pixels[..., :1]) if colours == "GRAY" else pixels
        payload = simplejpeg.encode_jpeg(pixels, colorspace=colours, colorsubsampling=subsampling)
        assert judge(payload, Wanted(size=size)) == "simplejpeg"


def with_adobe(payload: bytes, transform: int) -> bytes:
    """Put Adobe's marker behind the JFIF marker, or in its place."""
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    jfif_end = 4 + int.from_bytes(payload[4:6], "big")
    return payload[:2] + marker + payload[jfif_end:]


@pytest.mark.parametrize("transform", [0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_adobe_markers(mode: str, transform: int) -> None:
    image = picture(random.Random(1), 60, 50).convert(mode)
    payload = with_adobe(encoded(image), transform)
    for wanted in (Wanted(), Wanted(None), Wanted("L"), Wanted(size=(10, 10))):
        decoder = judge(payload, wanted)
        if mode == "CMYK":
            assert decoder == "Pillow"


@pytest.mark.parametrize(
    ("stored", "wanted", "decoder"),
    [
        ("RGB", "RGB", "simplejpeg"),
        ("RGB", None, "simplejpeg"),
        ("L", "RGB", "simplejpeg"),
        ("L", "L", "simplejpeg"),
        ("L", None, "simplejpeg"),
        ("RGB", "L", "Pillow"),
        ("RGB", "RGBA", "Pillow"),
        ("RGB", "CMYK", "Pillow"),
        ("CMYK", "RGB", "Pillow"),
        ("CMYK", None, "Pillow"),
    ],
)
def test_other_colours_are_left_to_pillow(stored: str, wanted: str | None, decoder: str) -> None:
    payload = encoded(picture(random.Random(2), 90, 41).convert(stored), quality=95)
    for size in (None, (9, 30)):
        assert judge(payload, Wanted(wanted, size=size)) == decoder


def test_colours_that_are_stored_as_rgb() -> None:
    payload = encoded(picture(random.Random(3), 90, 41), keep_rgb=True)
    assert judge(payload) == "Pillow"


def test_files_that_are_cut_at_any_byte() -> None:
    rng = random.Random(4)
    seen = Counter()
    for _ in range(4):
        payload = random_jpeg(rng, largest=24)
        seen += Counter(judge(payload[:end]) for end in range(len(payload)))
    assert seen["refused"] > 1000
    assert seen["simplejpeg"] == 0


def damaged(payload: bytes, rng: random.Random) -> bytes:
    """Change, remove or insert a few bytes, mostly near the beginning."""
    changed = bytearray(payload)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(changed), rng.choice((20, 700, len(changed)))))
        match rng.randrange(4):
            case 0 | 1:
                changed[at] = rng.choice((0, 0xFF, rng.randrange(256)))
            case 2:
                del changed[at : at + rng.randint(1, 20)]
            case _:
                changed[at:at] = rng.randbytes(rng.randint(1, 20))
    return bytes(changed)


def test_damaged_files_and_junk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 18)  # a damaged header can claim any size
    rng = random.Random(5)
    seen = Counter(judge(damaged(random_jpeg(rng, largest=60), rng)) for _ in range(1500))
    assert min(seen[kind] for kind in ("simplejpeg", "Pillow", "refused")) > 100, seen
    for junk in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff" + rng.randbytes(5000)):
        assert judge(junk) == "refused"
    payload = random_jpeg(rng)
    assert judge(payload + rng.randbytes(500)) == "simplejpeg"
    assert judge(b"\0" + payload) == "refused"


def test_an_image_that_pillow_finds_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few bytes, a decoder without this bound would make gigabytes."""
    payload = encoded(picture(random.Random(6), 64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    assert judge(payload) == "simplejpeg"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 // 2 - 1)
    assert judge(payload) == "refused"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert judge(payload) == "simplejpeg"


def test_real_files() -> None:
    folders = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    folders += [Path(os.environ[MORE])] if MORE in os.environ else []
    found = [path for folder in folders for path in folder.rglob("*.jp*g") if path.is_file()]
    print(f"{len(found)} files, Python {sys.version_info[:2]}")
    for path, size in product(found, (None, (32, 48), (224, 224))):
        judge(path.read_bytes(), Wanted(size=size))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sides", [(1, 1), (5, 3), (150, 70), (64, 129)])
def test_pixels_are_turned_as_pillow_turns_them(
    orientation: int, mode: str, sides: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = encoded(picture(random.Random(7), *sides).convert(mode), exif=exif)
    for wanted in (Wanted(), Wanted(None), Wanted(apply_exif_orientation=False)):
        assert judge(payload, wanted) == "simplejpeg"


@pytest.mark.parametrize(
    ("stored", "wanted", "scale"),
    [
        ((800, 800), (100, 100), 8),
        ((799, 800), (100, 100), 4),
        ((800, 800), (101, 100), 4),
        ((800, 400), (100, 200), 2),
        ((800, 800), (401, 1), 1),
        ((100, 100), (500, 500), 1),
        ((8000, 8000), (10, 10), 8),
        ((8, 8), None, 1),
    ],
)
def test_the_smallest_scale_that_is_at_least_the_size(
    stored: tuple[int, int], wanted: tuple[int, int] | None, scale: int
) -> None:
    payload = encoded(Image.new("RGB", stored[::-1]))
    [pixels] = decode_jpegs([payload], Wanted(size=wanted), None)
    assert pixels.shape == (-(-stored[0] // scale), -(-stored[1] // scale), 3)
