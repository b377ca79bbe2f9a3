"""Some rows of an index file: their numbers are in memory, and the members stay in the file.

Strategy: columns of ten million members take half a gigabyte, the numbers of their rows at most 80 MB, and a run of rows
nothing. So a large selection keeps numbers, and reads the members from the mapped file when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack._native.packed import measure
from blobpack._native.results import FoundRow, row_of_member
from blobpack.asked_members import row_number
from blobpack.index.row_numbers import ascends
from blobpack.indexfile.footer import PART_ROWS, Footer
from blobpack.indexfile.name_table import NameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns
    from blobpack.indexfile.mapped import LocalIndex
    from blobpack.model import Member

    Numbers = range | NDArray[np.int64]


class ChosenRows:
    """Rows of a mapped index, in any order; a StoredIndex."""

    is_remote = False
    native = None  # see StoredIndex
    url = ""

    def __init__(
        self, base: LocalIndex, numbers: Numbers, sums: tuple[int, int] | None = None
    ) -> None:
        """Choose rows.

        Args:
            base: The index. It must stay open.
            numbers: Rows of the base, each 0 ≤ row < len; a range has the step 1.
            sums: Bytes of all payloads, and the largest offset_end, if they are known.
        """
        self._base, self._numbers = base, numbers
        self._table = NameTable(self.parts)
        self._sums = sums
        # In rows that do not ascend, the last row with a name may not be the one that the base finds.
        self._ascends = ascends(numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def footer(self) -> Footer:
        """A footer for these rows, which are in no index file of their own."""
        if self._sums is None:
            self._sums = sums_of(self.parts())
        return Footer.of_rows(len(self), *self._sums, self.facts)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts that the index has."""
        return self._base.footer.facts

    def rows(self, first: int, last: int) -> Columns:
        """Copy the rows first:last out of the map."""
        numbers = self._numbers
        if isinstance(numbers, range):
            return self._base.rows(numbers.start + first, numbers.start + last)
        return self._base.take(numbers[first:last])

    def take(self, places: NDArray[np.int64]) -> Columns:
        """Copy rows out of the map, in the order given."""
        return self._base.take(self._numbers_at(places))

    def of_rows(self, places: Numbers, sums: tuple[int, int] | None = None) -> ChosenRows:
        """Choose some of these rows; see __init__."""
        return ChosenRows(self._base, self._numbers_at(places), sums)

    def _numbers_at(self, places: Any) -> Any:
        """Return the rows of the base for some of these rows: a range or an array."""
        numbers = self._numbers
        if isinstance(places, range):
            return numbers[places.start : places.stop]
        return numbers.start + places if isinstance(numbers, range) else numbers[places]

    def parts(self) -> Iterator[Columns]:
        """Yield copies of all rows in order, up to 65,536 rows at a time."""
        # of no rows, one empty part: it has the facts, which columns that are joined with it would lose otherwise
        for first in range(0, max(len(self), 1), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))

    def find(self, name: str) -> int:
        """Return the last row with this name, or -1."""
        row = self._base.find(name)
        return row if row < 0 else self._found(name, row)

    def _found(self, name: str, row: int) -> int:
        """Return the last of these rows with a name, or -1; `row` is the last row of the base with this name."""
        numbers, place = self._numbers, -1
        if isinstance(numbers, range):
            place = row - numbers.start if row in numbers else -1
        elif self._ascends:
            place = int(numbers.searchsorted(row, "right")) - 1
            place = place if place >= 0 and numbers[place] == row else -1
        # an earlier member of this name may be among the rows
        return place if place >= 0 else self._table.find(name)

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return offset_start and offset_end of the last row with this name, or None."""
        row = self.find(name)
        return None if row < 0 else self.bounds_at(row)

    def find_member(self, member: Member) -> int:
        """Return the row of a Member, if it is the last one of its name; see StoredIndex."""
        return row_of_member(self.search([member.name])[0], member)

    def search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the row, offsets and checksum of each name."""
        names = list(names)
        rows = [
            -1 if hit is None else self._found(name, hit.row)
            for name, hit in zip(names, self._base.search(names), strict=True)
        ]
        hits = iter(self.search_rows([row for row in rows if row >= 0]))
        return [next(hits) if row >= 0 else None for row in rows]

    def search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and checksum in each of many rows; see StoredIndex."""
        places = [row_number(row, len(self)) for row in rows]
        hits = self._base.search_rows([int(self._numbers[place]) for place in places])
        return [FoundRow(place, *hit[1:]) for place, hit in zip(places, hits, strict=True)]

    def bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end in a row; see StoredIndex."""
        return self._base.bounds_at(self._number(row))

    def name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; see StoredIndex."""
        return self._base.name_at(self._number(row))

    def member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; see StoredIndex."""
        return self._base.member_at(self._number(row))

    def _number(self, row: SupportsIndex) -> int:
        return int(self._numbers[row_number(row, len(self))])

    def check_lookup(self) -> None:
        """Do nothing: the lookup belongs to the base, and is checked there."""

    def close(self) -> None:
        """Do nothing: other selections may still read the base."""


def sums_of(parts: Iterable[Columns]) -> tuple[int, int]:
    """Return the bytes of all payloads, and the largest offset_end."""
    payload_bytes = last_end = 0
    for part in parts:
        some, end = measure(part.offset_start, part.offset_end)
        payload_bytes, last_end = payload_bytes + some, max(last_end, end)
    return payload_bytes, last_end
