"""The public class `Index`: the members of a blob, as columns instead of one object for each member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from blobpack._native.lookup import NameLookup
from blobpack._native.packed import take_basenames
from blobpack.asked_members import row_number
from blobpack.columns import FACTS, OFFSET_MAX, Columns
from blobpack.errors import DuplicateNameError
from blobpack.index.origin import common_identity, common_origin, origin_of
from blobpack.index.referring import ReferringRows
from blobpack.index.repeated_names import first_repeated
from blobpack.index.row_numbers import existing_rows
from blobpack.index.select import make_conditions, masks
from blobpack.index.stored.chosen_rows import ChosenRows
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX, choose, pick
from blobpack.index.stored.scratch import ScratchIndex
from blobpack.index.tables.html import html_table
from blobpack.indexfile.footer import may_end
from blobpack.model import Member, ScanReport, check_several, check_whole, shown
from blobpack.wording import counted

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Never

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.indexfile.identity import Identity
    from blobpack.indexfile.open import StoredIndex


class Index(ReferringRows):
    """The members of a blob, in archive order.

    Names need not be unique in a tar. A lookup by name finds the last member with this name,
    because the last one also remains when a tar is extracted. Iteration yields all members. An
    index does not change, and a selection is a new index. An index that was opened from a file or a
    blob reads only the parts that are needed.

    Attributes:
        report: Report of the scan that found the members; None if the index does not come from a scan.
        identity: Identity of the archive that the index belongs to; None if it is not known.
    """

    __slots__ = ()

    def __init__(self, members: Iterable[Member] = (), *, report: ScanReport | None = None) -> None:
        """Make an index of members, in their order.

        The columns media type, width, height and modification time are left out if no member has a value for them. The
        column of checksums is left out if any member has none.

        Raises:
            TypeError: an argument has another type, or one of the members is not a Member.
            ValueError: a member has a negative offset, ends before it starts, or has a name or a fact that an index can't
                hold; or the report is of a scan that can't have ended there: before the last member, say.
        """
        check_several("members", members, "Members")
        if report is not None and not isinstance(report, ScanReport):
            raise TypeError(f"report must be a ScanReport or None, not {report!r}")
        super().__init__(Columns.of_members(members), None)
        # no reader would open an index file with such a report
        if report is not None and not may_end(report, self._last_end, OFFSET_MAX):
            raise ValueError(
                f"the report's bytes_scanned must be a multiple of 512, and not below {self._last_end}, where the last "
                f"member ends, and its end_marker must be 0, 1 or 2, not {report.bytes_scanned} and {report.end_marker}"
            )
        self.report = report
        self.identity = None

    # True and False are of type int, and no rows
    @overload
    def __getitem__(self, which: bool) -> Never: ...
    @overload
    def __getitem__(self, which: str | Member | int | np.integer[Any]) -> Member: ...
    # Not SupportsIndex for a row: NumPy's stubs let every array be one, so that the type of index[array] would be unknown.
    @overload
    def __getitem__(
        self, which: slice | Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]
    ) -> Index: ...
    def __getitem__(self, which: Any) -> Member | Index:
        """Return a member, or an index of some rows.

        Args:
            which: For a member, its name, the Member or its row; see `row_of`. For an index, a slice of rows, which is no
                copy; a list or array of rows, in the order of the result; or a mask, (n,) bool. Negative rows count from
                the end.

        Raises:
            IndexError: there is no such row, or the mask has another length.
            MemberNotFoundError: there is no such member.
            TypeError: this is none of these.
        """
        if isinstance(which, int):
            return self._member_at(which)
        if isinstance(which, (str, Member)):
            return self._member_at(self.row_of(which))
        if isinstance(which, slice):
            return self._cut(self._rows_sliced(which))
        # NumPy's whole numbers are no int, and an array of them has __index__, too
        try:
            row = row_number(which, len(self))
        except TypeError:
            return self._cut(self._rows_in(which))
        return self._member_at(row)

    def _rows_in(self, which: Any) -> NDArray[np.int64]:
        try:
            return existing_rows(which, len(self))
        except TypeError:
            hint = ""
            if isinstance(which, (list, tuple)) and any(
                isinstance(one, (str, Member)) for one in which
            ):
                hint = "; for several names: index.select(names=…), or index[index.rows(…)] in the order asked"
            raise TypeError(
                f"an index takes a name, a Member, a row, a slice, rows or a mask, not {shown(which)}{hint}"
            ) from None

    def _cut(self, rows: range | NDArray[np.int64]) -> Index:
        """Return an index of some rows of this one; a range has the step 1. Many rows of a mapped index stay in its file."""
        mapped = self._mapped
        if mapped is not None and len(rows) > ROWS_IN_MEMORY_MAX:
            return self._index_of(choose(mapped, rows), rows)
        if isinstance(rows, range):
            return self._index_of(self._columns_of(rows.start, rows.stop), rows)
        return self._index_of(self._take(rows), rows)

    def _index_of(self, found: Columns | StoredIndex, rows: range | NDArray[np.int64]) -> Index:
        """Return an index of members that were cut from this one. It remembers their rows in this one."""
        index = (
            self._from_columns(found) if isinstance(found, Columns) else self._from_stored(found)
        )
        # The identity stays, because offsets still point into that archive. The report does not: it
        # counts what the scan found in the whole archive.
        index.identity = self.identity
        index._origin = origin_of(self).at(rows)
        return index

    def _view(self, rows: range | NDArray[np.int64]) -> Index:
        """Return an index of some rows, for use while this one is open. Rows of a mapped index stay in its file."""
        mapped = self._mapped
        if mapped is None:
            return self._cut(rows)
        if isinstance(mapped, ChosenRows):
            return self._index_of(mapped.of_rows(rows), rows)
        return self._index_of(ChosenRows(mapped, rows), rows)

    def _rows_sliced(self, rows: slice) -> range | NDArray[np.int64]:
        # the numbers of a range are those that slicing a list takes
        numbers = range(len(self))[rows]
        if numbers.step == 1:
            return range(numbers.start, max(numbers.start, numbers.stop))
        return existing_rows(numbers, len(self))

    def head(self, n: int = 5) -> Index:
        """Return the first n rows, or all but the last -n; a stored index reads only these."""
        return self[: check_whole("n", n)]

    @classmethod
    def concatenate(cls, indexes: Iterable[Index]) -> Index:
        """Join indexes of one blob, or of one open collection, in their order. `index + other` joins two.

        Raises:
            ValueError: two of them belong to different blobs. This is not noticed for an index of a scan or of an
                offsets file, which does not record its blob. Or one belongs to a collection, and another one was not
                cut from the index of that open collection.
        """
        check_several("indexes", indexes, "indexes")
        listed = list(indexes)
        for index in listed:
            if not isinstance(index, Index):
                raise TypeError(f"indexes must be several Index, but one is {shown(index)}")
        # no rows fit any blob
        filled = [index for index in listed if len(index)]
        origin = common_origin(filled)
        identity = common_identity(
            {index.identity for index in filled}, one_origin=origin is not None
        )
        joined = cls._from_columns(
            Columns.concatenate([index._columns for index in listed]), identity=identity
        )
        joined._origin = origin
        return joined

    def __add__(self, other: Index) -> Index:
        """Return the rows of both, of one blob or open collection, in this order; see `concatenate`.

        Raises:
            ValueError: they belong to different blobs, as far as both are known, or to different collections.
        """
        if not isinstance(other, Index):
            return NotImplemented
        return Index.concatenate([self, other])

    def __eq__(self, other: object) -> bool:
        """Compare names and offsets, in order. Facts do not count: a scan without facts finds an equal index."""
        if not isinstance(other, Index):
            return NotImplemented
        import numpy as np

        mine, others = self._columns, other._columns
        return bool(
            mine.offset_start == others.offset_start
            and mine.offset_end == others.offset_end
            # the packed bytes alone do not tell "ab", "c" from "a", "bc"
            and np.array_equal(mine.name_lengths(), others.name_lengths())
            and mine.packed_names() == others.packed_names()
        )

    # Equal objects need equal hashes, and the hash of an index would take a pass over all names.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        # the stored index is pickled as its location and footer, even if its rows were read: the copy opens it again
        if self._stored is not None and not isinstance(self._stored, (ScratchIndex, ChosenRows)):
            return Index._from_stored, (self._stored,)
        # Of a scratch index and a selection, the members are pickled: no other process can open a scratch file, and a
        # selection must not need its blob.
        return _restored, (self._columns, self.report, self.identity)

    def __repr__(self) -> str:
        facts = f", {', '.join(fact for fact in FACTS if fact in self.facts)}" if self.facts else ""
        return f"<Index of {counted(len(self), 'member')}: name, offset_start, offset_end{facts}>"

    def _repr_html_(self) -> str:
        """Return a table of the first and last rows, which Jupyter shows."""
        return html_table(self)

    def select(
        self,
        *globs: str,
        exclude: Iterable[str] = (),
        regex: str | re.Pattern[str] | None = None,
        names: Iterable[str | Member] | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        media_type: str | Iterable[str] | None = None,
        min_width: int | None = None,
        max_width: int | None = None,
        min_height: int | None = None,
        max_height: int | None = None,
        where: Callable[[Member], object] | None = None,
    ) -> Index:
        """Select the members that meet all conditions, in archive order.

        Args:
            globs: At least one of these matches the whole name. `*` matches "/", too, as in fnmatch. Upper and lower
                case are different.
            exclude: None of these globs matches the whole name.
            regex: Some part of the name matches (re.search).
            names: The name is one of these; members and another index stand for their names.
            min_size: Least size of the payload, in bytes.
            max_size: Largest size of the payload, in bytes.
            media_type: The media type is one of these, or matches one of these globs, such as "image/*".
            min_width: Least width of the image as shown, in pixels. If a member's width, height or media type is
                unknown, the member meets no condition on it.
            max_width: Largest width.
            min_height: Least height.
            max_height: Largest height.
            where: Function that is called with each Member that meets all other conditions; returns true to keep it.

        Returns:
            A new index of the selected members.

        Raises:
            FactsMissingError: a condition needs media types, widths or heights, and the index has none.
            TypeError: an argument has another type.
            ValueError: no media type matches, or the regex is not a regular expression.
        """
        conditions = make_conditions(
            globs=globs,
            exclude=exclude,
            regex=regex,
            names=names,
            min_size=min_size,
            max_size=max_size,
            media_type=media_type,
            min_width=min_width,
            max_width=max_width,
            min_height=min_height,
            max_height=max_height,
            where=where,
        )
        # part by part, so that a mapped index of any size needs memory only for one part and the numbers of selected rows
        stored = self._stored if self._loaded is None else None
        parts = masks(conditions, self._parts, len(self), in_one_pass=self._is_remote)
        return self._index_of(*pick(parts, stored))

    def with_basenames(self) -> Index:
        """Return an index in which each name is only the part after the last "/".

        Raises:
            DuplicateNameError: two members would have the same name; the message names both.
        """
        columns = self._columns.with_basenames()
        self._refuse_basenames(NameLookup(columns.names, columns.name_bounds).first_duplicate())
        return Index._from_columns(columns)

    def _check_basenames(self) -> None:
        """Check that `with_basenames` raises no error, in bounded memory."""
        self._refuse_basenames(first_repeated([self], take_basenames))

    def _refuse_basenames(self, duplicate: tuple[int, int] | None) -> None:
        if duplicate is not None:
            first, last = map(self._name_at, duplicate)
            raise DuplicateNameError(f"{first!r} and {last!r} have the same basename")


def _restored(columns: Columns, report: ScanReport | None, identity: Identity | None) -> Index:
    return Index._from_columns(columns, report=report, identity=identity)
