"""The table of a blob's members: by name and in archive order, as columns, with no object a member."""

from __future__ import annotations

import difflib
import glob as globs_of_files
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, overload

from blobpack._lookup import NameLookup, match_names, measure, take_basenames, take_names
from blobpack.errors import DuplicateNameError, FormatError, MemberNotFoundError
from blobpack.model import ByteRange, Member, ScanReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    Columns = tuple[memoryview, memoryview, memoryview, memoryview]

OFFSET_MAX = (1 << 63) - 1
SUGGESTIONS = 3
SUGGESTION_CANDIDATES = 1000


class Names(Sequence[str]):
    """The members' names in archive order, decoded one by one as they are asked for."""

    __slots__ = ("_index",)

    def __init__(self, index: Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self._index.name_at(i) for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self._index.name_at(row % len(self))

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __repr__(self) -> str:
        return f"<{len(self)} names>"


class Index:
    """The members of a blob, in archive order.

    Names need not be unique in a tar: by name, the last member wins, as in tar extraction; in order, all
    are there. An index does not change; a selection is a new one.

    Attributes:
        report: What the scan met beside these members; None when the index did not come from a scan.
    """

    __slots__ = (
        "__weakref__",
        "_lookup",
        "_name_bounds",
        "_names",
        "_offset_end",
        "_offset_start",
        "report",
    )

    def __init__(self, members: Iterable[Member] = (), *, report: ScanReport | None = None) -> None:
        """Make an index of members, in their order.

        Raises:
            FormatError: a member's offsets are negative or out of order.
            UnicodeEncodeError: a name that no tar can hold.
        """
        names = bytearray()
        bounds, starts, ends = array("q", [0]), array("q"), array("q")
        for member in members:
            if not 0 <= member.offset_start <= member.offset_end <= OFFSET_MAX:
                raise FormatError(
                    f"member {member.name!r}: offsets {member.offset_start} to {member.offset_end}",
                    offset=member.offset_start,
                )
            names += member.name.encode("utf-8", "surrogateescape")
            bounds.append(len(names))
            starts.append(member.offset_start)
            ends.append(member.offset_end)
        self._set_columns(
            (memoryview(bytes(names)), memoryview(bounds), memoryview(starts), memoryview(ends)),
            report,
        )

    def _set_columns(self, columns: Columns, report: ScanReport | None) -> None:
        self._names, self._name_bounds, self._offset_start, self._offset_end = (
            column.toreadonly() for column in columns
        )
        self._lookup: NameLookup | None = None
        self.report = report

    @classmethod
    def from_columns(cls, columns: Columns, *, report: ScanReport | None = None) -> Index:
        """Take over columns without a copy.

        Args:
            columns: Packed names (bytes), name_bounds (n + 1,), offset_start (n,) and offset_end (n,), int64;
                name i is names[name_bounds[i]:name_bounds[i + 1]].
            report: What a scan met.
        """
        index = cls.__new__(cls)
        index._set_columns(columns, report)
        return index

    @classmethod
    def concatenate(cls, indexes: Iterable[Index]) -> Index:
        """Put indexes of one blob behind one another."""
        import numpy as np

        parts = list(indexes)
        lengths = [np.diff(np.frombuffer(part._name_bounds, np.int64)) for part in parts]
        bounds = np.zeros(1 + sum(map(len, parts)), np.int64)
        np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), out=bounds[1:])
        return cls.from_columns(
            (
                memoryview(b"".join(part.packed_names() for part in parts)),
                bounds.data,
                np.concatenate([np.zeros(0, np.int64), *(p.offset_start for p in parts)]).data,
                np.concatenate([np.zeros(0, np.int64), *(p.offset_end for p in parts)]).data,
            )
        )

    def __len__(self) -> int:
        return len(self._offset_start)

    def __iter__(self) -> Iterator[Member]:
        return map(self.member_at, range(len(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) >= 0

    def __getitem__(self, name: str) -> Member:
        """Find a member by name.

        Raises:
            MemberNotFoundError: there is none of that name.
        """
        return self.member_at(self.row_of(name))

    def __eq__(self, other: object) -> bool:
        """Compare names and offsets, in order."""
        if not isinstance(other, Index):
            return NotImplemented
        return (
            self._offset_start == other._offset_start
            and self._offset_end == other._offset_end
            and self._name_lengths() == other._name_lengths()
            and self.packed_names() == other.packed_names()
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __reduce__(self) -> tuple[object, ...]:
        bounds = bytes(array("q", (bound - self._name_bounds[0] for bound in self._name_bounds)))
        return _from_bytes, (
            bytes(self.packed_names()),
            bounds,
            bytes(self._offset_start),
            bytes(self._offset_end),
            self.report,
        )

    def __repr__(self) -> str:
        return f"<Index of {len(self)} members>"

    def _name_lengths(self) -> list[int]:
        bounds = self._name_bounds.tolist()
        return [end - start for start, end in pairwise(bounds)]

    @property
    def names(self) -> Names:
        """The names in archive order, a sequence of str."""
        return Names(self)

    @property
    def offset_start(self) -> NDArray[np.int64]:
        """Where each payload starts in the blob, bytes: (n,) int64, read-only."""
        return _read_only(self._offset_start)

    @property
    def offset_end(self) -> NDArray[np.int64]:
        """One past where each payload ends, bytes: (n,) int64, read-only."""
        return _read_only(self._offset_end)

    @property
    def payload_bytes(self) -> int:
        """The sum of all payloads' sizes."""
        return measure(self._offset_start, self._offset_end)[0]

    @property
    def last_end(self) -> int:
        """One past the last byte of any payload, from the start of the blob; 0 of no members."""
        return measure(self._offset_start, self._offset_end)[1]

    @property
    def name_bounds(self) -> memoryview:
        """The bounds of each name in `all_names`: int64, (n + 1,)."""
        return self._name_bounds

    @property
    def all_names(self) -> memoryview:
        """The bytes that name_bounds points into."""
        return self._names

    def packed_names(self) -> memoryview:
        """Return the bytes of these members' names, one behind the other."""
        return self._names[self._name_bounds[0] : self._name_bounds[-1]]

    def name_at(self, row: int) -> str:
        """Return the name in a row, 0 ≤ row < len."""
        packed = self._names[self._name_bounds[row] : self._name_bounds[row + 1]]
        return str(packed, "utf-8", "surrogateescape")

    def member_at(self, row: int) -> Member:
        """Return the member in a row, 0 ≤ row < len."""
        return Member(self.name_at(row), self._offset_start[row], self._offset_end[row])

    def range_of(self, name: str) -> ByteRange:
        """Find where a member's payload lies.

        Raises:
            MemberNotFoundError: there is none of that name.
        """
        return ByteRange(*self.bounds_of(name))

    def bounds_of(self, name: str) -> tuple[int, int]:
        """Find the same as a plain pair, for the read path: making a ByteRange takes half a µs."""
        row = self._find(name)
        if row < 0:
            row = self.row_of(name)  # raises
        return self._offset_start[row], self._offset_end[row]

    def row_of(self, name: str) -> int:
        """Find the last row with that name.

        Raises:
            MemberNotFoundError: there is none; names near to it are suggested.
        """
        row = self._find(name)
        if row < 0:
            near = self._names_near(name)
            hint = f"; near it: {', '.join(map(repr, near))}" if near else ""
            raise MemberNotFoundError(f"no member {name!r} among {len(self)}{hint}")
        return row

    def _find(self, name: str) -> int:
        if self._lookup is None:
            self._lookup = NameLookup(self._names, self._name_bounds)
        return self._lookup.find(name)

    def _names_near(self, name: str) -> list[str]:
        """Suggest names: the same file in another folder, else the likeliest that begin alike."""
        base = name.rpartition("/")[2]
        if base:
            escaped = globs_of_files.escape(base)
            elsewhere = self._rows_matching((escaped, f"*/{escaped}"), SUGGESTIONS)
            if elsewhere:
                return [self.name_at(row) for row in elsewhere]
        length = len(name)
        while length >= 0:
            begin = globs_of_files.escape(name[:length])
            rows = self._rows_matching((f"{begin}*",), SUGGESTION_CANDIDATES)
            if rows:
                candidates = [self.name_at(row) for row in rows]
                return difflib.get_close_matches(name, candidates, SUGGESTIONS, 0.6)
            length = length // 2 if length else -1
        return []

    def _rows_matching(self, globs: Sequence[str], most: int) -> list[int]:
        mask = match_names(self._names, self._name_bounds, globs)
        rows: list[int] = []
        row = mask.find(1)
        while row >= 0 and len(rows) < most:
            rows.append(row)
            row = mask.find(1, row + 1)
        return rows

    def select(
        self,
        *globs: str,
        exclude: Iterable[str] = (),
        regex: str | re.Pattern[str] | None = None,
        names: Iterable[str | Member] | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        where: Callable[[Member], object] | None = None,
    ) -> Index:
        """Choose members; all conditions must hold. The order stays.

        Args:
            globs: A member's whole name matches any of these; `*` crosses "/", as in fnmatch, and case counts.
            exclude: Globs of which none may match.
            regex: Is found somewhere in the name (re.search).
            names: The name is one of these, or of these members'.
            min_size: The payload has at least this many bytes.
            max_size: And at most this many.
            where: Called with each Member that passed the other conditions; true keeps it.

        Returns:
            A new index of the members chosen.
        """
        import numpy as np

        chosen = np.ones(len(self), bool)
        if globs:
            chosen &= self._matching(globs)
        if exclusions := _as_globs(exclude):
            chosen &= ~self._matching(exclusions)
        sizes = self.offset_end - self.offset_start
        if min_size is not None:
            chosen &= sizes >= min_size
        if max_size is not None:
            chosen &= sizes <= max_size
        rows = np.flatnonzero(chosen)
        if names is not None:
            given = [names] if isinstance(names, str) else names
            wanted = {name if isinstance(name, str) else name.name for name in given}
            rows = _kept(rows, lambda row: self.name_at(row) in wanted)
        if regex is not None:
            found = re.compile(regex).search
            rows = _kept(rows, lambda row: found(self.name_at(row)))
        if where is not None:
            rows = _kept(rows, lambda row: where(self.member_at(row)))
        return self.take(rows)

    def _matching(self, globs: Sequence[str]) -> NDArray[np.bool_]:
        import numpy as np

        return np.frombuffer(match_names(self._names, self._name_bounds, globs), np.bool_)

    def take(self, rows: NDArray[np.int64]) -> Index:
        """Make an index of the given rows, in their order.

        Args:
            rows: (k,) int64, each 0 ≤ row < len.

        Raises:
            IndexError: a row that does not exist.
        """
        import numpy as np

        rows = np.ascontiguousarray(rows, np.int64)
        names, bounds = take_names(self._names, self._name_bounds, rows.data)
        starts, ends = self.offset_start[rows], self.offset_end[rows]
        return Index.from_columns((names, bounds, starts.data, ends.data))

    def slice(self, first: int, last: int) -> Index:
        """Make an index of the rows first:last, without a copy."""
        return Index.from_columns(
            (
                self._names,
                self._name_bounds[first : last + 1],
                self._offset_start[first:last],
                self._offset_end[first:last],
            )
        )

    def with_basenames(self) -> Index:
        """Make an index whose names are what stands behind the last "/" of these.

        Raises:
            DuplicateNameError: two members would have one name; both are named.
        """
        names, bounds = take_basenames(self._names, self._name_bounds)
        duplicate = NameLookup(names, bounds).first_duplicate()
        if duplicate is not None:
            first, last = map(self.name_at, duplicate)
            raise DuplicateNameError(f"{first!r} and {last!r} have the same basename")
        return Index.from_columns((names, bounds, self._offset_start, self._offset_end))


def _as_globs(globs: Iterable[str]) -> list[str]:
    return [globs] if isinstance(globs, str) else list(globs)


def _kept(rows: NDArray[np.int64], wanted: Callable[[int], object]) -> NDArray[np.int64]:
    import numpy as np

    return np.fromiter((row for row in rows.tolist() if wanted(row)), np.int64)


def _read_only(column: memoryview) -> NDArray[np.int64]:
    import numpy as np

    values = np.frombuffer(column, np.int64)
    values.flags.writeable = False
    return values


def _from_bytes(
    names: bytes, bounds: bytes, starts: bytes, ends: bytes, report: ScanReport | None
) -> Index:
    columns = (
        memoryview(names),
        memoryview(array("q", bounds)),
        memoryview(array("q", starts)),
        memoryview(array("q", ends)),
    )
    return Index.from_columns(columns, report=report)
