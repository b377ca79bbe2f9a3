"""The parts of an index far away, each fetched when it is asked for: the guide, pages and blocks.

What was fetched and decoded is kept, up to a bound; what lies near is fetched together.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, TypeVar

from blobpack._native.fetched_index import decode_blocks
from blobpack._native.lookup import NameLookup
from blobpack.columns import Columns
from blobpack.errors import FormatError
from blobpack.indexfile.footer import (
    BLOCK_ROWS,
    DIRECTORY_PAGE_POSITIONS,
    INDEX_PAGE_BYTES,
    check_page,
    decode_directory_page,
    decode_guide,
)
from blobpack.plan import merged_ranges
from blobpack.threads import RecentlyUsed, map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.indexfile.footer import Footer
    from blobpack.stores.base import Store

DECODED_BYTES_MAX = 64 << 20
INDEX_GAP_BYTES = 256 << 10
INDEX_FETCH_BYTES_MAX = 8 << 20
INDEX_FETCHES_AT_ONCE = 16

T = TypeVar("T")


class Block:
    """The members of a fetched block, found by name."""

    __slots__ = ("columns", "first_row", "lookup")

    def __init__(self, columns: Columns, first_row: int) -> None:
        self.columns = columns
        self.first_row = first_row
        self.lookup = NameLookup(columns.names, columns.name_bounds)


class IndexParts:
    """Fetches, decodes and keeps the parts of one index."""

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Take the place of the index' region.

        Args:
            store: Where it is.
            offset: Where the region starts in it.
            footer: The region's, which fits it.
        """
        self._store, self._offset, self._footer = store, offset, footer
        self._kept: RecentlyUsed[tuple[str, int], Any] = RecentlyUsed(DECODED_BYTES_MAX)

    def guide(self) -> list[bytes]:
        """Read the first name of each block."""

        def make() -> tuple[list[bytes], int]:
            start, end = self._footer.guide, self._footer.guide + self._footer.guide_bytes
            packed, offset = self._read(start, end), self._offset + start
            names = decode_guide(packed, self._footer.block_count, self._store.url, offset)
            return names, 2 * len(packed)

        return self._get_or_make("guide", 0, make)

    def position(self, block: int) -> int:
        """Read where a block starts in the region; behind the last one, where that ends."""
        page, place = divmod(block, DIRECTORY_PAGE_POSITIONS)

        def make() -> tuple[tuple[int, ...], int]:
            start = self._footer.directory + page * INDEX_PAGE_BYTES
            packed, offset = self._read(start, start + INDEX_PAGE_BYTES), self._offset + start
            decoded = decode_directory_page(packed, page, self._store.url, offset)
            if max(decoded) > self._footer.region_bytes:
                raise self._damaged(f"a position of {max(decoded)} in its directory", offset)
            return decoded, 8 * INDEX_PAGE_BYTES

        return self._get_or_make("directory", page, make)[place]

    def pages(self, numbers: set[int]) -> dict[int, bytes]:
        """Read pages of the lookup."""
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

    def blocks(self, numbers: set[int]) -> dict[int, Block]:
        """Read blocks.

        Raises:
            FormatError: there is no such block, or it is damaged.
        """
        ranges = {}
        for number in numbers:
            if number >= self._footer.block_count:
                raise self._damaged(
                    f"its lookup gives row {number * BLOCK_ROWS} of {self._footer.row_count}",
                    self._offset + self._footer.lookup,
                )
            ranges[number] = (self.position(number), self.position(number + 1))

        def make(number: int, packed: bytes) -> Block:
            return Block(self._decode(packed, number, number + 1), number * BLOCK_ROWS)

        return self._fetch_missing("block", ranges, make)

    def rows_of_blocks(self, first: int, last: int) -> Columns:
        """Read the rows of the blocks first:last in one request; they are not kept."""
        return self._decode(self._read(self.position(first), self.position(last)), first, last)

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
        """Take what is kept; fetch the rest side by side, near ranges together."""
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
            ready[number] = make(number, bodies[at][start - first : end - first])
            self._kept.put((kind, number), ready[number], 2 * (end - start))
        return ready

    def _read_all(self, fetches: list[tuple[int, int]]) -> list[bytes]:
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
        if not 0 <= start <= end <= self._footer.region_bytes:
            raise self._damaged(
                f"a position of {start} in its directory", self._offset + self._footer.directory
            )
        return self._store.peek(self._offset + start, self._offset + end)

    def _damaged(self, what: str, offset: int) -> FormatError:
        return FormatError(f"{self._store.url}: the index is damaged: {what}", offset=offset)
