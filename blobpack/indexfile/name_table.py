"""A table of all names in memory, for an index that has no lookup.

A writer leaves the lookup out when no seed of its hashes works, which only names do that were made to collide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack._native.lookup import NameLookup
from blobpack._native.results import FoundRow
from blobpack.columns import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class NameTable:
    """Finds names after it has read all rows, once, at the first lookup."""

    def __init__(self, parts: Callable[[], Iterable[Columns]]) -> None:
        """Keep `parts`, which reads all rows in order, for the first lookup."""
        self._parts = parts
        self._read: tuple[Columns, NameLookup] | None = None

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        return self._table()[1].find(name)

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name."""
        found = self.search(name)
        return found and (found.offset_start, found.offset_end)

    def search(self, name: str) -> FoundRow | None:
        """Return the last row with this name, its offsets and its checksum."""
        columns, lookup = self._table()
        row = lookup.find(name)
        return None if row < 0 else FoundRow(row, *columns.payload_at(row))

    def _table(self) -> tuple[Columns, NameLookup]:
        # without a lock: threads that arrive at once each read all rows, and build equal tables
        if self._read is None:
            columns = Columns.concatenate(list(self._parts()))
            self._read = columns, NameLookup(columns.names, columns.name_bounds)
        return self._read
