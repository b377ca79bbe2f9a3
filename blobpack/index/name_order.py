"""The names of an index in the order of their bytes, as S3 lists keys."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from blobpack._native.name_order import names_ascend, rows_by_name

if TYPE_CHECKING:
    from typing import SupportsIndex

    from blobpack.index.rows import Rows


class NameOrder(Sequence[bytes]):
    """The names of an index, sorted by their bytes. Of members that share a name, only the last one counts.

    Strategy: pack writes members in the order of their names. For such an index, a place in the order is a row, and
    nothing is kept. Any other index is sorted once, natively, which takes a second for a million names; the rows are kept
    in 8 bytes each.
    """

    __slots__ = ("_index", "_rows")

    def __init__(self, index: Rows) -> None:
        """Sort the names of an index. This reads all of them."""
        self._index = index
        self._rows = None if _ascends(index) else _sorted_rows(index)

    def __len__(self) -> int:
        return len(self._index if self._rows is None else self._rows)

    @overload
    def __getitem__(self, place: SupportsIndex) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        name = self._index._name_at(self.row_at(place))
        return name.encode("utf-8", "surrogateescape")

    def row_at(self, place: SupportsIndex) -> int:
        """Return the row of the member at a place in the order."""
        return int(place) if self._rows is None else self._rows[place]

    def first_from(self, name: bytes, low: int = 0) -> int:
        """Return the first place whose name is not below a name; all places before `low` are."""
        # Pages are read one after the other, and folders are skipped one by one: the place is likely to be near.
        step, end = 1, len(self)
        while low + step < end and self[low + step] < name:
            low += step
            step *= 2
        return bisect_left(self, name, low, min(low + step, end))


def _ascends(index: Rows) -> bool:
    """Return whether the rows of an index are in the order of their names, and no name repeats."""
    last: str | None = None
    for piece in index._pieces():
        if not len(piece):
            continue
        if last is not None and not _encoded(last) < _encoded(piece.name_at(0)):
            return False
        if not names_ascend(piece.names, piece.name_bounds):
            return False
        last = piece.name_at(len(piece) - 1)
    return True


def _sorted_rows(index: Rows) -> memoryview:
    import numpy as np

    # only the names, and not the other columns, which would take twice as much
    packed, lengths = bytearray(), [np.zeros(1, np.int64)]
    for piece in index._pieces():
        packed += piece.packed_names()
        lengths.append(piece.name_lengths())
    return rows_by_name(packed, np.cumsum(np.concatenate(lengths)).data)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
