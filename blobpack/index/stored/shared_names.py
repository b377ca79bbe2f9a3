"""Rows of a scan in which a pax global header gives many members one long name.

Strategy: each name is kept once, and each row has the number of its name. Columns hold the name of each row: those of a
tar of 2 MB, with a name of 1 MiB for 2,000 members, would take 2 GB. So columns of many rows are refused if their names
take much more than all names do once. Lookups, and loops that keep no rows, work in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import measure, take_names
from blobpack._native.results import FoundRow, row_of_member
from blobpack.asked_members import row_number
from blobpack.errors import FormatError
from blobpack.indexfile.footer import PART_ROWS, Footer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import SharedTexts
    from blobpack.columns import Columns
    from blobpack.model import Member, ScanReport

    Int64s = NDArray[np.int64]

# names that are copied in any case: 2,000 of 4 KiB, the longest path of Linux
COPIED_NAME_BYTES = 8 << 20


@dataclass(slots=True)
class SharedNames:
    """The rows of a scan; a StoredIndex in memory.

    Attributes:
        columns: The rows, but with no names, or those of some rows only.
        names: All names, packed, each once.
        bounds: (names + 1,) int64, where each name starts; the last one ends at the last bound.
        numbers: (rows,) int64, which name each row has.
        first_used: (names,) int64, where the first member of a shared name begins in the blob, in bytes.
        blob: Path or URL of the blob, for messages.
        footer: What the footer of an index file says of these rows.
    """

    columns: Columns
    names: bytes
    bounds: Int64s
    numbers: Int64s
    first_used: Int64s
    blob: str
    footer: Footer
    is_remote: bool = False
    native: None = None  # see StoredIndex
    url: str = ""
    _lookup: tuple[NameLookup, Int64s] | None = field(default=None, repr=False)

    @classmethod
    def of_scan(
        cls, columns: Columns, shared: SharedTexts, report: ScanReport, blob: str
    ) -> SharedNames:
        """Join the names in the columns and those that rows share."""
        import numpy as np

        count, own = len(columns), columns.packed_names()
        numbers = np.asarray(shared.numbers)
        payload_bytes, last_end = measure(columns.offset_start, columns.offset_end)
        return cls(
            columns,
            b"".join([own, shared.names]),
            np.concatenate([columns.name_bounds, len(own) + np.asarray(shared.name_bounds)[1:]]),
            np.where(numbers < 0, np.arange(count), count + numbers),
            np.asarray(shared.first_used),
            blob,
            Footer.of_rows(
                count,
                payload_bytes,
                last_end,
                frozenset(name for name, _ in columns.facts()),
                report,
            ),
        )

    def __len__(self) -> int:
        return len(self.columns)

    def rows(self, first: int, last: int) -> Columns:
        """Make columns of the rows first:last, with a copy of the name of each.

        Raises:
            FormatError: these names take much more memory than all names do once.
        """
        numbers = self.numbers[first:last]
        name_bytes = int((self.bounds[numbers + 1] - self.bounds[numbers]).sum())
        if name_bytes > COPIED_NAME_BYTES + len(self.names):
            # the numbers of shared names follow those of the rows' own names
            offset = int(self.first_used[numbers[numbers >= len(self)].min() - len(self)])
            raise FormatError(
                f"{self.blob}: the names of {len(numbers):,} members take {name_bytes:,} bytes, because a pax global "
                f"header gives many members one long name: too much to hold in memory, at byte {offset}",
                offset=offset,
            )
        names, bounds = take_names(self.names, self.bounds.data, numbers.data)
        return replace(self.columns.slice(first, last), names=names, name_bounds=bounds)

    def parts(self) -> Iterator[Columns]:
        """Yield all rows at once: whoever collects parts would have all copies of the names in the end."""
        yield self.rows(0, len(self))

    def pieces(self) -> Iterator[Columns]:
        """Yield all rows in order, so many at a time that their names take a bounded memory."""
        import numpy as np

        ends = np.cumsum(np.diff(self.bounds)[self.numbers])
        first = 0
        while first < len(self):
            before = int(ends[first - 1]) if first else 0
            last = int(np.searchsorted(ends, before + COPIED_NAME_BYTES, "right"))
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

    def find_member(self, member: Member) -> int:
        """Return the row of a Member, if it is the last one of its name; see StoredIndex."""
        return row_of_member(self.search([member.name])[0], member)

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name."""
        rows = map(self.find, names)
        return [FoundRow(row, *self.columns.payload_at(row)) if row >= 0 else None for row in rows]

    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end in a row; see StoredIndex."""
        return self.columns.bounds_at(row_number(row, len(self)))

    def name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; see StoredIndex."""
        number = self.numbers[row_number(row, len(self))]
        packed = self.names[self.bounds[number] : self.bounds[number + 1]]
        return packed.decode("utf-8", "surrogateescape")

    def member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; see StoredIndex."""
        nameless = self.columns.member_at(row_number(row, len(self)))
        return replace(nameless, name=self.name_at(row))

    def search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and checksum in each of many rows; see StoredIndex."""
        numbers = [row_number(row, len(self)) for row in rows]
        return [FoundRow(row, *self.columns.payload_at(row)) for row in numbers]

    def check_lookup(self) -> None:
        """Do nothing: the lookup is made in memory."""

    def close(self) -> None:
        """Do nothing: the rows are in memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        # a lookup can't be pickled; it is made again when it is needed
        return SharedNames, (
            self.columns,
            self.names,
            self.bounds,
            self.numbers,
            self.first_used,
            self.blob,
            self.footer,
        )
