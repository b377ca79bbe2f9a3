"""The names of an index, as a sequence of str."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import eq
from typing import TYPE_CHECKING, SupportsIndex, overload

from blobpack.columns import Columns
from blobpack.wording import counted

if TYPE_CHECKING:
    from blobpack.index.rows import Rows


class Names(Sequence[str]):
    """The members' names in archive order. Each name is decoded when it is read."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: SupportsIndex | slice) -> str | list[str]:
        if not isinstance(row, slice):
            return self._rows._name_at(row)
        rows = range(*row.indices(len(self)))
        # a run of rows is read at once, not name by name
        if rows.step == 1:
            last = max(rows.start, rows.stop)
            return list(self._rows._columns_of(rows.start, last).iter_names())
        return [self._rows._name_at(i) for i in rows]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(Columns.iter_names, self._rows._pieces()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._rows

    def __eq__(self, other: object) -> bool:
        """Compare with the names of another index, or with a list or tuple of str."""
        if not isinstance(other, (Names, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    # equal objects need equal hashes, and a list has none
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'name')}>"
