"""An index where it lies, mapped from a file or read by ranges: only what is asked for is touched.

A lookup from afar takes a page of the lookup and a block; or a block alone when the names ascend, as those of a
packed folder do: the guide, which came with the footer, tells which. Pages and blocks that were fetched are kept,
up to a bound.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from blobpack._fetched_index import decode_blocks, encode_name, page_number, rows_in_page
from blobpack._lookup import NameLookup
from blobpack._mapped_index import MappedIndex
from blobpack.checksum import crc32c_address
from blobpack.columns import Columns
from blobpack.errors import FormatError, StorageError
from blobpack.indexfile import (
    BLOCK_ROWS,
    FOOTER_BYTES,
    PAGE_BYTES,
    PAGE_POSITIONS,
    Footer,
    check_page,
    decode_directory_page,
    decode_guide,
)
from blobpack.locks import ForkLock
from blobpack.plan import merged_ranges
from blobpack.stores import open_store
from blobpack.stores.local import LocalStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache

PART_ROWS = 64 * BLOCK_ROWS
WINDOW_BYTES = 4 << 20  # of blocks, when all are read
WINDOW_BLOCKS = (
    512  # most take more than 8 KiB, but members without names and sizes next to nothing
)
KEPT_BYTES_MAX = 64 << 20
BATCH_GAP_BYTES = 256 << 10
BATCH_BYTES_MAX = 8 << 20
BATCH_THREADS = 16

T = TypeVar("T")


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

    def locate_many(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        """Do the same for many names at once, with as few requests as they need."""
        ...

    def search(self, names: Sequence[str]) -> list[tuple[int, tuple[int, int]] | None]:
        """Find row and offsets of each name, in the same way."""
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
    if isinstance(store, LocalStore):
        return LocalIndex(store, offset, footer)
    return RemoteIndex(store, offset, footer)


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


class LocalIndex:
    """An index mapped from a local file: opened in no time at any size, and with no memory of its own."""

    def __init__(self, store: LocalStore, offset: int, footer: Footer) -> None:
        """Map the region.

        Args:
            store: The file.
            offset: Where the region starts in it.
            footer: The region's.

        Raises:
            FormatError: the footer does not fit the region.
        """
        footer.check_fits(store.url, offset)
        self.footer = footer
        self._store, self._offset = store, offset
        before = offset % mmap.ALLOCATIONGRANULARITY
        try:
            mapped = mmap.mmap(
                store.fileno(),
                before + footer.region_bytes,
                access=mmap.ACCESS_READ,
                offset=offset - before,
            )
        except (OSError, ValueError) as exc:  # no descriptor left; a file cut meanwhile
            raise StorageError(f"{store.url}: its index can't be mapped: {exc}") from exc
        self._mapped = MappedIndex(
            memoryview(mapped)[before:],
            store.fileno(),
            store.url,
            offset,
            crc32c_address(),
            row_count=footer.row_count,
            last_end=footer.last_end,
            block_count=footer.block_count,
            directory=footer.directory,
            lookup=footer.lookup,
            pages=footer.lookup_pages,
            seed=footer.lookup_seed,
            facts=footer.facts_mask,
        )
        self.find: Callable[[str], int] = self._mapped.find
        self.locate: Callable[[str], tuple[int, int] | None] = self._mapped.locate
        if footer.row_count and not footer.lookup_pages:
            lookup = WholeLookup(self)
            self.find, self.locate = lookup.find, lookup.locate

    def __len__(self) -> int:
        return self.footer.row_count

    def locate_many(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        """Find the offsets of many names."""
        if self.locate != self._mapped.locate:  # there is no lookup in the file
            return list(map(self.locate, names))
        return self._mapped.locate_many(list(names))

    def search(self, names: Sequence[str]) -> list[tuple[int, tuple[int, int]] | None]:
        """Find row and offsets of each name."""
        found = zip(map(self.find, names), map(self.locate, names), strict=True)
        return [(row, bounds) if bounds else None for row, bounds in found]

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the mapping."""
        return Columns(*self._mapped.rows(first, last))

    def parts(self) -> Iterator[Columns]:
        """Copy all rows, part by part."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def __reduce__(self) -> tuple[object, ...]:
        return LocalIndex, (self._store, self._offset, self.footer)


class WholeLookup:
    """Finds names when the file has no lookup: names that were made to collide."""

    def __init__(self, stored: StoredIndex) -> None:
        self._stored = stored
        self._columns: Columns | None = None
        self._lookup: NameLookup | None = None

    def find(self, name: str) -> int:
        """Return the last row of that name, -1 when there is none."""
        if self._lookup is None:
            self._columns = Columns.concatenate(list(self._stored.parts()))
            self._lookup = NameLookup(self._columns.names, self._columns.name_bounds)
        return self._lookup.find(name)

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        found = self.locate_checked(name)
        return found and found[:2]

    def locate_checked(self, name: str) -> tuple[int, int, int | None] | None:
        """Return its offsets and checksum."""
        row = self.find(name)
        if row < 0 or self._columns is None:
            return None
        return payload_in(self._columns, row)


def payload_in(columns: Columns, row: int) -> tuple[int, int, int | None]:
    """Give the offsets and the checksum of a row, None where there is none."""
    crc = None if columns.crc32c is None else columns.crc32c[row]
    return columns.offset_start[row], columns.offset_end[row], crc


class Block:
    """The members of a fetched block, found by name."""

    __slots__ = ("columns", "first_row", "lookup")

    def __init__(self, columns: Columns, first_row: int) -> None:
        self.columns = columns
        self.first_row = first_row
        self.lookup = NameLookup(columns.names, columns.name_bounds)


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
        self._kept: OrderedDict[tuple[str, int], tuple[object, int]] = OrderedDict()
        self._kept_bytes = 0
        self._lock = ForkLock()
        self._whole = WholeLookup(self)

    def __len__(self) -> int:
        return self.footer.row_count

    def find(self, name: str) -> int:
        """Return the last row of that name, -1 when there is none."""
        found = self.search([name])[0]
        return -1 if found is None else found[0]

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        return self.locate_many([name])[0]

    def locate_many(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        """Find the offsets of many names: their pages in one turn, their blocks in the next."""
        return [found and found[1][:2] for found in self._search(names)]

    def locate_many_checked(self, names: Sequence[str]) -> list[tuple[int, int, int | None] | None]:
        """Find offsets and checksums of many names, None where there is none."""
        return [found and found[1] for found in self._search(names)]

    def search(self, names: Sequence[str]) -> list[tuple[int, tuple[int, int]] | None]:
        """Find row and offsets of each name."""
        return [found and (found[0], found[1][:2]) for found in self._search(names)]

    def _search(self, names: Sequence[str]) -> list[tuple[int, tuple[int, int, int | None]] | None]:
        """Find row, offsets and checksum of each name."""
        if not self.footer.row_count:
            return [None] * len(names)
        if not self.footer.guide_bytes and not self.footer.lookup_pages:
            rows = list(map(self._whole.find, names))
            located = map(self._whole.locate_checked, names)
            return [
                (row, bounds) if bounds else None for row, bounds in zip(rows, located, strict=True)
            ]
        candidates = self._candidates(names)
        blocks = self._blocks({block for wanted in candidates for block in wanted})
        found: list[tuple[int, tuple[int, int, int | None]] | None] = []
        for name, wanted in zip(names, candidates, strict=True):
            rows_of_name = [
                (block.first_row + place, block.columns, place)
                for block in map(blocks.__getitem__, wanted)
                if (place := block.lookup.find(name)) >= 0
            ]
            if not rows_of_name:
                found.append(None)
                continue
            row, columns, place = max(rows_of_name, key=lambda hit: hit[0])
            found.append((row, payload_in(columns, place)))
        return found

    def _candidates(self, names: Sequence[str]) -> list[set[int]]:
        """Tell for each name which blocks may hold it."""
        encoded = list(map(encode_name, names))
        if self.footer.guide_bytes:
            first_names = self._guide()
            return [
                {at - 1} if name is not None and (at := bisect_right(first_names, name)) else set()
                for name in encoded
            ]
        seed, pages = self.footer.lookup_seed, self.footer.lookup_pages
        numbers = [None if name is None else page_number(name, seed, pages) for name in encoded]
        fetched = self._pages({number for number in numbers if number is not None})
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
        blocks = self._blocks(set(numbers))
        whole = Columns.concatenate([blocks[number].columns for number in numbers])
        return whole.slice(first - numbers[0] * BLOCK_ROWS, last - numbers[0] * BLOCK_ROWS)

    def parts(self) -> Iterator[Columns]:
        """Read all rows by windows of some megabytes, which are not kept."""
        first = 0
        while first < self.footer.block_count:
            start, last = self._position(first), first + 1
            while last < min(self.footer.block_count, first + WINDOW_BLOCKS) and (
                self._position(last + 1) - start <= WINDOW_BYTES
            ):
                last += 1
            yield self._decode(self._read(start, self._position(last)), first, last)
            first = last

    # What is fetched, and kept

    def _read(self, start: int, end: int) -> bytes:
        if not 0 <= start <= end <= self.footer.region_bytes:
            raise FormatError(
                f"{self._store.url}: the index is damaged: a position of {start} in its directory",
                offset=self._offset + self.footer.directory,
            )
        return self._store.peek(self._offset + start, self._offset + end)

    def _kept_or_made(self, key: tuple[str, int], make: Callable[[], tuple[object, int]]) -> object:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made, size = make()
        self._keep(key, made, size)
        return made

    def _keep(self, key: tuple[str, int], made: object, size: int) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (made, size)
                self._kept_bytes += size
            while self._kept_bytes > KEPT_BYTES_MAX and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1][1]

    def _guide(self) -> list[bytes]:
        def make() -> tuple[list[bytes], int]:
            start = self.footer.guide
            packed = self._read(start, start + self.footer.guide_bytes)
            names = decode_guide(
                packed, self.footer.block_count, self._store.url, self._offset + start
            )
            return names, 2 * len(packed)

        return self._kept_or_made(("guide", 0), make)  # type: ignore[return-value]

    def _position(self, block: int) -> int:
        page = block // PAGE_POSITIONS

        def make() -> tuple[tuple[int, ...], int]:
            start = self.footer.directory + page * PAGE_BYTES
            packed = self._read(start, start + PAGE_BYTES)
            offset = self._offset + start
            decoded = decode_directory_page(packed, page, self._store.url, offset)
            if max(decoded) > self.footer.region_bytes:
                raise FormatError(
                    f"{self._store.url}: the index is damaged: a position of {max(decoded)} in its directory",
                    offset=offset,
                )
            return decoded, 8 * PAGE_BYTES

        positions: tuple[int, ...] = self._kept_or_made(("directory", page), make)  # type: ignore[assignment]
        return positions[block % PAGE_POSITIONS]

    def _pages(self, numbers: set[int]) -> dict[int, bytes]:
        """Fetch pages of the lookup that are not kept."""
        ranges = {
            number: (
                self.footer.lookup + number * PAGE_BYTES,
                self.footer.lookup + (number + 1) * PAGE_BYTES,
            )
            for number in numbers
        }

        def make(number: int, packed: bytes) -> bytes:
            offset = self._offset + ranges[number][0]
            check_page(packed, number, "a page of its lookup", self._store.url, offset)
            return packed

        return self._fetched("page", ranges, make)

    def _blocks(self, numbers: set[int]) -> dict[int, Block]:
        """Fetch blocks that are not kept."""
        ranges = {}
        for number in numbers:
            if number >= self.footer.block_count:
                raise FormatError(
                    f"{self._store.url}: the index is damaged: its lookup gives row {number * BLOCK_ROWS} "
                    f"of {len(self)}",
                    offset=self._offset + self.footer.lookup,
                )
            ranges[number] = (self._position(number), self._position(number + 1))

        def make(number: int, packed: bytes) -> Block:
            columns = self._decode(packed, number, number + 1)
            return Block(columns, number * BLOCK_ROWS)

        return self._fetched("block", ranges, make)

    def _fetched(
        self,
        kind: str,
        ranges: dict[int, tuple[int, int]],
        make: Callable[[int, bytes], T],
    ) -> dict[int, T]:
        """Take what is kept; fetch the rest side by side, near ranges together."""
        ready: dict[int, T] = {}
        with self._lock:
            for number in ranges:
                if (kind, number) in self._kept:
                    self._kept.move_to_end((kind, number))
                    ready[number] = cast("T", self._kept[kind, number][0])
        missing = {number: ranges[number] for number in ranges if number not in ready}
        fetches = merged_ranges(
            missing.values(), max_gap_bytes=BATCH_GAP_BYTES, max_bytes=BATCH_BYTES_MAX
        )
        starts = [start for start, _ in fetches]
        bodies = self._read_all(fetches)
        for number, (start, end) in missing.items():
            at = bisect_right(starts, start) - 1
            first = starts[at]
            ready[number] = make(number, bodies[at][start - first : end - first])
            self._keep((kind, number), ready[number], 2 * (end - start))
        return ready

    def _read_all(self, fetches: list[tuple[int, int]]) -> list[bytes]:
        if len(fetches) <= 1:
            return [self._read(*fetch) for fetch in fetches]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(BATCH_THREADS, len(fetches))) as threads:
            return list(threads.map(lambda fetch: self._read(*fetch), fetches))

    def _decode(self, packed: bytes, first: int, last: int) -> Columns:
        start = self._position(first)
        positions = array("q", (self._position(block) - start for block in range(first, last + 1)))
        return Columns(
            *decode_blocks(
                packed,
                positions,
                first * BLOCK_ROWS,
                len(self),
                self.footer.last_end,
                self.footer.facts_mask,
                crc32c_address(),
                self._store.url,
                self._offset + start,
            )
        )

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteIndex, (self._store, self._offset, self.footer)
