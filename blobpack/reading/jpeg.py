"""Decode JPEGs by simplejpeg: the pixels are those that Pillow decodes, in a third to two thirds of Pillow's time.

Strategy: Pillow and simplejpeg use one library, libjpeg-turbo, which gives both the same RGB for JPEGs that are stored as
YCbCr or grey. Other JPEGs are left to Pillow: CMYK differs by 1 between the two, and grey made of colours by up to 5.
simplejpeg refuses a JPEG if libjpeg-turbo warns of anything, such as missing bytes. Pillow accepts some of these, so they
are left to Pillow, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from blobpack._native.facts import orientation_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blobpack.reading.wanted import Wanted

# Pillow, too, knows a JPEG by these bytes.
JPEG_MAGIC = b"\xff\xd8\xff"
# the colours in which simplejpeg decodes, by those that are stored and Pillow's mode that is wanted
COLOURS = {
    ("YCbCr", "RGB"): "RGB",
    ("YCbCr", None): "RGB",
    ("Gray", "RGB"): "RGB",
    ("Gray", "L"): "GRAY",
    ("Gray", None): "GRAY",
}
# Pillow's `draft` has these scales alone: an eighth, a quarter and a half of each side.
SCALES = (8, 4, 2)
# A JPEG consists of blocks of this many pixels on each side.
BLOCK_SIDE = 8


def decode_jpeg(
    payload: bytes, wanted: Wanted, out: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """Decode a JPEG.

    Args:
        payload: The bytes of an image.
        wanted: Mode, orientation and size.
        out: If the pixels have this array's shape and need not be turned, they are decoded into it, and it is returned.
            Its contents are undefined if None is returned.

    Returns:
        The pixels, turned, at the smallest scale that is at least the wanted size; None if Pillow must decode them.
    """
    if not payload.startswith(JPEG_MAGIC):
        return None
    orientation = orientation_of(payload) if wanted.apply_exif_orientation else 1
    if not orientation:
        return None
    try:
        height, width, stored, _ = simplejpeg.decode_jpeg_header(payload)
        colours = COLOURS.get((stored, wanted.mode))
        # Pillow warns of a larger image, or refuses it
        too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS
        if colours is None or too_large:
            return None
        # The usual case returns here: the steps below take 2 of the 24 µs for an image of 64 × 64 pixels.
        if orientation == 1 and out is None and wanted.size is None:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(payload, colours)
            return pixels if colours == "RGB" else pixels.reshape(height, width)
        scale = scale_for((height, width), wanted.stored_size(orientation))
        # simplejpeg takes the smallest of all eighths that is at least as large as asked. In an image smaller than a
        # block, two of these scales may have one size.
        if scale > 1 and max(height, width) < BLOCK_SIDE:
            return None
        sides = -(-height // scale), -(-width // scale)
        smallest = {"min_height": sides[0], "min_width": sides[1]} if scale > 1 else {}
        shape = (*sides, 3) if colours == "RGB" else sides
        buffer = out if orientation == 1 and _takes(out, shape) else None
        pixels = simplejpeg.decode_jpeg(payload, colours, buffer=buffer, **smallest)
    # libjpeg-turbo found a fault or something odd, or simplejpeg does not know this kind of JPEG
    except ValueError:
        return None
    if buffer is not None:
        return buffer
    return turned(pixels.reshape(shape), orientation)


def scale_for(stored: tuple[int, int], wanted: tuple[int, int] | None) -> int:
    """Return by how much a JPEG can be reduced while it is decoded, so that it remains at least as large as wanted.

    Args:
        stored: Height and width as stored.
        wanted: Height and width that are wanted, of the image as stored; None: those that are stored.

    Returns:
        8, 4, 2 or 1, as Pillow's `draft` chooses.
    """
    if wanted is None:
        return 1
    most = min(stored[0] // wanted[0], stored[1] // wanted[1])
    return next((scale for scale in SCALES if scale <= most), 1)


def turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Rotate or mirror pixels as an EXIF orientation, 1 to 8, demands; the result is contiguous."""
    if orientation > 4:  # 5 to 8 exchange height and width
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _takes(out: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> bool:
    """Return whether simplejpeg can decode into an array."""
    return (
        out is not None
        and out.shape == shape
        and out.dtype == np.uint8
        and bool(out.flags.c_contiguous)
    )
