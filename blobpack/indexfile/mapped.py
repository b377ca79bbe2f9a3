"""An index mapped from a local file.

Strategy: map the region, and leave it to the kernel to load the pages that lookups touch. Opening takes the same time
for any number of members (27 µs for a million), and nothing is built for a member.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from blobpack._native.mapped_index import MappedIndex
from blobpack.columns import Columns
from blobpack.errors import StorageError
from blobpack.indexfile.footer import PART_ROWS
from blobpack.indexfile.name_table import NameTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blobpack._native.results import FoundRow
    from blobpack.indexfile.footer import Footer
    from blobpack.stores.base import Store


class LocalIndex:
    """An index mapped from a local file. It opens in the same time at any size."""

    is_remote = False

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Map the region.

        Args:
            store: The local file; it has a file descriptor.
            offset: Start of the region in the file.
            footer: Footer of the region.

        Raises:
            FormatError: the footer's numbers do not fit the region.
            StorageError: the file is closed, or can't be mapped.
        """
        footer.check_fits(store.url, offset)
        self.footer = footer
        self._store, self._offset = store, offset
        fd = store.fd
        # mmap.mmap(-1, …) succeeds: it maps anonymous memory, which reads as zeros
        if fd is None:
            raise StorageError(f"{store.url}: its index can't be mapped: the file is closed")
        # mmap(2) takes offsets at multiples of a page only, and an index inside a blob starts at any block of 512
        before = offset % mmap.ALLOCATIONGRANULARITY
        try:
            mapped = mmap.mmap(
                fd,
                before + footer.region_bytes,
                access=mmap.ACCESS_READ,
                offset=offset - before,
            )
        # OSError: no file descriptor is left, as mmap duplicates it. ValueError: the file was cut since its footer
        # was read, so that the map would reach past its end.
        except (OSError, ValueError) as exc:
            raise StorageError(f"{store.url}: its index can't be mapped: {exc}") from exc
        self._mapped = MappedIndex(
            memoryview(mapped)[before:],
            fd,
            store.url,
            offset,
            row_count=footer.row_count,
            last_end=footer.last_end,
            block_count=footer.block_count,
            directory=footer.directory,
            lookup=footer.lookup,
            pages=footer.lookup_pages,
            seed=footer.lookup_seed,
            facts=footer.facts_mask,
        )
        # Bound methods of the native index. A lookup takes about 0.6 µs, so a Python method around it would be a
        # noticeable part.
        self.find: Callable[[str], int] = self._mapped.find
        self.locate: Callable[[str], tuple[int, int] | None] = self._mapped.locate
        # no lookup although there are members: the writer found no seed for names that were made to collide
        self._whole: NameTable | None = None
        if footer.row_count and not footer.lookup_pages:
            self._whole = NameTable(self.parts)
            self.find, self.locate = self._whole.find, self._whole.locate

    def __len__(self) -> int:
        return self.footer.row_count

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name."""
        if self._whole:
            return list(map(self._whole.search, names))
        return self._mapped.search(list(names))

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the map."""
        # a copy: columns must not point into a file that another process may cut, which would be a SIGBUS
        return Columns(*self._mapped.rows(first, last))

    def parts(self) -> Iterator[Columns]:
        """Yield copies of all rows in order, up to 65,536 rows at a time."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def __reduce__(self) -> tuple[object, ...]:
        # a pickled index holds no members: the other process opens the store and maps the file again
        return LocalIndex, (self._store, self._offset, self.footer)
