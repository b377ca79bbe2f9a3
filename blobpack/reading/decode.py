"""Decode an image's bytes to an array of pixels: JPEGs by simplejpeg where it decodes as Pillow does, all others by Pillow.

This module imports NumPy and Pillow (131 ms). So modules that can do without it import it inside a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.reading.by_pillow import decode_by_pillow, resized_pixels
from blobpack.reading.jpeg import decode_jpeg
from blobpack.reading.wanted import Wanted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decode_image(
    payload: bytes,
    where: object,
    wanted: Wanted | None = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode an image's bytes; see read_image.

    Args:
        payload: The image as it is stored.
        where: Names the image in messages, by its str().
        wanted: Mode, orientation and size; None: RGB, turned, of the image's own size.
        out: Array to decode into; None: a new one.

    Returns:
        The pixels; `out`, if it was given.

    Raises:
        ImageError: the bytes are not an image that Pillow can decode.
        ValueError: the pixels have another shape or dtype than `out`.
    """
    wanted = wanted or Wanted()
    pixels = decode_jpeg(payload, wanted, out)
    if pixels is None:
        pixels = decode_by_pillow(payload, where, wanted)
    elif wanted.size is not None and pixels.shape[:2] != wanted.size:
        pixels = resized_pixels(pixels, wanted.size)
    return pixels if out is None or pixels is out else _copied(pixels, out, where)


def _copied(pixels: NDArray[np.uint8], out: NDArray[np.uint8], where: object) -> NDArray[np.uint8]:
    """Copy pixels into an array of their shape and dtype."""
    if (pixels.shape, pixels.dtype) != (out.shape, out.dtype):
        raise ValueError(
            f"{where}: its pixels have the shape {pixels.shape} and dtype {pixels.dtype}, but out has {out.shape} and "
            f"{out.dtype}"
        )
    out[...] = pixels
    return out
