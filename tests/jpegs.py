"""JPEGs of many kinds, and the judge of their pixels: Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

import blobpack
from blobpack.reading.decode import decode_image
from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted

if TYPE_CHECKING:
    import random


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
