"""Decode an image of any kind by Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from blobpack._native.facts import orientation_of
from blobpack.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    from blobpack.reading.wanted import Wanted

# Pillow's modes with more than 8 bits a channel. Its conversions from these to 8 bits clip: all above 255 becomes white.
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION_TAG = 0x0112


def decode_by_pillow(payload: bytes, where: object, wanted: Wanted) -> NDArray[np.uint8]:
    """Decode an image of any kind.

    Raises:
        ImageError: Pillow can't.
    """
    try:
        with Image.open(io.BytesIO(payload)) as image:
            bits = _stored_bits(image)
            if wanted.size is not None and image.format in {"JPEG", "MPO"}:
                orientation = 1
                if wanted.apply_exif_orientation:
                    orientation = orientation_of(payload) or image.getexif().get(ORIENTATION_TAG, 1)
                height, width = wanted.stored_size(orientation) or wanted.size
                image.draft(None, (width, height))
            stored = _turned(image, payload) if wanted.apply_exif_orientation else _stored(image)
            converted = _converted(stored, bits, wanted.mode, where)
            if wanted.size is not None:
                converted = _resized(converted, wanted.size)
            pixels = np.array(converted)
            # of a TIFF, they may be in the other byte order, which other libraries refuse
            return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    # too little memory is not the image's fault
    except (MemoryError, ImageError):
        raise
    # a damaged file makes Pillow's plugins raise anything: OSError, SyntaxError, struct.error, ValueError …
    except Exception as exc:
        raise ImageError(f"{where}: not an image that can be decoded: {exc}") from exc


def _converted(image: Image.Image, bits: int, mode: str | None, where: object) -> Image.Image:
    """Convert an image to a mode.

    Args:
        image: As it is stored, or turned.
        bits: Of each channel, if its mode is wide; see _stored_bits.
        mode: Pillow's mode, or None.
        where: Names the image in messages.
    """
    if mode in {None, image.mode}:
        return image
    if image.mode in WIDE_MODES and mode not in WIDE_MODES:
        if not bits:
            raise ImageError(
                f"{where}: its pixels are 32-bit, signed or floating-point numbers, so it is not known "
                f"which of them {mode} would show as black and as white: read it with mode=None"
            )
        image = Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    # of an RGBA image alone, Pillow would choose a palette for its pixels
    if mode == "P" and image.mode == "RGBA":
        image = image.convert("RGB")
    # no dithering, as that would let a pixel depend on its neighbours
    return image.convert(mode, dither=Image.Dither.NONE)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image to a height and width."""
    height, width = size
    # Pillow's filter grows with the reduction, so that no pixel is left out
    return image.resize((width, height), Image.Resampling.BILINEAR)


def resized_pixels(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize RGB or grey pixels to a height and width."""
    return np.array(_resized(Image.fromarray(pixels), size))


def _stored_bits(image: ImageFile) -> int:
    """Return how many bits a channel of a wide mode has that are stored as whole numbers from 0, for black, up.

    Returns:
        12 or 16; 0 for other numbers. Without meaning for an image of another mode.
    """
    if image.mode.startswith("I;16"):
        return 12 if any("I;12" in (tile[3] or ()) for tile in image.tile) else 16
    # Pillow scales the numbers of a PNM to 16 bits, and its older versions hold a PNG of 16 bits as numbers of 32
    return 16 if image.mode == "I" and image.format in {"PNG", "PPM"} else 0


def _turned(image: ImageFile, payload: bytes) -> Image.Image:
    """Return an image as it is shown, turned as its facts say."""
    # The standard of AVIF lets only the properties irot and imir turn an image. Pillow hands them on as EXIF.
    if image.format == "AVIF":
        image.info.pop("xmp", None)
    orientation = orientation_of(payload)
    if not orientation:
        return ImageOps.exif_transpose(image)
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image


def _stored(image: ImageFile) -> Image.Image:
    """Return an image as it is stored."""
    # Pillow turns a TIFF when it loads the pixels, if the orientation is still there
    if image.format == "TIFF":
        image.getexif().pop(ORIENTATION_TAG, None)
        image.load()
        # the size of `image` itself is that of the turned one
        return image.copy()
    return image
