"""Access to members by row and by name, in columns in memory or in a stored index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, overload

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import measure
from blobpack._native.results import FoundRow
from blobpack.columns import Columns
from blobpack.errors import MemberNotFoundError
from blobpack.index.shared_names import SharedNames
from blobpack.index.suggestions import suggest_names
from blobpack.model import ByteRange, check_whole
from blobpack.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.indexfile.open import StoredIndex
    from blobpack.model import Member


class Rows:
    """The members in archive order.

    Lookups by name find the last member with a name, as the extraction of a tar does. Iteration yields all members.
    """

    __slots__ = ("_loaded", "_lookup", "_stored")

    def __init__(self, columns: Columns | None, stored: StoredIndex | None) -> None:
        """Use columns in memory, or a stored index; exactly one of them is not None."""
        self._loaded = columns
        self._stored = stored
        self._lookup: NameLookup | None = None

    @property
    def _columns(self) -> Columns:
        """All members as columns. For a stored index, this reads the whole index."""
        if self._loaded is None:
            self._loaded = Columns.concatenate(list(self._parts()))
        return self._loaded

    @property
    def _unshared(self) -> Columns:
        """All members as columns, without the long names that members of a tar share."""
        if isinstance(self._stored, SharedNames):
            return self._stored.columns
        return self._columns

    def _parts(self) -> Iterator[Columns]:
        """Yield all members in order, as columns of some of them at a time, in bounded memory."""
        if self._loaded is not None or self._stored is None:
            yield self._columns
        else:
            yield from self._stored.parts()

    def _pieces(self) -> Iterator[Columns]:
        """Yield parts, for a loop that keeps none of them."""
        if isinstance(self._stored, SharedNames):
            return self._stored.pieces()
        return self._parts()

    def __len__(self) -> int:
        return len(self._loaded if self._stored is None else self._stored)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Member]:
        return chain.from_iterable(map(Columns.iter_members, self._pieces()))

    def close(self) -> None:
        """Close the file or blob that the index is read from; closing twice is harmless.

        Later lookups raise StorageError. An index in memory has nothing to close.
        """
        if self._stored is not None:
            self._stored.close()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) >= 0

    def __getitem__(self, name: str) -> Member:
        """Return the last member with this name.

        Raises:
            MemberNotFoundError: there is no member with this name.
        """
        columns, place = self._rows(self.row_of(name))
        return columns.member_at(place)

    @property
    def _is_remote(self) -> bool:
        """Whether a lookup may send requests to a store."""
        return self._stored is not None and self._stored.is_remote and self._loaded is None

    @property
    def names(self) -> Names:
        """The names in archive order, a sequence of str."""
        return Names(self)

    @property
    def offset_start(self) -> NDArray[np.int64]:
        """Start of each payload in the blob, in bytes: (n,) int64, read-only."""
        return _read_only(self._unshared.offset_start)

    @property
    def offset_end(self) -> NDArray[np.int64]:
        """End of each payload in the blob, one past its last byte: (n,) int64, read-only."""
        return _read_only(self._unshared.offset_end)

    @property
    def payload_bytes(self) -> int:
        """Sum of the sizes of all payloads."""
        if self._stored is not None:
            return self._stored.footer.payload_bytes
        return measure(self._columns.offset_start, self._columns.offset_end)[0]

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts that the index has for its members, such as width or crc32c."""
        if self._stored is not None:
            return self._stored.footer.facts
        return frozenset(name for name, _ in self._columns.facts())

    @property
    def _last_end(self) -> int:
        """Largest offset_end of all members; 0 without members."""
        if self._stored is not None:
            return self._stored.footer.last_end
        return measure(self._columns.offset_start, self._columns.offset_end)[1]

    def _rows(self, row: int) -> tuple[Columns, int]:
        """Return columns that hold a row, and the row's place in them."""
        if self._loaded is not None or self._stored is None:
            return self._columns, row
        return self._stored.rows(row, row + 1), 0

    def _columns_of(self, first: int, last: int) -> Columns:
        """Return the rows first:last as columns, without a copy. A stored index reads only these rows."""
        if self._loaded is not None or self._stored is None:
            return self._columns.slice(first, last)
        # slicing a range clips the bounds, and counts negative ones from the end, as slicing a list does
        rows = range(len(self))[first:last]
        return self._stored.rows(rows.start, max(rows.start, rows.stop))

    def _name_at(self, row: int) -> str:
        """Return the name in a row.

        Raises:
            IndexError: not 0 ≤ row < len.
        """
        columns, place = self._rows(self._check_row(row))
        return columns.name_at(place)

    def _member_at(self, row: int) -> Member:
        """Return the member in a row.

        Raises:
            IndexError: not 0 ≤ row < len.
        """
        columns, place = self._rows(self._check_row(row))
        return columns.member_at(place)

    def _check_row(self, row: int) -> int:
        number = check_whole("row", row)
        if not 0 <= number < len(self):
            raise IndexError(f"no row {number} among {len(self)} rows")
        return number

    def range_of(self, name: str) -> ByteRange:
        """Return the bytes of the blob that hold a member's payload.

        Raises:
            MemberNotFoundError: there is no member with this name.
        """
        return ByteRange(*self._bounds_of(name))

    def _bounds_of(self, name: str) -> tuple[int, int]:
        """Return offset_start and offset_end of a member as a plain pair.

        The read path uses this instead of `range_of`: a ByteRange takes half a microsecond to make.

        Raises:
            MemberNotFoundError: there is no member with this name.
        """
        # one call finds the row and its offsets, without columns for a single row
        stored = self._stored
        if stored is not None and (self._loaded is None or not stored.is_remote):
            bounds = stored.locate(name)
            if bounds is not None:
                return bounds
        row = self._find(name)
        if row < 0:
            # raises the error, with similar names in its message
            row = self.row_of(name)
        columns, place = self._rows(row)
        return columns.offset_start[place], columns.offset_end[place]

    def _search(self, names: Sequence[str]) -> list[FoundRow | None]:
        """Find the last row of each of many names, with the offsets and the checksum that a read needs.

        Returns:
            One result for each name; None where there is no member with this name.
        """
        # once all rows are in memory, offsets and checksums come from there
        if self._stored is not None and self._loaded is None:
            return self._stored.search(names)
        rows = map(self._find, names)
        return [FoundRow(row, *self._columns.payload_at(row)) if row >= 0 else None for row in rows]

    def row_of(self, name: str) -> int:
        """Return the last row with this name.

        Raises:
            MemberNotFoundError: there is no member with this name; the message suggests similar names.
        """
        row = self._find(name)
        if row < 0:
            # reads the whole index, for the sake of the message; `in` and `search` do not
            near = suggest_names(self._unshared, name)
            hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
            raise MemberNotFoundError(f"no member {name!r} among {len(self)}{hint}")
        return row

    def _find(self, name: str) -> int:
        stored = self._stored
        # A mapped index finds names faster than a table of them is made. A remote one would send requests for rows that
        # are in memory once all of them were read.
        if stored is not None and (self._loaded is None or not stored.is_remote):
            return stored.find(name)
        if self._lookup is None:
            # made at the first lookup: many indexes are only iterated or written
            self._lookup = NameLookup(self._columns.names, self._columns.name_bounds)
        return self._lookup.find(name)


