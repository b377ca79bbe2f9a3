"""Rows of a scan of which many have one long name, that a pax global header gives them.

Strategy: each name is kept once, and each row has the number of its name. Columns hold the names of all rows one behind
the other, so they are made of some rows at a time, as those of an index in a file are. A tar of 2 MB, with a name of
1 MiB for 2,000 members, would otherwise take 2 GB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import measure, take_names
from blobpack._native.results import FoundRow
from blobpack.indexfile.footer import PART_ROWS, Footer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import SharedTexts
    from blobpack.columns import Columns
    from blobpack.model import ScanReport

    Int64s = NDArray[np.int64]

# of the names of the rows that are made at a time
PART_NAME_BYTES = 8 << 20


@dataclass(slots=True)
class SharedNames:
    """The rows of a scan; a StoredIndex in memory.

    Attributes:
        columns: The rows, but with no names, or those of some rows only.
        names: All names, packed, each once.
        bounds: (names + 1,) int64, where each name starts; the last one ends at the last bound.
        numbers: (rows,) int64, which name each row has.
        footer: What the footer of an index file says of these rows.
    """

    columns: Columns
    names: bytes
    bounds: Int64s
    numbers: Int64s
    footer: Footer
    is_remote: bool = False
    _lookup: tuple[NameLookup, Int64s] | None = field(default=None, repr=False)

    @classmethod
    def of_scan(cls, columns: Columns, shared: SharedTexts, report: ScanReport) -> SharedNames:
        """Join the names in the columns and those that rows share."""
        import numpy as np

        count, own = len(columns), columns.packed_names()
        numbers = np.asarray(shared.numbers)
        return cls.of_rows(
            columns,
            b"".join([own, shared.names]),
            np.concatenate([columns.name_bounds, len(own) + np.asarray(shared.name_bounds)[1:]]),
            np.where(numbers < 0, np.arange(count), count + numbers),
            report,
        )

    @classmethod
    def of_rows(
        cls,
        columns: Columns,
        names: bytes,
        bounds: Int64s,
        numbers: Int64s,
        report: ScanReport | None,
    ) -> SharedNames:
        """Make a table, and its footer."""
        payload_bytes, last_end = measure(columns.offset_start, columns.offset_end)
        footer = Footer(
            region_bytes=0,
            identity=None,
            row_count=len(columns),
            payload_bytes=payload_bytes,
            last_end=last_end,
            block_count=0,
            directory=0,
            lookup=0,
            lookup_pages=0,
            lookup_seed=0,
            guide=0,
            guide_bytes=0,
            facts=frozenset(name for name, _ in columns.facts()),
            report=report,
        )
        return cls(columns, names, bounds, numbers, footer)

    def keep(self, mask: Callable[[Columns], NDArray[np.bool_]]) -> SharedNames:
        """Return a table of the rows that a mask of some rows at a time keeps."""
        import numpy as np

        masks = [np.zeros(0, bool), *map(mask, self.parts())]
        rows = np.flatnonzero(np.concatenate(masks))
        columns = self.columns.take(rows)
        return self.of_rows(columns, self.names, self.bounds, self.numbers[rows], None)

    def __len__(self) -> int:
        return len(self.columns)

    def rows(self, first: int, last: int) -> Columns:
        """Make columns of the rows first:last, with their names."""
        names, bounds = take_names(self.names, self.bounds.data, self.numbers[first:last].data)
        return replace(self.columns.slice(first, last), names=names, name_bounds=bounds)

    def parts(self) -> Iterator[Columns]:
        """Yield all rows in order, so many at a time that their names take a bounded memory."""
        import numpy as np

        ends = np.cumsum(np.diff(self.bounds)[self.numbers])
        first = 0
        while first < len(self):
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + PART_NAME_BYTES, "right"))
            last = min(max(last, first + 1), first + PART_ROWS)
            yield self.rows(first, last)
            first = last

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        import numpy as np

        if self._lookup is None:
            last = np.full(len(self.bounds) - 1, -1)
            np.maximum.at(last, self.numbers, np.arange(len(self)))
            # in the order of their last rows: of equal names, the lookup finds the last one
            used = np.argsort(last)[np.count_nonzero(last < 0) :]
            packed = take_names(self.names, self.bounds.data, used.data)
            self._lookup = NameLookup(*packed), last[used]
        lookup, rows = self._lookup
        place = lookup.find(name)
        return int(rows[place]) if place >= 0 else -1

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name, or None."""
        row = self.find(name)
        return None if row < 0 else (self.columns.offset_start[row], self.columns.offset_end[row])

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name."""
        rows = map(self.find, names)
        return [FoundRow(row, *self.columns.payload_at(row)) if row >= 0 else None for row in rows]

    def close(self) -> None:
        """Do nothing: the rows are in memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        # a lookup can't be pickled; it is made again when it is needed
        return SharedNames, (self.columns, self.names, self.bounds, self.numbers, self.footer)
