"""Read images and decode them ahead of the caller: payloads come in order from `read_many`, and threads decode them."""

from __future__ import annotations

from itertools import count, tee
from typing import TYPE_CHECKING, NamedTuple

from blobpack.index.which import name_of
from blobpack.opening.open import opened
from blobpack.quoting import quoted
from blobpack.reading.groups_ahead import decode_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import CheckedWhich
    from blobpack.opening.reader import Reader
    from blobpack.reading.wanted import Wanted
    from blobpack.stores.location import Location

    # the bytes of an image, what names it, and its number, counted from 0
    Stored = tuple[bytes, CheckedWhich, int]

# The first bytes of a JPEG.
JPEG_MAGIC = b"\xff\xd8\xff"
# The pixels of an ordinary JPEG have at most about 500 times as many bytes as the JPEG. Other formats have no such bound, so
# few of them are decoded at once, even if they are tiny.
OTHER_BYTES_MIN = 8 << 10


class Named(NamedTuple):
    """Names an image in messages."""

    source: Reader
    which: CheckedWhich

    def __str__(self) -> str:
        # looked up only for a message, because this takes time
        return f"{self.source.url}: {quoted(name_of(self.source.index, self.which))}"


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
        out: Array into whose rows the images are written; None: new arrays.
    """
    from blobpack.reading.decode import decode_images

    with opened(blob) as source:

        def decode(group: list[Stored]) -> Iterator[NDArray[np.uint8]]:
            payloads = [payload for payload, _, _ in group]
            first = group[0][2]
            outs = None if out is None else list(out[first : first + len(group)])
            return decode_images(payloads, lambda i: Named(source, group[i][1]), wanted, outs)

        # several may be an iterator, and each of them is needed twice: to read its payload, and in a message
        to_read, asked = tee(several)
        stored: Iterator[Stored] = zip(source.read_many(to_read), asked, count(), strict=False)
        if out is not None:
            stored = _with_room(stored, source, len(out))
        yield from decode_groups(decode, stored, _size_of)


def _with_room(stored: Iterator[Stored], source: Reader, most: int) -> Iterator[Stored]:
    """Yield images, and raise a ValueError at the first one that has no room."""
    for image in stored:
        if image[2] == most:
            name = Named(source, image[1])
            raise ValueError(f"{name}: out has room for {most} images, and this is one more")
        yield image


def _size_of(stored: Stored) -> int:
    payload = stored[0]
    if payload.startswith(JPEG_MAGIC):
        return len(payload)
    return max(len(payload), OTHER_BYTES_MIN)