class Names(Sequence[str]):
    """The members' names in archive order. Each name is decoded when it is read."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            rows = range(*row.indices(len(self)))
            # a run of rows is read at once, not name by name
            if rows.step == 1:
                last = max(rows.start, rows.stop)
                return list(self._rows._columns_of(rows.start, last).iter_names())
            return [self._rows._name_at(i) for i in rows]
        # a sequence counts negative rows from the end; name_at and member_at refuse them
        number = check_whole("row", row)
        if not -len(self) <= number < len(self):
            raise IndexError(f"no row {number} among {len(self)} rows")
        return self._rows._name_at(number % len(self))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(Columns.iter_names, self._rows._pieces()))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'name')}>"


def row_numbers(rows: Any, count: int) -> NDArray[np.int64]:
    """Return rows that a caller chose, as numbers.

    Args:
        rows: (k,) whole numbers, or a mask, (count,) bool.
        count: Number of rows that there are.

    Returns:
        (k,) int64; whether these rows exist is not checked.

    Raises:
        IndexError: the mask has another length.
        TypeError: this is neither a list or array of whole numbers nor a mask.
    """
    import numpy as np

    try:
        chosen = np.asarray(rows)
    # a list of lists of several lengths
    except ValueError:
        chosen = np.asarray(None)
    # NumPy would take one number for a list of it, cut 1.5 to 1, and take True beside a 2 for 1
    is_list = chosen.ndim == 1 and not (
        isinstance(rows, Sequence)
        and chosen.dtype.kind != "b"
        and {bool, np.bool_} & set(map(type, rows))
    )
    if is_list and chosen.dtype.kind == "b":
        if len(chosen) != count:
            raise IndexError(f"a mask of {len(chosen)} rows for {count} rows")
        return np.flatnonzero(chosen)
    # an empty list becomes float64
    if not is_list or (len(chosen) and chosen.dtype.kind not in "iu"):
        raise TypeError(
            f"rows must be a list or array of whole numbers, or a mask, not {rows!r:.200}"
        )
    return chosen.astype(np.int64)


def _read_only(column: memoryview) -> NDArray[np.int64]:
    import numpy as np

    values = np.frombuffer(column, np.int64)
    # the index and its slices share these bytes
    values.flags.writeable = False
    return values
