"""Decode an image's bytes to an array of pixels: JPEGs by simplejpeg where it decodes as Pillow does, all others by Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from blobpack.model import check_number, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# the largest width or height of a JPEG, and of a WebP a fourth
SIDE_MAX = 65_535


class Wanted(NamedTuple):
    """The form in which an image is wanted.

    Attributes:
        mode: Pillow's mode to convert to; None: the image's own.
        apply_exif_orientation: Whether the image is turned as its EXIF or XMP orientation demands.
        size: Height and width to resize to, as shown; None: the image's own.
    """

    mode: str | None = "RGB"
    apply_exif_orientation: bool = True
    size: tuple[int, int] | None = None

    def stored_size(self, orientation: int) -> tuple[int, int] | None:
        """Return the wanted height and width of the image as it is stored."""
        return self.size[::-1] if self.size and orientation in (5, 6, 7, 8) else self.size


def check_mode(mode: str | None) -> None:
    """Check that a mode is one of Pillow's, or None.

    Raises:
        ValueError: Pillow has no such mode.
    """
    from PIL import Image, ImageMode

    if mode is None:
        return
    try:
        ImageMode.getmode(mode)
    except (KeyError, TypeError):
        modes = ", ".join(map(repr, Image.MODES))
        raise ValueError(f"mode must be None or one of Pillow's, {modes}, not {mode!r}") from None


def check_size(size: object) -> tuple[int, int] | None:
    """Check that a size is (height, width), or None, and return it.

    Raises:
        TypeError: the size is not a pair of whole numbers.
        ValueError: a number is not from 1 to 65,535.
    """
    if size is None:
        return None
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(f"size must be (height, width) or None, not {shown(size)}")
    for side in size:
        check_number("each number of size", side, 1, SIDE_MAX)
    return int(size[0]), int(size[1])


def check_out(out: object) -> None:
    """Check that pixels can be written to an array, or that it is None.

    Raises:
        TypeError: this is no NumPy array.
        ValueError: the array is read-only.
    """
    import numpy as np

    if out is None:
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array or None, not {shown(out)}")
    if not out.flags.writeable:
        raise ValueError("out must be an array that can be written to, and this one is read-only")


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
    # imported here, so that importing blobpack, and opening and packing blobs, need neither NumPy (131 ms) nor Pillow
    from blobpack.reading.jpeg import decode_jpeg

    wanted = wanted or Wanted()
    pixels = decode_jpeg(payload, wanted, out)
    if pixels is None:
        from blobpack.reading.by_pillow import decode_by_pillow

        pixels = decode_by_pillow(payload, where, wanted)
    elif wanted.size is not None and pixels.shape[:2] != wanted.size:
        from blobpack.reading.by_pillow import resized_pixels

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
