"""An index mapped from a local file.

Strategy: map the region, and leave it to the kernel to load the pages that lookups touch. Opening takes the same time
for any number of members (27 µs for a million), and nothing is built for a member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

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


class ClosedIndex:
    """Takes the place of a native index that was closed: all lookups raise StorageError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def _raise_closed(self, *_: object) -> NoReturn:
        raise StorageError(f"{self._where}: the index is closed")

    find = locate = search = rows = _raise_closed


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
        if fd is None:
            raise StorageError(f"{store.url}: its index can't be mapped: the file is closed")
        self._mapped: MappedIndex | ClosedIndex = MappedIndex(
            fd,
            store.url,
            offset,
            footer.region_bytes,
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
        whole = self._whole
        if whole:
            return list(map(whole.search, names))
        return self._mapped.search(list(names))

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the map."""
        # a copy: columns must not point into a file that another process may cut, which would be a SIGBUS
        return Columns(*self._mapped.rows(first, last))

    def parts(self) -> Iterator[Columns]:
        """Yield copies of all rows in order, up to 65,536 rows at a time."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def close(self) -> None:
        """Unmap the index, and close its file, when the lookups that are under way have ended. See StoredIndex."""
        self._store.close()
        # Nothing is unmapped here: a lookup in another thread holds a reference to the native index, and the last
        # reference unmaps it.
        closed = ClosedIndex(self._store.url)
        self._mapped, self._whole = closed, None
        self.find, self.locate = closed.find, closed.locate

    def __reduce__(self) -> tuple[object, ...]:
        # a pickled index holds no members: the other process opens the store and maps the file again
        return LocalIndex, (self._store, self._offset, self.footer)
