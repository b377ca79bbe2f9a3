"""Read images: payloads of members, decoded to arrays of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from blobpack.argument_order import is_name, is_several, recognise_swap
from blobpack.asked_members import checked_which, which_of
from blobpack.model import check_flag
from blobpack.opening.open import is_blob, opened, source_of
from blobpack.opening.reader import Reader
from blobpack.reading.decode_ahead import Named, decode_ahead
from blobpack.reading.wanted import Wanted, check_mode, check_out, check_size
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import Which


@recognise_swap(blob=is_blob, which=is_name)
@with_remote_options
def read_image(
    blob: Reader | str | os.PathLike[str],
    which: Which,
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    size: tuple[int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
    **remote: Unpack[RemoteOptions],
) -> NDArray[np.uint8]:
    """Read one image by one ranged read, and decode it.

    Args:
        blob: An open blob or collection; or a path or URL that `open` opens, for this one image.
        which: The member's name, its Member, or its row.
        mode: Pillow's mode to convert to: "RGB", "L", "RGBA" and so on; None leaves the image as it is stored.
        apply_exif_orientation: Rotate or mirror the image as its EXIF or XMP orientation demands.
        size: (height, width) to resize to, without regard to the aspect ratio; None: the image's own size. A JPEG is
            decoded at the smallest of Pillow's scales (1, 1/2, 1/4, 1/8) that is at least this size. The pixels are
            those of Pillow's `draft(None, (width, height))`, conversion to the mode, and `resize((width, height),
            Image.Resampling.BILINEAR)`.
        out: Array of the shape and dtype of the result, to which the pixels are written. After an error, its contents are
            undefined.
        remote: How remote blobs are reached: see RemoteOptions.

    Returns:
        (height, width, 3) uint8, RGB, top row first; `out`, if it was given. Other modes have other numbers of channels;
        "L" is (height, width). Of 16 bits, the upper 8 are kept. With mode=None the dtype is the image's own: 16-bit
        images are uint16. For an animation, the first frame is returned. Unless it is resized, each pixel depends only
        on its own stored value: conversions don't dither or stretch.

    Raises:
        MemberNotFoundError: there is no such member.
        IndexError: there is no such row.
        ImageError: the payload is not an image that Pillow can decode, or convert to this mode. Pixels
            that are 32-bit, signed or floating-point numbers can only be read with mode=None.
        TypeError: an argument has a wrong type.
        ValueError: Pillow has no such mode, a number of `size` is not from 1 to 65,535, or `out` has another shape or
            dtype than the image, or is read-only.
        BlobChangedError: the blob is no longer the one that was opened.
        StorageError: the store failed.
    """
    found = source_of("blob", blob, Access.of("read_image", remote))
    asked = checked_which(which)
    wanted = _checked(mode, apply_exif_orientation, size)
    check_out(out)
    # imported after the checks: it imports NumPy and Pillow
    from blobpack.reading.decode import decode_image

    with opened(found) as source:
        return decode_image(source.read(asked), Named(source, asked), wanted, out)


@recognise_swap(blob=is_blob, several=is_several)
@with_remote_options
def read_images(
    blob: Reader | str | os.PathLike[str],
    several: Iterable[Which],
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    size: tuple[int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
    **remote: Unpack[RemoteOptions],
) -> Iterator[NDArray[np.uint8]]:
    """Read images, in the order asked.

    Payloads are read by `read_many`, and decoded some images ahead of the caller. As many threads decode as there are
    processors, at most 16. The caller's thread is one of them: it decodes whenever it would otherwise wait.

    Args:
        blob: An open blob or collection; or a path or URL that `open` opens.
        several: Names, Members or rows; an index, such as a selection, holds Members.
        mode: Pillow's mode to convert to, or None; see read_image.
        apply_exif_orientation: Rotate or mirror each image as its EXIF or XMP orientation demands.
        size: (height, width) to resize each image to, or None; see read_image.
        out: Array of at least as many images as are asked for, such as (n, height, width, 3) uint8. Image i is written to
            `out[i]`, before the iterator yields it. Images ahead of the one that is yielded may be written, too.
        remote: How remote blobs are reached: see RemoteOptions.

    Yields:
        Arrays of the shape and dtype that read_image returns; `out[i]`, if `out` was given.

    Raises:
        BlobpackError: an image can't be read, for a reason that read_image lists. The iterator raises it when it
            reaches that image.
        IndexError: there is no such row; the iterator raises it when it reaches that row.
        TypeError: an argument has a wrong type.
        ValueError: an argument is wrong, for a reason that read_image lists, or `out` has room for fewer images.
    """
    # checked here and not in the generator, whose code runs only when the first image is taken
    found = source_of("blob", blob, Access.of("read_images", remote))
    if isinstance(found, Reader):
        asked = found._asked(several, "read_image")
    else:
        asked = which_of(several, "read_image")
    wanted = _checked(mode, apply_exif_orientation, size)
    check_out(out)
    if out is not None and out.ndim < 3:
        raise ValueError(
            f"out must have room for several images, such as (n, height, width, 3), and its shape is {out.shape}"
        )
    return decode_ahead(found, asked, wanted, out)


def _checked(mode: str | None, apply_exif_orientation: bool, size: object) -> Wanted:
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    return Wanted(mode, apply_exif_orientation, check_size(size))
