"""Names found through a table in memory, made of all rows when the first name is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack._native.results import FoundRow
from blobpack.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class NameTable:
    """Finds names when the file has no lookup: names that were made to collide."""

    def __init__(self, parts: Callable[[], Iterable[Columns]]) -> None:
        """Take what reads all rows, part by part."""
        self._parts = parts
        self._read: tuple[Columns, NameLookup] | None = None

    def find(self, name: str) -> int:
        """Return the last row of that name, -1 when there is none."""
        return self._table()[1].find(name)

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        found = self.search(name)
        return found and (found.offset_start, found.offset_end)

    def search(self, name: str) -> FoundRow | None:
        """Return its row, offsets and checksum."""
        columns, lookup = self._table()
        row = lookup.find(name)
        return None if row < 0 else FoundRow(row, *columns.payload_at(row))

    def _table(self) -> tuple[Columns, NameLookup]:
        if self._read is None:
            columns = Columns.concatenate(list(self._parts()))
            self._read = columns, NameLookup(columns.names, columns.name_bounds)
        return self._read
