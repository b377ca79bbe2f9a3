"""The parts of a remote index (guide, directory, lookup pages, blocks), each fetched when it is first needed.

Strategy: keep decoded parts in memory up to a bound, and evict the least recently used ones. Fetch missing parts in
parallel, and merge those that are close to each other into one request.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from blobpack._native.fetched_index import decode_blocks
from blobpack._native.lookup import NameLookup
from blobpack.columns import Columns
from blobpack.errors import FormatError
from blobpack.indexfile.footer import BLOCK_ROWS, INDEX_PAGE_BYTES
from blobpack.indexfile.pages import (
    DIRECTORY_PAGE_POSITIONS,
    check_page,
    decode_directory_page,
    decode_guide,
)
from blobpack.look_ahead import map_ahead
from blobpack.plan import merged_ranges
from blobpack.recently_used import RecentlyUsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.indexfile.footer import Footer
    from blobpack.stores.base import Store

# about 800,000 members with all facts, counted at twice the 42 bytes that each of them takes in a block
DECODED_BYTES_MAX = 64 << 20
# Reading over a gap costs less than one more request where latency times bandwidth is larger than the gap. At 30 ms and
# 50 MB/s (see plan.py) that is 1.5 MB. But a page has 4 KiB, so with such gaps, most bytes of a request would not be
# needed.
INDEX_GAP_BYTES = 256 << 10
INDEX_FETCH_BYTES_MAX = 8 << 20
INDEX_FETCHES_AT_ONCE = 16
# pages of the lookup that are read together when all of them are checked: 4 MiB
PAGES_CHECKED_AT_ONCE = 1024

T = TypeVar("T")


class Block:
    """The members of one fetched block, with a table of their names."""

    __slots__ = ("columns", "first_row", "lookup")

    def __init__(self, columns: Columns, first_row: int) -> None:
        self.columns = columns
        self.first_row = first_row
        self.lookup = NameLookup(columns.names, columns.name_bounds)


class IndexParts:
    """Fetches, decodes and keeps the parts of one index."""

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Read nothing yet.

        Args:
            store: The store that holds the region.
            offset: Start of the region in the store.
            footer: Footer of the region; its numbers fit the region.
        """
        self._store, self._offset, self._footer = store, offset, footer
        self._kept: RecentlyUsed[tuple[str, int], Any] = RecentlyUsed(DECODED_BYTES_MAX)

    def guide(self) -> list[bytes]:
        """Return the first name of each block."""

        def make() -> tuple[list[bytes], int]:
            start, end = self._footer.guide, self._footer.guide + self._footer.guide_bytes
            count, url, offset = self._footer.block_count, self._store.url, self._offset + start
            names = self._read_decoded(
                start, end, lambda packed: decode_guide(packed, count, url, offset)
            )
            # a list of short bytes takes 2.2 times their packed bytes (names of 27 bytes, CPython 3.11)
            return names, 2 * (end - start)

        return self._get_or_make("guide", 0, make)

    def position(self, block: int) -> int:
        """Return the start of a block in the region. The position after the last block is the end of that block."""
        page, place = divmod(block, DIRECTORY_PAGE_POSITIONS)

        def make() -> tuple[tuple[int, ...], int]:
            start = self._footer.directory + page * INDEX_PAGE_BYTES
            url, offset = self._store.url, self._offset + start
            decoded = self._read_decoded(
                start,
                start + INDEX_PAGE_BYTES,
                lambda packed: decode_directory_page(packed, page, url, offset),
            )
            # a right checksum proves nothing about a hostile writer: without this bound, a position could lead to
            # bytes outside the region
            if max(decoded) > self._footer.region_bytes:
                raise self._damaged(
                    f"its directory holds {max(decoded)} in a region of {self._footer.region_bytes} bytes",
                    offset,
                )
            # a tuple of 511 Python integers takes about 20 KB (CPython 3.11), and is counted as 32 KB
            return decoded, 8 * INDEX_PAGE_BYTES

        return self._get_or_make("directory", page, make)[place]

    def pages(self, numbers: set[int]) -> dict[int, bytes]:
        """Return pages of the lookup, by number."""
        first = self._footer.lookup
        ranges = {
            number: (first + number * INDEX_PAGE_BYTES, first + (number + 1) * INDEX_PAGE_BYTES)
            for number in numbers
        }

        def make(number: int, packed: bytes) -> bytes:
            offset = self._offset + ranges[number][0]
            check_page(packed, number, "a page of its lookup", self._store.url, offset)
            return packed

        return self._fetch_missing("page", ranges, make)

    def check_lookup(self) -> None:
        """Compare all pages of the lookup, and the guide, with their checksums.

        Raises:
            FormatError: one of them is damaged.
        """
        count = self._footer.lookup_pages
        for first in range(0, count, PAGES_CHECKED_AT_ONCE):
            self.pages(set(range(first, min(first + PAGES_CHECKED_AT_ONCE, count))))
        if self._footer.guide_bytes:
            self.guide()

    def block(self, number: int) -> Block:
        """Return one block. One that is kept is found in a fraction of the time that `blocks` takes."""
        kept: Block | None = self._kept.get(("block", number))
        return kept or self.blocks({number})[number]

    def blocks(self, numbers: set[int]) -> dict[int, Block]:
        """Return blocks, by number.

        Raises:
            FormatError: there is no such block, or it is damaged.
        """
        ranges = {}
        for number in numbers:
            # Numbers come from rows in the slots of the lookup. In a damaged or hostile index, a slot may hold any row.
            if number >= self._footer.block_count:
                raise self._damaged(
                    f"its lookup points at row {number * BLOCK_ROWS}, and there are {self._footer.row_count} rows",
                    self._offset + self._footer.lookup,
                )
            ranges[number] = (self.position(number), self.position(number + 1))

        def make(number: int, packed: bytes) -> Block:
            return Block(self._decode(packed, number, number + 1), number * BLOCK_ROWS)

        return self._fetch_missing("block", ranges, make)

    def rows_of_blocks(self, first: int, last: int) -> Columns:
        """Read the rows of the blocks first:last in one request, without keeping them."""
        start, end = self.position(first), self.position(last)
        return self._read_decoded(start, end, lambda packed: self._decode(packed, first, last))

    def _decode(self, packed: bytes, first: int, last: int) -> Columns:
        start = self.position(first)
        positions = array("q", (self.position(block) - start for block in range(first, last + 1)))
        return Columns(
            *decode_blocks(
                packed,
                positions,
                first * BLOCK_ROWS,
                self._footer.row_count,
                self._footer.last_end,
                self._footer.facts_mask,
                self._store.url,
                self._offset + start,
            )
        )

    def _get_or_make(self, kind: str, number: int, make: Callable[[], tuple[T, int]]) -> T:
        kept: T | None = self._kept.get((kind, number))
        if kept is None:
            kept, size = make()
            self._kept.put((kind, number), kept, size)
        return kept

    def _fetch_missing(
        self,
        kind: str,
        ranges: dict[int, tuple[int, int]],
        make: Callable[[int, bytes], T],
    ) -> dict[int, T]:
        """Return the parts that are kept, and fetch the others in parallel."""
        kept = self._kept.get_many([(kind, number) for number in ranges])
        ready: dict[int, T] = {number: made for (_, number), made in kept.items()}
        missing = {number: ranges[number] for number in ranges if number not in ready}
        fetches = merged_ranges(
            missing.values(), max_gap_bytes=INDEX_GAP_BYTES, max_bytes=INDEX_FETCH_BYTES_MAX
        )
        starts = [start for start, _ in fetches]
        bodies = self._read_all(fetches)
        for number, (start, end) in missing.items():
            at = bisect_right(starts, start) - 1
            first = starts[at]
            packed = bodies[at][start - first : end - first]
            ready[number] = self._store.decode_again(
                packed, self._offset + start, self._offset + end, partial(make, number)
            )
            # decoded columns take 1.7 times their packed bytes (all facts), and the table of names comes on top
            self._kept.put((kind, number), ready[number], 2 * (end - start))
        return ready

    def _read_all(self, fetches: list[tuple[int, int]]) -> list[bytes]:
        # the usual lookup needs one request, which another thread would not send any sooner
        if len(fetches) <= 1:
            return [self._read(*fetch) for fetch in fetches]
        return list(
            map_ahead(
                lambda fetch: self._read(*fetch),
                fetches,
                threads=INDEX_FETCHES_AT_ONCE,
                name="index",
            )
        )

    def _read(self, start: int, end: int) -> bytes:
        self._check_range(start, end)
        return self._store.peek(self._offset + start, self._offset + end)

    def _read_decoded(self, start: int, end: int, decode: Callable[[bytes], T]) -> T:
        self._check_range(start, end)
        return self._store.decode(self._offset + start, self._offset + end, decode)

    def _check_range(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self._footer.region_bytes:
            raise self._damaged(
                f"its directory holds {start} to {end} in a region of {self._footer.region_bytes} bytes",
                self._offset + self._footer.directory,
            )

    def _damaged(self, what: str, offset: int) -> FormatError:
        return FormatError(f"{self._store.url}: the index is damaged: {what}", offset=offset)
