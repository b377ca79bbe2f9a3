"""An index where it lies, mapped from a file or read by ranges: only what is asked for is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blobpack.errors import FormatError
from blobpack.indexfile.footer import FOOTER_BYTES, Footer
from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.remote import RemoteIndex
from blobpack.stores.open import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from blobpack._native.results import FoundRow
    from blobpack.columns import Columns
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache


class StoredIndex(Protocol):
    """An index in a file or a store, of which only what is asked for is read."""

    footer: Footer

    def __len__(self) -> int: ...

    def find(self, name: str) -> int:
        """Return the last row of that name, -1 when there is none."""
        ...

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row of that name."""
        ...

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find row, offsets and checksum of many names at once, with as few requests as they need."""
        ...

    def rows(self, first: int, last: int) -> Columns:
        """Read the rows first:last."""
        ...

    def parts(self) -> Iterator[Columns]:
        """Read all rows in order, some ten thousand at a time."""
        ...


def open_stored(store: Store, offset: int, footer: Footer) -> StoredIndex:
    """Open the index whose region starts at an offset of a store.

    Raises:
        FormatError: its footer does not fit its size.
    """
    return (RemoteIndex if store.fd is None else LocalIndex)(store, offset, footer)


def load_stored(path: str | os.PathLike[str], cache: Cache | None = None) -> StoredIndex:
    """Open an index file, wherever it lies; of one far away, keep what is read in a cache.

    Raises:
        BlobNotFoundError: there is none.
        FormatError: it is damaged, no index, or the collection of several blobs.
    """
    store, footer = open_region(path, cache)
    if footer.blobs_bytes:
        raise FormatError(
            f"{store.url}: a collection of several blobs, not the index of one: open_collection opens it",
            offset=0,
        )
    return open_stored(store, 0, footer)


def open_region(path: str | os.PathLike[str], cache: Cache | None = None) -> tuple[Store, Footer]:
    """Open the store of an index file, and read its footer.

    Raises:
        BlobNotFoundError: there is none.
        FormatError: it is damaged, or no index.
    """
    store = open_store(path, tail=True, cache=cache)
    footer = read_footer(store)
    if footer is None or footer.region_bytes != store.size:
        raise FormatError(f"{store.url}: not an index file of blobpack, at byte 0", offset=0)
    return store, footer


def read_footer(store: Store) -> Footer | None:
    """Read the footer that ends a store; None when there is none.

    Raises:
        FormatError: it is damaged, or of a later version of the format.
    """
    start = store.size - FOOTER_BYTES
    if start < 0:
        return None
    return Footer.decode(store.peek(start, store.size), store.url, start)
