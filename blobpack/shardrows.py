"""A blob of a collection: opened as it was collected, and its index the collection's rows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack.discovery import difference
from blobpack.errors import StaleIndexError
from blobpack.indexfile import BLOCK_ROWS, PART_ROWS
from blobpack.stores import is_local, open_pinned, open_tar
from blobpack.stores.zstd import open_seekable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobpack.columns import Columns
    from blobpack.indexfile import Footer
    from blobpack.shards import Shard
    from blobpack.stored import StoredIndex
    from blobpack.stores.base import Store

    Located = tuple[int, tuple[int, int]]  # row, offsets


def open_shard(url: str, shard: Shard, where: str) -> Store:
    """Open a blob as it was collected.

    Args:
        url: Where it lies.
        shard: What it must be.
        where: The collection, for messages.

    Raises:
        StaleIndexError: it is another one.
    """
    if shard.identity.version and not is_local(url):
        store = open_pinned(url, shard.blob_bytes, shard.identity.version)
        if not shard.is_compressed:
            return store
        seekable = open_seekable(store)
        found = "" if seekable else "it is not compressed any more"
        store = seekable or store
    else:
        store = open_tar(url, tail=True)
        try:
            found = difference(store, shard.identity)
        except BaseException:
            store.close()
            raise
    if found:
        store.close()
        raise StaleIndexError(
            f"{url} is not the blob that {where} was made of: {found}; `blobpack collect` makes it anew"
        )
    return store


class ShardRows:
    """The rows of one blob in a collection's index, as the index of that blob."""

    def __init__(self, stored: StoredIndex, shard: Shard) -> None:
        """Take the rows from shard.first_row to shard.row_end."""
        count = shard.row_end - shard.first_row
        self.footer: Footer = replace(
            stored.footer,
            identity=shard.identity,
            row_count=count,
            payload_bytes=shard.payload_bytes,
            last_end=min(stored.footer.last_end, shard.identity.archive_bytes),
            block_count=-(-count // BLOCK_ROWS),
            report=None,
            blobs=0,
            blobs_bytes=0,
        )
        self._stored, self._shard = stored, shard

    def __len__(self) -> int:
        return self.footer.row_count

    def find(self, name: str) -> int:
        """Return the row of that name, -1 when there is none here."""
        hit = self.search([name])[0]
        return -1 if hit is None else hit[0]

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        return self.locate_many([name])[0]

    def locate_many(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        """Find the offsets of many names."""
        return [hit and hit[1] for hit in self.search(names)]

    def search(self, names: Sequence[str]) -> list[Located | None]:
        """Find row and offsets of each name; those of other blobs are not here."""
        first, end = self._shard.first_row, self._shard.row_end
        return [
            (hit[0] - first, hit[1]) if hit and first <= hit[0] < end else None
            for hit in self._stored.search(names)
        ]

    def rows(self, first: int, last: int) -> Columns:
        """Read the rows first:last of the blob."""
        if not 0 <= first <= last <= len(self):
            raise IndexError(f"rows {first} to {last} of {len(self)}")
        return self._stored.rows(self._shard.first_row + first, self._shard.first_row + last)

    def parts(self) -> Iterator[Columns]:
        """Read all rows of the blob, part by part."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))
