"""An index mapped from a local file.

Strategy: map the region, and leave it to the kernel to load the pages that lookups touch. Opening takes the same time
for any number of members (27 µs for a million), and nothing is built for a member.

An append overwrites an index inside a blob while readers have it mapped. The native lookups notice that, and then the
index is found again (`overwritten.py`). Members that were appended are not shown, so that an open index does not change.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NoReturn

from blobpack._native.mapped_index import MappedIndex
from blobpack._native.results import row_of_member
from blobpack.asked_members import row_number
from blobpack.columns import MEDIA_TYPES, Columns
from blobpack.errors import FormatError, StorageError
from blobpack.indexfile.footer import PART_ROWS
from blobpack.indexfile.name_table import NameTable
from blobpack.indexfile.overwritten import find_again
from blobpack.indexfile.sections import IndexParts
from blobpack.stores.local import LocalStore
from blobpack.threads import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.members import Member
    from blobpack._native.results import FoundRow
    from blobpack.indexfile.footer import Footer
    from blobpack.stores.base import Store


# Of a larger file, pages are unmapped when many rows were read. Mapping them again takes 0.1 µs a member.
KEPT_PAGES_BYTES_MAX = 64 << 20
FORGOTTEN_ROWS_MIN = 1 << 14

# One lock for all indexes: an index is seldom renewed, and a lock for each one would make opening slower.
_renewing = fork_safe_lock()


class ClosedIndex:
    """Takes the place of a native index that was closed: all lookups raise StorageError."""

    def __init__(self, where: str) -> None:
        self._where = where

    def close(self) -> None:
        """Do nothing."""

    def forget_pages(self) -> None:
        """Do nothing."""

    def _raise_closed(self, *_: object) -> NoReturn:
        raise StorageError(f"{self._where}: the index is closed")

    find = locate = find_member = search = rows = take = _raise_closed
    bounds_at = name_at = member_at = search_rows = _raise_closed


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
        self.footer = footer
        self._store, self._offset = store, offset
        self._table: NameTable | None = None
        self._is_renewed = False
        self.mapped: MappedIndex | ClosedIndex = self._map(store, offset, footer)
        # False although there are members: the writer found no seed for names that were made to collide
        self._has_lookup = bool(footer.lookup_pages or not footer.row_count)
        if self._has_lookup:
            # Bound methods of the native index. A lookup takes about 0.6 µs, so the Python methods around it would be a
            # noticeable part.
            self.find = self.mapped.find  # type: ignore[method-assign]
            self.locate = self.mapped.locate  # type: ignore[method-assign]
            self.find_member = self.mapped.find_member  # type: ignore[method-assign]

    def _map(self, store: Store, offset: int, footer: Footer) -> MappedIndex:
        footer.check_fits(store.url, offset)
        fd = store.fd
        if fd is None:
            raise StorageError(f"{store.url}: its index can't be mapped: the file is closed")
        return MappedIndex(
            fd,
            store.url,
            offset,
            footer.region_bytes,
            footer.packed,
            # weak: a reference to this object would be a cycle, and keep the map of a closed blob
            weakref.ref(self),
            row_count=footer.row_count,
            last_end=footer.last_end,
            block_count=footer.block_count,
            directory=footer.directory,
            lookup=footer.lookup,
            pages=footer.lookup_pages,
            seed=footer.lookup_seed,
            # an index that is found again may have more facts
            facts=footer.facts_mask & self.footer.facts_mask,
            media_types=MEDIA_TYPES,
        )

    def renew(self, overwritten: MappedIndex) -> None:
        """Find the index again, after it was overwritten.

        Args:
            overwritten: The native index that noticed it. Nothing is done if another thread has renewed it already.

        Raises:
            BlobChangedError: something else than an append or embedding has overwritten the index.
        """
        with _renewing:
            if self.mapped is not overwritten:
                return
            store, offset, footer = find_again(self._store, self.footer)
            self.mapped = self._map(store, offset, footer)
            self._is_renewed = True
            self._has_lookup = self._has_lookup and footer.lookup_pages > 0
            self._look_up_here()

    def _look_up_here(self) -> None:
        """Look names up by the methods of this class from now on, which leave out new members."""
        for name in ("find", "locate", "find_member"):
            self.__dict__.pop(name, None)

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        row = self.mapped.find(name) if self._has_lookup else len(self)
        return row if row < len(self) else self._names().find(name)

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name, or None."""
        found = self.search([name])[0]
        return found and (found.offset_start, found.offset_end)

    def __len__(self) -> int:
        return self.footer.row_count

    @property
    def native(self) -> MappedIndex | None:
        """The native index in which MemberReads finds members; None for one that was closed, or shows new members."""
        mapped = self.mapped
        return None if self._is_renewed or isinstance(mapped, ClosedIndex) else mapped

    @property
    def store(self) -> Store:
        """The file that holds the index."""
        return self._store

    @property
    def url(self) -> str:
        """Path or URL of the file or blob that holds the index."""
        return self._store.url

    def find_member(self, member: Member) -> int:
        """Return the row of a Member, if it is the last one of its name; see StoredIndex."""
        return row_of_member(self.search([member.name])[0], member)

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name."""
        if not self._has_lookup:
            return list(map(self._names().search, names))
        names = list(names)
        found = self.mapped.search(names)
        self._forget_pages(len(names))
        if not self._is_renewed:
            return found
        return [
            hit if hit is None or hit.row < len(self) else self._names().search(name)
            for name, hit in zip(names, found, strict=True)
        ]

    def _names(self) -> NameTable:
        """Return a table of all names, for an index without a lookup, or with new members that hide older ones."""
        if self._table is None:
            self._table = NameTable(self.parts)
        return self._table

    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end in a row; see StoredIndex."""
        return self.mapped.bounds_at(self._own_row(row) if self._is_renewed else row)

    def name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; see StoredIndex."""
        return self.mapped.name_at(self._own_row(row) if self._is_renewed else row)

    def member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; see StoredIndex."""
        return self.mapped.member_at(self._own_row(row) if self._is_renewed else row)

    def search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and checksum in each of many rows; see StoredIndex."""
        return self.mapped.search_rows(list(map(self._own_row, rows) if self._is_renewed else rows))

    def _own_row(self, row: SupportsIndex) -> int:
        """Return a row's number among the rows that this index shows; one that was found again may have more."""
        return row_number(row, len(self))

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the map."""
        # a copy: columns must not point into a file that another process may cut, which would be a SIGBUS
        columns = Columns(*self.mapped.rows(first, last))
        self._forget_pages(last - first)
        return columns

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """Copy rows out of the map, in the order given: (k,) int64, each 0 ≤ row < len."""
        import numpy as np

        columns = Columns(*self.mapped.take(np.ascontiguousarray(rows, np.int64).data))
        self._forget_pages(len(rows))
        return columns

    def _forget_pages(self, rows: int) -> None:
        # otherwise a pass over all rows or names would make all of the file part of this process's memory
        if rows >= FORGOTTEN_ROWS_MIN and self.footer.region_bytes > KEPT_PAGES_BYTES_MAX:
            self.mapped.forget_pages()

    def parts(self) -> Iterator[Columns]:
        """Yield copies of all rows in order, up to 65,536 rows at a time."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def check_lookup(self) -> None:
        """Check what only lookups by name read; see StoredIndex."""
        try:
            IndexParts(self._store, self._offset, self.footer).check_lookup()
        except FormatError:
            # An append may have overwritten the index, from its front. Then reading the rows finds it again.
            for _ in self.parts():
                pass
            if not self._is_renewed:
                raise

    def again(self) -> LocalIndex:
        """Map this index again. The new one stays open when this one is closed."""
        fd = self._store.fd
        if fd is None:
            raise StorageError(f"{self._store.url}: the index is closed")
        store = LocalStore(self._store.location or "", version=None, fd=fd)
        return LocalIndex(store, self._offset, self.footer)

    def close(self) -> None:
        """Unmap the index, and close its file, when the lookups that are under way have ended. See StoredIndex."""
        self._store.close()
        self.mapped.close()
        # Nothing is unmapped here: a lookup in another thread holds a reference to the native index, and the last
        # reference unmaps it.
        self.mapped, self._table = ClosedIndex(self._store.url), None
        self._look_up_here()

    def __reduce__(self) -> tuple[object, ...]:
        # a pickled index holds no members: the other process opens the store and maps the file again
        return LocalIndex, (self._store, self._offset, self.footer)
