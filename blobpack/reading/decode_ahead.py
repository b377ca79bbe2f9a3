"""Decode images ahead of the caller.

Strategy: payloads come in order from `read_many`, and threads decode them, because the decoders release the GIL. A thread
decodes a group of small images at once. The bounds on a group and on groups decoded ahead bound the memory.
"""

from __future__ import annotations

from functools import cache
from itertools import tee
from typing import TYPE_CHECKING, NamedTuple

from blobpack.index.which import name_of
from blobpack.look_ahead import map_ahead
from blobpack.opening.open import opened
from blobpack.quoting import quoted
from blobpack.reading.decode import decode_image
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import CheckedWhich
    from blobpack.opening.reader import Reader
    from blobpack.reading.decode import Wanted
    from blobpack.stores.location import Location

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


class Named(NamedTuple):
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
    name: Named
    out: NDArray[np.uint8] | None


class _Decoded(NamedTuple):
    """A group of decoded images, up to the first that failed, and its error."""

    images: list[NDArray[np.uint8]]
    failure: Exception | None


def decode_ahead(
    blob: Reader | Location,
    several: Iterator[CheckedWhich],
    wanted: Wanted,
    out: NDArray[np.uint8] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Read and decode images, in the order asked; see read_images.

    Args:
        blob: An open blob or collection, or its place.
        several: What names the images.
        wanted: Mode, orientation and size.
        out: Array to whose rows the images are written; None: to new arrays.
    """

    def decode(group: list[_Stored]) -> _Decoded:
        images: list[NDArray[np.uint8]] = []
        for image in group:
            try:
                images.append(decode_image(image.payload, image.name, wanted, image.out))
            # raised where its image would have been yielded
            except Exception as exc:
                return _Decoded(images, exc)
        return _Decoded(images, None)

    keep_freed_memory()
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
def keep_freed_memory() -> None:
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
        name = Named(source, which)
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
