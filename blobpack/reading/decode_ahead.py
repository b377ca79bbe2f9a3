"""Read images and decode them ahead of the caller: payloads come in order from `read_many`, and threads decode them."""

from __future__ import annotations

from itertools import tee
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
    from blobpack.reading.decode import decode_image

    def decode(image: _Stored) -> NDArray[np.uint8]:
        payload, name, pixels = image
        return decode_image(payload, name, wanted, pixels)

    with opened(blob) as source:
        stored = _stored_images(source, several, out)
        yield from decode_groups(decode, stored, lambda image: len(image.payload))


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
