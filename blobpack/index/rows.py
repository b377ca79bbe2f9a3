"""Access to members by row and by name, in columns in memory or in a stored index."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, TypeVar, overload

from blobpack._native.lookup import MemberColumnsLocator, NameLookup
from blobpack._native.packed import measure
from blobpack._native.results import OTHER_MEMBER, FoundRow, row_of_member
from blobpack.asked_members import not_which, row_number
from blobpack.columns import Columns
from blobpack.errors import MemberNotFoundError
from blobpack.index.names import Names
from blobpack.index.origin import origin_of
from blobpack.index.stored.chosen_rows import ChosenRows
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.index.stored.shared_names import SharedNames
from blobpack.index.suggestions import suggest_names
from blobpack.index.which import hidden_rows, rows_of_several
from blobpack.indexfile.mapped import LocalIndex
from blobpack.model import ByteRange, Member
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import SupportsIndex
    from weakref import ReferenceType

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.mapped_index import MappedIndex
    from blobpack.index.origin import Origin
    from blobpack.index.which import MemberKey
    from blobpack.indexfile.open import StoredIndex
    from blobpack.model import Which

Default = TypeVar("Default")

# Rows of a stored index that are read block by block: at most this many blocks of some 30 kB. For more rows, the whole
# index is read, which stays in memory for what is asked for next.
TAKEN_ALONE_MAX = 256


class Rows:
    """The members in archive order.

    Lookups by name find the last member with a name, as the extraction of a tar does. Iteration yields all members.
    """

    __slots__ = ("__weakref__", "_hidden", "_loaded", "_lookup", "_origin", "_reader", "_stored")

    def __init__(self, columns: Columns | None, stored: StoredIndex | None) -> None:
        """Use columns in memory, or a stored index; exactly one of them is not None."""
        self._loaded = columns
        self._stored = stored
        self._lookup: NameLookup | None = None
        self._hidden: dict[MemberKey, int] | None = None
        # the index that these rows were cut from; None if they were cut from no other
        self._origin: Origin | None = None
        # a weak reference to the blob or collection that reads by these rows; None if none does
        self._reader: ReferenceType[object] | None = None

    @property
    def _columns(self) -> Columns:
        """All members as columns. For a stored index, this reads the whole index."""
        if self._loaded is None:
            few = len(self) <= ROWS_IN_MEMORY_MAX or isinstance(self._stored, SharedNames)
            parts = self._parts()
            self._loaded = (
                Columns.concatenate(list(parts)) if few else Columns.joined(parts, len(self))
            )
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

    def _check_lookup(self) -> None:
        """Compare the parts of a stored index that only lookups by name read with their checksums.

        Raises:
            FormatError: one of them is damaged.
        """
        if self._stored is not None:
            self._stored.check_lookup()

    def __contains__(self, which: object) -> bool:
        """Return whether there is a member of this name, or exactly this Member."""
        if isinstance(which, Member):
            return self._find_member(which) >= 0
        return isinstance(which, str) and self._find(which) >= 0

    @overload
    def get(self, which: Which) -> Member | None: ...
    @overload
    def get(self, which: Which, default: Default) -> Member | Default: ...
    def get(self, which: Which, default: object = None) -> object:
        """Return a member like `index[which]`, or the default if there is none."""
        row = self._row_if_any(which)
        return default if row is None else self._member_at(row)

    def _row_if_any(self, which: Which) -> int | None:
        """Return the row of a member, or None. No similar names are looked for, which would read the whole index."""
        if isinstance(which, (str, Member)):
            row = self._find(which) if isinstance(which, str) else self._find_member(which)
            return None if row < 0 else row
        try:
            return self.row_of(which)
        except IndexError:
            return None

    def _locator(self) -> MappedIndex | MemberColumnsLocator | None:
        """Return what finds members for MemberReads; None if only the methods of this class find them."""
        if self._stored is not None:
            return self._stored.native
        columns = self._columns
        return MemberColumnsLocator(
            self._lookup, columns.offset_start, columns.offset_end, columns.crc32c
        )

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

    @property
    def _mapped(self) -> LocalIndex | ChosenRows | None:
        """The stored index, if it is mapped from a file and its members are not in memory."""
        stored = self._stored if self._loaded is None else None
        return stored if isinstance(stored, (LocalIndex, ChosenRows)) else None

    def _columns_of(self, first: int, last: int) -> Columns:
        """Return the rows first:last as columns, without a copy. A stored index reads only these rows."""
        if self._loaded is not None or self._stored is None:
            return self._columns.slice(first, last)
        # slicing a range clips the bounds, and counts negative ones from the end, as slicing a list does
        rows = range(len(self))[first:last]
        return self._stored.rows(rows.start, max(rows.start, rows.stop))

    def _take(self, rows: NDArray[np.int64]) -> Columns:
        """Return rows as columns, in this order.

        A mapped index reads only these rows, if they are few or the index is large. A remote index reads only the blocks of
        few rows. Otherwise the whole index is read.
        """
        stored = self._mapped
        if stored is not None and (len(rows) <= TAKEN_ALONE_MAX or len(self) > ROWS_IN_MEMORY_MAX):
            return stored.take(rows)
        return self._take_unmapped(rows)

    def _take_unmapped(self, rows: NDArray[np.int64]) -> Columns:
        stored = self._stored
        if (
            self._loaded is not None
            or stored is None
            # its rows are in memory, and it bounds the memory for copies of a name only if they are made together
            or isinstance(stored, SharedNames)
            or not 0 < len(rows) <= TAKEN_ALONE_MAX
        ):
            return self._columns.take(rows)
        import numpy as np

        distinct, places = np.unique(rows, return_inverse=True)
        # requests the blocks of all rows at once, and keeps them for the loop below
        stored.search_rows(distinct.tolist())
        found = [stored.rows(row, row + 1) for row in distinct.tolist()]
        return Columns.concatenate(found).take(places)

    def _name_at(self, row: SupportsIndex) -> str:
        """Return the name in a row; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
        """
        if self._loaded is None:
            return self._stored.name_at(row)  # type: ignore[union-attr]  # one of both is there
        return self._loaded.name_at(row_number(row, len(self)))

    def _member_at(self, row: SupportsIndex) -> Member:
        """Return the member in a row; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
        """
        if self._loaded is None:
            return self._stored.member_at(row)  # type: ignore[union-attr]  # one of both is there
        return self._loaded.member_at(row_number(row, len(self)))

    def _bounds_at(self, row: SupportsIndex) -> tuple[int, int]:
        """Return offset_start and offset_end of the member in a row; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
        """
        if self._loaded is None:
            return self._stored.bounds_at(row)  # type: ignore[union-attr]
        return self._loaded.bounds_at(row_number(row, len(self)))

    def range_of(self, which: Which) -> ByteRange:
        """Return the bytes of the blob that hold a member's payload.

        Args:
            which: A name, a Member or a row; see `row_of`.

        Raises:
            IndexError: there is no such row.
            MemberNotFoundError: there is no such member.
        """
        return ByteRange(*self._bounds_of(which))

    def _bounds_of(self, which: Which) -> tuple[int, int]:
        """Return offset_start and offset_end of a member as a plain pair.

        The read path uses this instead of `range_of`: a ByteRange takes half a microsecond to make.

        Raises:
            IndexError: there is no such row.
            MemberNotFoundError: there is no such member.
        """
        if isinstance(which, Member):
            # a Member's row has its offsets
            if self._find_member(which) < 0:
                raise self._not_found(which)
            return which.offset_start, which.offset_end
        if not isinstance(which, str):
            try:
                return self._bounds_at(which)
            except TypeError:
                raise not_which(which) from None
        # one call finds the row and its offsets, without columns for a single row
        stored = self._stored
        if stored is not None and (self._loaded is None or not stored.is_remote):
            bounds = stored.locate(which)
            if bounds is not None:
                return bounds
        return self._bounds_at(self.row_of(which))

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

    def _search_rows(self, rows: Iterable[SupportsIndex]) -> list[FoundRow]:
        """Return the offsets and the checksum in many rows; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
        """
        if self._loaded is None:
            return self._stored.search_rows(rows)  # type: ignore[union-attr]
        numbers = [row_number(row, len(self)) for row in rows]
        return [FoundRow(row, *self._loaded.payload_at(row)) for row in numbers]

    def row_of(self, which: Which) -> int:
        """Return the row of a member.

        Args:
            which: A name, which means the last member of that name. Or a Member, which means exactly itself: the member
                with its name, its offsets and, if both are known, its CRC-32C. Or a row; negative rows count from the end.

        Raises:
            IndexError: there is no such row.
            MemberNotFoundError: there is no such member. The message suggests similar names.
        """
        if isinstance(which, (str, Member)):
            row = self._find(which) if isinstance(which, str) else self._find_member(which)
            if row < 0:
                raise self._not_found(which)
            return row
        try:
            return row_number(which, len(self))
        except TypeError:
            raise not_which(which) from None

    def rows(self, several: Iterable[Which]) -> NDArray[np.int64]:
        """Return the rows of several members, in the order asked. Names are looked up together.

        Args:
            several: Names, Members and rows, as for `row_of`; or an array of rows, or a mask, as for `index[…]`.

        Returns:
            (k,) int64, each 0 ≤ row < len.

        Raises:
            IndexError: there is no such row, or the mask has another length.
            MemberNotFoundError: there is no such member.
        """
        return rows_of_several(self, several)

    def _rows_of_cut(self, several: object) -> range | NDArray[np.int64] | None:
        """Return the rows of an index that was cut from this one, or of this one itself; None for anything else."""
        if not isinstance(several, Rows):
            return None
        base, rows = origin_of(several)
        return rows if base() is self else None

    def _not_found(self, which: str | Member) -> MemberNotFoundError:
        """Return the error for a name or a Member that is not in the index."""
        if isinstance(which, Member):
            place = f" at bytes {which.offset_start} to {which.offset_end}"
            last = self._search([which.name])[0]
            if last is not None and last[1:3] == (which.offset_start, which.offset_end):
                return MemberNotFoundError(
                    f"no member {which.name!r}{place} with the checksum {which.crc32c:08x} among {counted(len(self), 'member')}: the "
                    "last one of this name there has another checksum"
                )
            if last is not None:
                return MemberNotFoundError(
                    f"no member {which.name!r}{place} among {counted(len(self), 'member')}: the last one of this name is at bytes "
                    f"{last.offset_start} to {last.offset_end}"
                )
            return MemberNotFoundError(
                f"no member {which.name!r}{place} among {counted(len(self), 'member')}"
            )
        # reads the whole index, for the sake of the message; `in` and `_search` do not
        near = suggest_names(self._unshared, which)
        hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
        return MemberNotFoundError(
            f"no member {which!r} among {counted(len(self), 'member')}{hint}"
        )

    def _find_member(self, member: Member) -> int:
        """Return the row with a Member's name, offsets and checksum, or -1."""
        stored = self._stored
        if stored is not None and (self._loaded is None or not stored.is_remote):
            row = stored.find_member(member)
        else:
            row = row_of_member(self._search([member.name])[0], member)
        # an earlier member may have this name, too; lookups find only the last one
        return row if row != OTHER_MEMBER else self._hidden_row(member)

    def _hidden_row(self, member: Member) -> int:
        """Return the row of a Member that is not the last of its name, or -1."""
        # made at the first Member that a lookup does not find: few tars have such members, and a pass for each Member
        # would make a loop over the members take a time that grows with the square of their number
        if self._hidden is None:
            self._hidden = hidden_rows(self)
        checksum = member.crc32c if "crc32c" in self.facts else None
        place = (member.name, member.offset_start, member.offset_end, checksum)
        return self._hidden.get(place, -1)

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


def _read_only(column: memoryview) -> NDArray[np.int64]:
    import numpy as np

    values = np.frombuffer(column, np.int64)
    # the index and its slices share these bytes
    values.flags.writeable = False
    return values
