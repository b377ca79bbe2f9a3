"""Decode images: from a member's payload to an array of pixels, by Pillow.

Strategy: payloads come in order from `read_many`, and threads decode them ahead of the caller, because Pillow
releases the GIL while it decodes. The bound on images decoded ahead bounds the memory.
"""

from __future__ import annotations

import io
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple, Unpack

from blobpack._native.facts import orientation_of
from blobpack.argument_order import is_name, is_several, recognise_swap
from blobpack.asked_members import checked_which, which_of
from blobpack.errors import ImageError
from blobpack.index.which import name_of
from blobpack.look_ahead import map_ahead
from blobpack.model import check_flag
from blobpack.opening.open import is_blob, opened, source_of
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.threads import processor_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

    from blobpack.model import CheckedWhich, Which
    from blobpack.stores.location import Location

DECODERS_MAX = 16
# Decoded images for each thread. An image is large (12 MP as RGB: 36 MB), so only one waits while the next is decoded.
DECODED_AHEAD = 2
# Pillow's modes with more than 8 bits a channel. Its conversions from these to 8 bits clip: all above 255 becomes white.
WIDE_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION_TAG = 0x0112


@recognise_swap(blob=is_blob, which=is_name)
@with_remote_options
def read_image(
    blob: Reader | str | os.PathLike[str],
    which: Which,
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    **remote: Unpack[RemoteOptions],
) -> NDArray[np.uint8]:
    """Read one image by one ranged read, and decode it.

    Args:
        blob: An open blob or collection; or a path or URL that `open` opens, for this one image.
        which: The member's name, its Member, or its row.
        mode: Pillow's mode to convert to: "RGB", "L", "RGBA" and so on; None leaves the image as it is stored.
        apply_exif_orientation: Rotate or mirror the image as its EXIF or XMP orientation demands.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        (height, width, 3) uint8, RGB, top row first. Other modes have other numbers of channels; "L" is (height,
        width). Of 16 bits, the upper 8 are kept. With mode=None the dtype is the image's own: 16-bit images are uint16.
        For an animation, the first frame is returned. Each pixel depends only on its own stored value: conversions
        don't dither or stretch.

    Raises:
        MemberNotFoundError: there is no such member.
        IndexError: there is no such row.
        ImageError: the payload is not an image that Pillow can decode, or convert to this mode. Pixels
            that are 32-bit, signed or floating-point numbers can only be read with mode=None.
        TypeError: an argument has a wrong type.
        ValueError: Pillow has no such mode.
        BlobChangedError: the blob is no longer the one that was opened.
        StorageError: the store failed.
    """
    found = source_of("blob", blob, Access.of("read_image", remote))
    asked = checked_which(which)
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    with opened(found) as source:
        payload = source.read(asked)
        return decode_image(
            payload,
            _Named(source, asked),
            mode=mode,
            apply_exif_orientation=apply_exif_orientation,
        )


@recognise_swap(blob=is_blob, several=is_several)
@with_remote_options
def read_images(
    blob: Reader | str | os.PathLike[str],
    several: Iterable[Which],
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    **remote: Unpack[RemoteOptions],
) -> Iterator[NDArray[np.uint8]]:
    """Read images, in the order asked.

    Payloads are read by `read_many`, and decoded by one thread for each processor, some images ahead of the caller.

    Args:
        blob: An open blob or collection; or a path or URL that `open` opens.
        several: Names, Members or rows; an index, such as a selection, holds Members.
        mode: Pillow's mode to convert to, or None; see read_image.
        apply_exif_orientation: Rotate or mirror each image as its EXIF or XMP orientation demands.
        remote: How remote blobs are reached: see RemoteOptions.

    Yields:
        Arrays of the shape and dtype that read_image returns.

    Raises:
        BlobpackError: an image can't be read, for a reason that read_image lists. The iterator raises it when it
            reaches that image.
        IndexError: there is no such row; the iterator raises it when it reaches that row.
        TypeError: an argument has a wrong type.
        ValueError: Pillow has no such mode.
    """
    # checked here and not in the generator, whose code runs only when the first image is taken
    found = source_of("blob", blob, Access.of("read_images", remote))
    if isinstance(found, Reader):
        wanted = found._asked(several, "read_image")
    else:
        wanted = which_of(several, "read_image")
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    return _images(found, wanted, mode, apply_exif_orientation)


