"""Read images: payloads of members, decoded to arrays of pixels.

Strategy: payloads come in order from `read_many`, and threads decode them ahead of the caller, because the decoders
release the GIL. A thread decodes a group of small images at once. The bounds on a group and on groups decoded ahead bound
the memory.
"""

from __future__ import annotations

from functools import cache
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

from blobpack.argument_order import is_name, is_several, recognise_swap
from blobpack.asked_members import checked_which, which_of
from blobpack.index.which import name_of
from blobpack.look_ahead import map_ahead
from blobpack.model import check_flag
from blobpack.opening.open import check_source, is_blob, opened
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.reading.decode import Wanted, check_mode, check_out, check_size, decode_image
from blobpack.threads import processor_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import CheckedWhich, Which

DECODERS_MAX = 16
# Groups of decoded images for each thread. A group may be one image of 36 MB (12 MP as RGB), so only one waits while the
# next is decoded.
DECODED_AHEAD = 2
# To hand one image over to a thread takes about 20 µs, and to decode one of 4 KB about 80. So a thread gets several small
# images at once, and large ones alone.
GROUP_IMAGES_MAX = 16
GROUP_BYTES_MAX = 64 << 10
# More than all small images ahead of the caller take, and little enough for any process.
KEPT_BYTES = 8 << 20


@recognise_swap(blob=is_blob, which=is_name)
def read_image(
    blob: Reader | str | os.PathLike[str],
    which: Which,
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    size: tuple[int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
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
    check_source("blob", blob)
    asked = checked_which(which)
    wanted = _checked(mode, apply_exif_orientation, size)
    check_out(out)
    with opened(blob) as source:
        return decode_image(source.read(asked), _Named(source, asked), wanted, out)


@recognise_swap(blob=is_blob, several=is_several)
def read_images(
    blob: Reader | str | os.PathLike[str],
    several: Iterable[Which],
    *,
    mode: str | None = "RGB",
    apply_exif_orientation: bool = True,
    size: tuple[int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Read images, in the order asked.

    Payloads are read by `read_many`, and decoded by one thread for each processor, some images ahead of the caller.

    Args:
        blob: An open blob or collection; or a path or URL that `open` opens.
        several: Names, Members or rows; an index, such as a selection, holds Members.
        mode: Pillow's mode to convert to, or None; see read_image.
        apply_exif_orientation: Rotate or mirror each image as its EXIF or XMP orientation demands.
        size: (height, width) to resize each image to, or None; see read_image.
        out: Array of at least as many images as are asked for, such as (n, height, width, 3) uint8. Image i is written to
            `out[i]`, before the iterator yields it. Images ahead of the one that is yielded may be written, too.

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
    check_source("blob", blob)
    if isinstance(blob, Reader):
        asked = blob._asked(several, "read_image")
    else:
        asked = which_of(several, "read_image")
    wanted = _checked(mode, apply_exif_orientation, size)
    check_out(out)
    if out is not None and out.ndim < 3:
        raise ValueError(
            f"out must have room for several images, such as (n, height, width, 3), and its shape is {out.shape}"
        )
    return _images(blob, asked, wanted, out)


def _checked(mode: str | None, apply_exif_orientation: bool, size: object) -> Wanted:
    check_mode(mode)
    check_flag("apply_exif_orientation", apply_exif_orientation)
    return Wanted(mode, apply_exif_orientation, check_size(size))


class _Named(NamedTuple):
    """Names an image in messages."""

    source: Reader
    which: CheckedWhich

    def __str__(self) -> str:
        # only here: looking up the name of a row takes time
        return f"{self.source.url}: {quoted(name_of(self.source.index, self.which))}"


class _Stored(NamedTuple):
    """An image to decode.

    Attributes:
        payload: The bytes.
        name: Names it in messages.
        out: Where its pixels go; None: into a new array.
    """

    payload: bytes
    name: _Named
    out: NDArray[np.uint8] | None


class _Decoded(NamedTuple):
    """A group of decoded images, up to the first that failed, and its error."""

    images: list[NDArray[np.uint8]]
    failure: Exception | None


def _images(
    blob: Reader | str | os.PathLike[str],
    several: Iterator[CheckedWhich],
    wanted: Wanted,
    out: NDArray[np.uint8] | None,
) -> Iterator[NDArray[np.uint8]]:
    def decode(group: list[_Stored]) -> _Decoded:
        images: list[NDArray[np.uint8]] = []
        for image in group:
            try:
                images.append(decode_image(image.payload, image.name, wanted, image.out))
            # raised where its image would have been yielded
            except Exception as exc:
                return _Decoded(images, exc)
        return _Decoded(images, None)

    _keep_freed_memory()
    with opened(blob) as source:
        threads = processor_count(DECODERS_MAX)
        for decoded in map_ahead(
            decode,
            _grouped(_stored_images(source, several, out)),
            threads=threads,
            # Without a bound, threads would decode all images before a slow caller takes them.
            most=threads * DECODED_AHEAD,
            name="decode",
        ):
            yield from decoded.images
            if decoded.failure is not None:
                try:
                    raise decoded.failure
                finally:
                    # else this frame and the traceback, which refer to each other, would keep the images in memory
                    del decoded


@cache
def _keep_freed_memory() -> None:
    """Let the process keep some memory that it frees, for the next images, instead of returning it to the system."""
    import numpy as np

    # By default, glibc returns more than 128 KiB of free memory at once, and the system clears it again for the next
    # images: 15 of 91 µs for an image of 128 by 128 pixels. When a block is freed that was mapped by itself, glibc raises
    # its limit to twice the block's size (mallopt(3), M_TRIM_THRESHOLD). The block is never touched, so it takes no
    # memory. Other libraries of C do nothing here.
    np.empty(KEPT_BYTES, np.uint8)


def _stored_images(
    source: Reader, several: Iterator[CheckedWhich], out: NDArray[np.uint8] | None
) -> Iterator[_Stored]:
    """Read payloads, in the order asked."""
    # several may be an iterator, and each of them is needed twice: to read its payload, and in a message
    wanted, asked = tee(several)
    for i, (payload, which) in enumerate(zip(source.read_many(wanted), asked, strict=False)):
        name = _Named(source, which)
        if out is not None and i == len(out):
            raise ValueError(f"{name}: out has room for {i} images, and this is one more")
        yield _Stored(payload, name, None if out is None else out[i])


def _grouped(images: Iterator[_Stored]) -> Iterator[list[_Stored]]:
    """Yield groups of images. The first groups are smaller, so that the first image can be taken soon."""
    group: list[_Stored] = []
    size, most = 0, 1
    try:
        for image in images:
            group.append(image)
            size += len(image.payload)
            if len(group) == most or size >= GROUP_BYTES_MAX:
                yield group
                group, size, most = [], 0, min(2 * most, GROUP_IMAGES_MAX)
    except Exception:
        # the images before the one that can't be read come first
        if group:
            yield group
        raise
    if group:
        yield group
