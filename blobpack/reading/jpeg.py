"""Decode JPEGs by simplejpeg: the pixels are those that Pillow decodes, in a third to two thirds of Pillow's time.

Strategy: Pillow and simplejpeg use one library, libjpeg-turbo, which gives both the same RGB for JPEGs that are stored as
YCbCr or grey. Other JPEGs are left to Pillow: CMYK differs by 1 between the two, and grey made of colours by up to 5.
simplejpeg refuses a JPEG if libjpeg-turbo warns of anything, such as missing bytes. Pillow accepts some of these, so they
are left to Pillow, too.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image

from blobpack._native.jpegs import JpegDecoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blobpack.reading.wanted import Wanted

# wanted mode → channels of the pixels of a colour JPEG, and of a grey one; 0: Pillow decodes it
CHANNELS: dict[str | None, tuple[int, int]] = {"RGB": (3, 3), None: (3, 1), "L": (0, 1)}

# bytes that AVX2 writes at once
ALIGNED = 32


def decode_jpegs(
    payloads: list[bytes], wanted: Wanted, outs: list[NDArray[np.uint8]] | None
) -> list[NDArray[np.uint8] | None]:
    """Decode those JPEGs among several images that simplejpeg decodes as Pillow does.

    Args:
        payloads: The bytes of images of any format.
        wanted: Mode, orientation and size.
        outs: An array for each image, all of one shape and dtype. If the pixels of an image have this shape, they are
            decoded into its array. The contents of an array that is not returned are undefined.

    Returns:
        The pixels of each image, turned, at the smallest scale that is at least the wanted size; None if Pillow must decode
        them.
    """
    decoder = _decoder_for(wanted)
    if decoder is None:
        return [None] * len(payloads)
    if outs is not None and not _takes_bytes(outs[0]):
        outs = None
    # to such addresses, libjpeg-turbo writes past the caches, which takes longer than decoding elsewhere and copying
    copies = outs is not None and outs[0].ctypes.data % ALIGNED == 0
    # Pillow warns of a larger image, or refuses it
    most = -1 if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS
    return decoder.decode(payloads, outs, copies=copies, pixels_max=most)


@lru_cache
def _decoder_for(wanted: Wanted) -> JpegDecoder | None:
    if wanted.mode not in CHANNELS:
        return None
    from_colour, from_grey = CHANNELS[wanted.mode]
    height, width = wanted.size or (0, 0)
    return JpegDecoder(
        simplejpeg.decode_jpeg,
        np.ndarray,
        np.empty,
        np.dtype(np.uint8),
        from_colour=from_colour,
        from_grey=from_grey,
        turns=wanted.apply_exif_orientation,
        height=height,
        width=width,
    )


def _takes_bytes(out: NDArray[np.uint8]) -> bool:
    """Return whether simplejpeg can decode into an array."""
    return out.dtype == np.uint8 and bool(out.flags.c_contiguous)
