"""An index read by ranges from a store.

Strategy: a lookup fetches a page of the lookup, then the block that the page points at. If the names ascend, as in a
packed folder, the index has a guide, which came with the footer and leads to the block directly: one request less.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from blobpack._native.fetched_index import encode_name, page_number, rows_in_page
from blobpack._native.results import FoundRow, row_of_member
from blobpack.asked_members import row_number
from blobpack.columns import Columns
from blobpack.indexfile.footer import BLOCK_ROWS
from blobpack.indexfile.name_table import NameTable
from blobpack.indexfile.sections import IndexParts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    from blobpack._native.members import Member
    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.sections import Block
    from blobpack.stores.base import Store

# The most that one request of a pass over all blocks reads. The memory of the pass grows with it.
BLOCK_RUN_BYTES_MAX = 4 << 20
# Bytes alone would not bound the memory for decoded rows: in a crafted index, a block of 1,024 rows with empty names at
# one offset takes 48 bytes.
BLOCK_RUN_MAX = 512


class RemoteIndex:
    """An index that is read from a store page by page and block by block."""

    is_remote = True
    native = None

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Read nothing yet.

        Args:
            store: The store that holds the region.
            offset: Start of the region in the store.
            footer: Footer of the region.

        Raises:
            FormatError: the footer's numbers do not fit the region.
        """
        footer.check_fits(store.url, offset)
        self.footer = footer
        self._store, self._offset = store, offset
        self._parts = IndexParts(store, offset, footer)
        self._whole = NameTable(self.parts)

    def __len__(self) -> int:
        return self.footer.row_count

    @property
    def url(self) -> str:
        """Path or URL of the file or blob that holds the index."""
        return self._store.url

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        found = self.search([name])[0]
        return -1 if found is None else found.row

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name, or None."""
        found = self.search([name])[0]
        return found and (found.offset_start, found.offset_end)

    def find_member(self, member: Member) -> int:
        """Return the row of a Member, if it is the last one of its name; see StoredIndex."""
        return row_of_member(self.search([member.name])[0], member)

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name.

        The pages of all names are fetched in parallel, then their blocks: one name takes as many round trips as a hundred.
        """
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
        """Return for each name the numbers of the blocks that may hold it."""
        encoded = list(map(encode_name, names))
        if self.footer.guide_bytes:
            # names ascend, so only the last block whose first name is not greater can hold a name's last row
            first_names = self._parts.guide()
            # `at` is 0 for a name before all others: then no block can hold it
            return [
                {at - 1} if name is not None and (at := bisect_right(first_names, name)) else set()
                for name in encoded
            ]
        seed, pages = self.footer.lookup_seed, self.footer.lookup_pages
        # encode_name returns None for a str that no tar name decodes to
        numbers = [None if name is None else page_number(name, seed, pages) for name in encoded]
        fetched = self._parts.pages({number for number in numbers if number is not None})
        # several blocks for a name, because slots hold 32 bits of the hash, and different names may share them
        return [
            set()
            if name is None or number is None
            else {row // BLOCK_ROWS for row in rows_in_page(fetched[number], name, seed)}
            for name, number in zip(encoded, numbers, strict=True)
        ]

    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end in a row; see StoredIndex."""
        columns, place = self._block_of(row)
        return columns.bounds_at(place)

    def name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; see StoredIndex."""
        columns, place = self._block_of(row)
        return columns.name_at(place)

    def member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; see StoredIndex."""
        columns, place = self._block_of(row)
        return columns.member_at(place)

    def search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and checksum in each of many rows; their blocks are fetched together."""
        places = [divmod(row_number(row, len(self)), BLOCK_ROWS) for row in rows]
        blocks = self._parts.blocks({block for block, _ in places})
        return [
            FoundRow(block * BLOCK_ROWS + place, *blocks[block].columns.payload_at(place))
            for block, place in places
        ]

    def _block_of(self, row: SupportsIndex) -> tuple[Columns, int]:
        """Return the block that holds a row, and the row's place in it."""
        number, place = divmod(row_number(row, len(self)), BLOCK_ROWS)
        return self._parts.block(number).columns, place

    def rows(self, first: int, last: int) -> Columns:
        """Return the rows first:last. The blocks that hold them are read whole, as a block has one checksum."""
        if not 0 <= first <= last <= len(self):
            raise IndexError(f"no rows {first} to {last} among {len(self)} rows")
        if first == last:
            return Columns.concatenate([])
        numbers = range(first // BLOCK_ROWS, (last - 1) // BLOCK_ROWS + 1)
        blocks = self._parts.blocks(set(numbers))
        whole = Columns.concatenate([blocks[number].columns for number in numbers])
        return whole.slice(first - numbers[0] * BLOCK_ROWS, last - numbers[0] * BLOCK_ROWS)

    def parts(self) -> Iterator[Columns]:
        """Yield all rows in order, some megabytes of blocks at a time. The blocks are not kept."""
        # not through blocks(): one pass over a large index would evict everything that lookups use
        first = 0
        while first < self.footer.block_count:
            start, last = self._parts.position(first), first + 1
            while last < min(self.footer.block_count, first + BLOCK_RUN_MAX) and (
                self._parts.position(last + 1) - start <= BLOCK_RUN_BYTES_MAX
            ):
                last += 1
            yield self._parts.rows_of_blocks(first, last)
            first = last

    def check_lookup(self) -> None:
        """Check what only lookups by name read; see StoredIndex."""
        self._parts.check_lookup()

    def close(self) -> None:
        """Close the store. See StoredIndex."""
        self._store.close()

    def __reduce__(self) -> tuple[object, ...]:
        # without the decoded parts: the other process fetches those that it needs
        return RemoteIndex, (self._store, self._offset, self.footer)


def _last_found(name: str, blocks: Iterator[Block]) -> FoundRow | None:
    """Find the last row with this name in any of the blocks."""
    found = [
        FoundRow(block.first_row + place, *block.columns.payload_at(place))
        for block in blocks
        if (place := block.lookup.find(name)) >= 0
    ]
    return max(found, key=lambda hit: hit.row, default=None)