def _images(
    blob: Reader | Location,
    several: Iterator[CheckedWhich],
    mode: str | None,
    apply_exif_orientation: bool,
) -> Iterator[NDArray[np.uint8]]:
    with opened(blob) as source:
        # several may be an iterator, and each of them is needed twice: to read its payload, and in a message
        wanted, asked = tee(several)

        def decode(read: tuple[bytes, CheckedWhich]) -> NDArray[np.uint8]:
            payload, which = read
            return decode_image(
                payload,
                _Named(source, which),
                mode=mode,
                apply_exif_orientation=apply_exif_orientation,
            )

        threads = processor_count(DECODERS_MAX)
        yield from map_ahead(
            decode,
            zip(source.read_many(wanted), asked, strict=False),
            threads=threads,
            # Without a bound, threads would decode all images before a slow caller takes them.
            most=threads * DECODED_AHEAD,
            name="decode",
        )


class _Named(NamedTuple):
    """Names an image in messages."""

    source: Reader
    which: CheckedWhich

    def __str__(self) -> str:
        # only here: looking up the name of a row takes time
        return f"{self.source.url}: {quoted(name_of(self.source.index, self.which))}"


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


def decode_image(
    payload: bytes, where: object, *, mode: str | None = "RGB", apply_exif_orientation: bool = True
) -> NDArray[np.uint8]:
    """Decode an image's bytes; see read_image.

    Args:
        payload: The image as it is stored.
        where: Names the image in messages, by its str().
        mode: Pillow's mode to convert to, or None.
        apply_exif_orientation: Rotate or mirror the image as its EXIF orientation demands.

    Raises:
        ImageError: the bytes are not an image that Pillow can decode.
    """
    # imported here, so that importing blobpack, and opening and packing blobs, need neither NumPy (131 ms) nor Pillow
    import numpy as np
    from PIL import Image
    from PIL.Image import fromarray

    try:
        with Image.open(io.BytesIO(payload)) as image:
            bits = _stored_bits(image)
            shown = _turned(image, payload) if apply_exif_orientation else _stored(image)
            if mode in {None, shown.mode}:
                pixels = np.array(shown)
                # of a TIFF, they may be in the other byte order, which other libraries refuse
                return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            if shown.mode in WIDE_MODES and mode not in WIDE_MODES:
                if not bits:
                    raise ImageError(
                        f"{where}: its pixels are 32-bit, signed or floating-point numbers, so it is not known "
                        f"which of them {mode} would show as black and as white: read it with mode=None"
                    )
                shown = fromarray((np.asarray(shown) >> (bits - 8)).astype(np.uint8))
            # of an RGBA image alone, Pillow would choose a palette for its pixels
            if mode == "P" and shown.mode == "RGBA":
                shown = shown.convert("RGB")
            # no dithering, as that would let a pixel depend on its neighbours
            return np.array(shown.convert(mode, dither=Image.Dither.NONE))
    # too little memory is not the image's fault
    except (MemoryError, ImageError):
        raise
    # a damaged file makes Pillow's plugins raise anything: OSError, SyntaxError, struct.error, ValueError …
    except Exception as exc:
        raise ImageError(f"{where}: not an image that can be decoded: {exc}") from exc


def _stored_bits(image: ImageFile) -> int:
    """Return how many bits a channel of a wide mode has that are stored as whole numbers from 0, for black, up.

    Returns:
        12 or 16; 0 for other numbers. Without meaning for an image of another mode.
    """
    if image.mode.startswith("I;16"):
        return 12 if any("I;12" in (tile[3] or ()) for tile in image.tile) else 16
    # Pillow scales the numbers of a PNM to 16 bits, and its older versions hold a PNG of 16 bits as numbers of 32
    return 16 if image.mode == "I" and image.format in {"PNG", "PPM"} else 0


def _turned(image: ImageFile, payload: bytes) -> Image:
    """Return an image as it is shown, turned as its facts say."""
    from PIL import ImageOps
    from PIL.Image import Transpose

    # The standard of AVIF lets only the properties irot and imir turn an image. Pillow hands them on as EXIF.
    if image.format == "AVIF":
        image.info.pop("xmp", None)
    orientation = orientation_of(payload)
    if not orientation:
        return ImageOps.exif_transpose(image)
    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation]) if orientation in methods else image


def _stored(image: ImageFile) -> Image:
    """Return an image as it is stored."""
    # Pillow turns a TIFF when it loads the pixels, if the orientation is still there
    if image.format == "TIFF":
        image.getexif().pop(ORIENTATION_TAG, None)
        image.load()
        # the size of `image` itself is that of the turned one
        return image.copy()
    return image
