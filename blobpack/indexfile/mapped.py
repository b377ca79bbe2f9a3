"""An index mapped from a local file."""

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
    """An index mapped from a local file: opened in no time at any size, and with no memory of its own."""

    def __init__(self, store: Store, offset: int, footer: Footer) -> None:
        """Map the region.

        Args:
            store: The file; it has a file descriptor.
            offset: Where the region starts in it.
            footer: The region's.

        Raises:
            FormatError: the footer does not fit the region.
        """
        footer.check_fits(store.url, offset)
        self.footer = footer
        self._store, self._offset = store, offset
        fd = store.fd
        if fd is None:  # -1 would map memory without a file
            raise StorageError(f"{store.url}: no file, or a closed one: its index can't be mapped")
        before = offset % mmap.ALLOCATIONGRANULARITY
        try:
            mapped = mmap.mmap(
                fd,
                before + footer.region_bytes,
                access=mmap.ACCESS_READ,
                offset=offset - before,
            )
        except (OSError, ValueError) as exc:  # no descriptor left; a file cut meanwhile
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
        self.find: Callable[[str], int] = self._mapped.find
        self.locate: Callable[[str], tuple[int, int] | None] = self._mapped.locate
        self._whole: NameTable | None = None
        if footer.row_count and not footer.lookup_pages:
            self._whole = NameTable(self.parts)
            self.find, self.locate = self._whole.find, self._whole.locate

    def __len__(self) -> int:
        return self.footer.row_count

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find row, offsets and checksum of each name."""
        if self._whole:
            return list(map(self._whole.search, names))
        return self._mapped.search(list(names))

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the mapping."""
        return Columns(*self._mapped.rows(first, last))

    def parts(self) -> Iterator[Columns]:
        """Copy all rows, part by part."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def __reduce__(self) -> tuple[object, ...]:
        return LocalIndex, (self._store, self._offset, self.footer)
