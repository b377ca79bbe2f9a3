"""The form in which an image is wanted, and the checks of the arguments for it."""

from __future__ import annotations

from typing import NamedTuple

from blobpack.model import check_number, shown

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
