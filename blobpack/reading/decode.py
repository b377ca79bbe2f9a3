"""Decode images' bytes to arrays of pixels: JPEGs by simplejpeg where it decodes as Pillow does, all others by Pillow.

This module imports NumPy and Pillow (131 ms). So modules that can do without it import it inside a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.reading.by_pillow import decode_by_pillow, resized_pixels
from blobpack.reading.jpeg import decode_jpegs
from blobpack.reading.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    outs = None if out is None else [out]
    return next(decode_images([payload], lambda _: where, wanted or Wanted(), outs))


def decode_images(
    payloads: list[bytes],
    where: Callable[[int], object],
    wanted: Wanted,
    outs: list[NDArray[np.uint8]] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Decode the bytes of several images, JPEGs all at once; yield the pixels of each.

    Args:
        payloads: The images as they are stored.
        where: Returns an object whose str() names image i in messages.
        wanted: Mode, orientation and size.
        outs: An array for each image to decode into, all of one shape and dtype; None: new arrays.

    Raises:
        ImageError: the bytes are not an image that Pillow can decode.
        ValueError: the pixels have another shape or dtype than the image's array.
    """
    for i, pixels in enumerate(decode_jpegs(payloads, wanted, outs)):
        if pixels is None:
            pixels = decode_by_pillow(payloads[i], where(i), wanted)
        elif wanted.size is not None and pixels.shape[:2] != wanted.size:
            pixels = resized_pixels(pixels, wanted.size)
        if outs is None or pixels is outs[i]:
            yield pixels
        else:
            yield _copied(pixels, outs[i], where(i))


def _copied(pixels: NDArray[np.uint8], out: NDArray[np.uint8], where: object) -> NDArray[np.uint8]:
    """Copy pixels into an array of their shape and dtype."""
    if (pixels.shape, pixels.dtype) != (out.shape, out.dtype):
        raise ValueError(
            f"{where}: its pixels have the shape {pixels.shape} and dtype {pixels.dtype}, but out has {out.shape} and "
            f"{out.dtype}"
        )
    out[...] = pixels
    return out
