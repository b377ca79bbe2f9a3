"""An index read by ranges from a store.

A lookup from afar takes a page of the lookup and a block; or a block alone when the names ascend, as those of a
packed folder do: the guide, which came with the footer, tells which.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from blobpack._native.fetched_index import encode_name, page_number, rows_in_page
from blobpack._native.results import FoundRow
from blobpack.columns import Columns
from blobpack.indexfile.footer import BLOCK_ROWS
from blobpack.indexfile.name_table import NameTable
from blobpack.indexfile.sections import IndexParts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.sections import Block
    from blobpack.stores.base import Store

BLOCK_RUN_BYTES_MAX = 4 << 20  # of blocks, when all are read
BLOCK_RUN_MAX = 512  # most take over 8 KiB, but members without names and sizes next to nothing


class RemoteIndex:
    """An index read by ranges from a store, page by page and block by block."""

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Take the region's place.

        Args:
            store: Where it is.
            offset: Where the region starts in it.
            footer: The region's.

        Raises:
            FormatError: the footer does not fit the region.
        """
        footer.check_fits(store.url, offset)
        self.footer = footer
        self._store, self._offset = store, offset
        self._parts = IndexParts(store, offset, footer)
        self._whole = NameTable(self.parts)

    def __len__(self) -> int:
        return self.footer.row_count

    def find(self, name: str) -> int:
        """Return the last row of that name, -1 when there is none."""
        found = self.search([name])[0]
        return -1 if found is None else found.row

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        found = self.search([name])[0]
        return found and (found.offset_start, found.offset_end)

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find row, offsets and checksum of each name: their pages in one turn, their blocks in the next."""
        if not self.footer.row_count:
            return [None] * len(names)
        if not self.footer.guide_bytes and not self.footer.lookup_pages:
            return list(map(self._whole.search, names))
        candidates = self._candidates(names)
        blocks = self._parts.blocks({block for wanted in candidates for block in wanted})
        return [
            _last_found(name, map(blocks.__getitem__, wanted))
            for name, wanted in zip(names, candidates, strict=True)
        ]

    def _candidates(self, names: Sequence[str]) -> list[set[int]]:
        """Tell for each name which blocks may hold it."""
        encoded = list(map(encode_name, names))
        if self.footer.guide_bytes:
            first_names = self._parts.guide()
            return [
                {at - 1} if name is not None and (at := bisect_right(first_names, name)) else set()
                for name in encoded
            ]
        seed, pages = self.footer.lookup_seed, self.footer.lookup_pages
        numbers = [None if name is None else page_number(name, seed, pages) for name in encoded]
        fetched = self._parts.pages({number for number in numbers if number is not None})
        return [
            set()
            if name is None or number is None
            else {row // BLOCK_ROWS for row in rows_in_page(fetched[number], name, seed)}
            for name, number in zip(encoded, numbers, strict=True)
        ]

    def rows(self, first: int, last: int) -> Columns:
        """Read the rows first:last, by whole blocks."""
        if not 0 <= first <= last <= len(self):
            raise IndexError(f"rows {first} to {last} of {len(self)}")
        if first == last:
            return Columns.concatenate([])
        numbers = range(first // BLOCK_ROWS, (last - 1) // BLOCK_ROWS + 1)
        blocks = self._parts.blocks(set(numbers))
        whole = Columns.concatenate([blocks[number].columns for number in numbers])
        return whole.slice(first - numbers[0] * BLOCK_ROWS, last - numbers[0] * BLOCK_ROWS)

    def parts(self) -> Iterator[Columns]:
        """Read all rows by windows of some megabytes, which are not kept."""
        first = 0
        while first < self.footer.block_count:
            start, last = self._parts.position(first), first + 1
            while last < min(self.footer.block_count, first + BLOCK_RUN_MAX) and (
                self._parts.position(last + 1) - start <= BLOCK_RUN_BYTES_MAX
            ):
                last += 1
            yield self._parts.rows_of_blocks(first, last)
            first = last

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteIndex, (self._store, self._offset, self.footer)


def _last_found(name: str, blocks: Iterator[Block]) -> FoundRow | None:
    """Find the last row of a name in any of some blocks."""
    found = [
        FoundRow(block.first_row + place, *block.columns.payload_at(place))
        for block in blocks
        if (place := block.lookup.find(name)) >= 0
    ]
    return max(found, key=lambda hit: hit.row, default=None)
