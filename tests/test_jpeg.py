"""JPEGs that simplejpeg decodes have Pillow's pixels, and the others are left to Pillow."""

from __future__ import annotations

import io
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
from PIL import Image, ImageOps

import blobpack
from blobpack.reading.decode import decode_image
from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted

# a folder of JPEGs to decode, besides those of this Python installation
MORE = "BLOBPACK_JPEGS"
CASES = 600
SIZES = [None, (1, 1), (7, 5), (16, 16), (40, 64), (100, 30), (300, 300)]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.simplefilter("ignore")  # Pillow's, of what is odd


def by_pillow(payload: bytes, wanted: Wanted) -> np.ndarray | None:
    """The pixels by the calls of Pillow that the documentation names; None if it refuses."""
    try:
        with Image.open(io.BytesIO(payload)) as image:
            if wanted.size is not None:
                tag = image.getexif().get(0x0112, 1) if wanted.apply_exif_orientation else 1
                height, width = wanted.size[::-1] if tag in (5, 6, 7, 8) else wanted.size
                image.draft(None, (width, height))
            shown = ImageOps.exif_transpose(image) if wanted.apply_exif_orientation else image
            if wanted.mode is not None:
                shown = shown.convert(wanted.mode)
            if wanted.size is not None:
                shown = shown.resize(wanted.size[::-1], Image.Resampling.BILINEAR)
            return np.array(shown)
    except Exception:  # of any kind: Pillow decodes it, or it does not
        return None


def judge(payload: bytes, wanted: Wanted | None = None) -> str:
    """Compare with Pillow; return "simplejpeg", "Pillow" or "refused", by what decoded it."""
    wanted = wanted or Wanted()
    expected = by_pillow(payload, wanted)
    try:
        pixels = decode_image(payload, "x", wanted)
    except blobpack.ImageError:
        assert expected is None, "Pillow decodes it"
        return "refused"
    assert expected is not None, "Pillow refuses it"
    assert (pixels.shape, pixels.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return "Pillow" if decode_jpegs([payload], wanted, None)[0] is None else "simplejpeg"


def picture(rng: random.Random, width: int, height: int) -> Image.Image:
    """Noise, or a smooth picture, in colour."""
    shrink = rng.choice((1, 4, 16))
    sides = -(-width // shrink), -(-height // shrink)
    noise = Image.frombytes("RGB", sides, rng.randbytes(3 * sides[0] * sides[1]))
    return noise.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def random_jpeg(rng: random.Random, *, largest: int = 199) -> bytes:
    image = picture(rng, rng.randint(1, largest), rng.randint(1, largest))
    options: dict[str, object] = {
        "quality": rng.randint(5, 100),
        "progressive": rng.random() < 0.3,
        "optimize": rng.random() < 0.3,
        "restart_marker_blocks": rng.choice((0, 0, 0, 1, 5)),
    }
    if rng.random() < 0.2:
        image = image.convert("L")
    else:
        options["subsampling"] = rng.choice((0, 1, 2))
    if rng.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = rng.randint(0, 9)
        options["exif"] = exif
    return encoded(image, **options)


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


# Headers that are made by hand


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


# Groups


def test_a_group_has_the_pixels_of_each_image_alone() -> None:
    rng = random.Random(12)
    payloads = [random_jpeg(rng, largest=70) for _ in range(40)]
    payloads[3] = payloads[9][:200]
    payloads[5] = encoded(picture(rng, 20, 20).convert("CMYK"))
    payloads[7] = b"no image"
    payloads[11] = b""
    for wanted in (Wanted(), Wanted(None), Wanted("L"), Wanted("RGBA"), Wanted(size=(9, 17))):
        group = decode_jpegs(payloads, wanted, None)
        for payload, pixels in zip(payloads, group, strict=True):
            [alone] = decode_jpegs([payload], wanted, None)
            assert (pixels is None) == (alone is None)
            assert pixels is None or np.array_equal(pixels, alone)
    assert decode_jpegs([], Wanted(), None) == []


def test_a_group_is_decoded_into_arrays_of_its_shape() -> None:
    rng = random.Random(13)
    exif = Image.Exif()
    exif[0x0112] = 6
    small, large = (picture(rng, *sides) for sides in ((24, 16), (16, 24)))
    payloads = [encoded(small), encoded(large), encoded(large, exif=exif), b"", encoded(small)]
    expected = decode_jpegs(payloads, Wanted(), None)
    batch = np.zeros((5, 16, 24, 3), np.uint8)
    outs = list(batch)
    decoded = decode_jpegs(payloads, Wanted(), outs)
    assert [pixels is out for pixels, out in zip(decoded, outs, strict=True)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    for pixels, same in zip(decoded, expected, strict=True):
        assert pixels is same is None or np.array_equal(pixels, same)
    assert np.array_equal(batch[[0, 2, 4]], np.stack([expected[i] for i in (0, 2, 4)]))
    # arrays that simplejpeg can't write to are left alone
    for other in (
        np.zeros((5, 16, 24, 3), np.float32),
        np.zeros((5, 16, 24, 6), np.uint8)[..., ::2],
    ):
        decoded = decode_jpegs(payloads, Wanted(), list(other))
        assert all(
            pixels is None or np.array_equal(pixels, same)
            for pixels, same in zip(decoded, expected, strict=True)
        )
        assert not other.any()


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_memory_beside_an_array_that_is_given_is_left_alone(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    payload = encoded(picture(random.Random(14), 65, 64).convert(mode), exif=exif)
    wanted = Wanted(mode)
    [expected] = decode_jpegs([payload], wanted, None)
    for start in range(64):
        memory = np.full(64 + expected.size + 64, 77, np.uint8)
        end = start + expected.size
        out = memory[start:end].reshape(expected.shape)
        [pixels] = decode_jpegs([payload], wanted, [out])
        assert pixels is out
        assert np.array_equal(out, expected)
        assert (memory[:start] == 77).all()
        assert (memory[end:] == 77).all()
