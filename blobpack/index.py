"""The table of a blob's members: by name and in archive order, as columns, with no object a member."""

from __future__ import annotations

import difflib
import glob as globs_of_files
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, overload

from blobpack._lookup import NameLookup, match_names, measure
from blobpack.atomic import replacing
from blobpack.columns import Columns
from blobpack.errors import DuplicateNameError, MemberNotFoundError
from blobpack.indexfile import write_sections
from blobpack.model import ByteRange, Member, ScanReport
from blobpack.stored import StoredIndex, load_stored

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.identity import Identity
    from blobpack.indexfile import Footer

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
    are there. An index does not change; a selection is a new one. One that was opened from a file or a blob
    reads only what is asked for.

    Attributes:
        report: What the scan met beside these members; None when the index did not come from a scan.
        identity: The archive it is of, as far as that was looked at.
    """

    __slots__ = ("__weakref__", "_columns", "_lookup", "_stored", "identity", "report")

    def __init__(self, members: Iterable[Member] = (), *, report: ScanReport | None = None) -> None:
        """Make an index of members, in their order; a fact that not all of them have is left out.

        Raises:
            FormatError: a member's offsets are negative or out of order.
            UnicodeEncodeError: a name that no tar can hold.
        """
        self._columns: Columns | None = Columns.of_members(members)
        self._stored: StoredIndex | None = None
        self._lookup: NameLookup | None = None
        self.report = report
        self.identity: Identity | None = None

    @classmethod
    def from_columns(
        cls,
        columns: Columns,
        *,
        report: ScanReport | None = None,
        identity: Identity | None = None,
    ) -> Index:
        """Take over columns without a copy.

        Args:
            columns: The members.
            report: What a scan met.
            identity: The archive they are of.
        """
        index = cls.__new__(cls)
        index._columns, index._stored, index._lookup = columns, None, None
        index.report, index.identity = report, identity
        return index

    @classmethod
    def from_stored(cls, stored: StoredIndex) -> Index:
        """Stand for an index that stays where it is until its rows are asked for."""
        index = cls.__new__(cls)
        index._columns, index._stored, index._lookup = None, stored, None
        index.report, index.identity = stored.footer.report, stored.footer.identity
        return index

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """Open an index file, at a path or URL; what is in it is read when it is asked for.

        Raises:
            BlobNotFoundError: there is none.
            FormatError: it is damaged, or no index.
        """
        return cls.from_stored(load_stored(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index into a file of its own; docs/format.md says what is in it.

        Raises:
            StorageError: the file can't be written.
        """
        with replacing(path) as file:
            file.write(self.write_sections(file, self.identity).encode())

    def write_sections(
        self, file: BinaryIO, identity: Identity | None, *, bytes_min: int = 0
    ) -> Footer:
        """Write the index but its footer, at a file's position.

        Args:
            file: Open for writing.
            identity: The archive it is of; None ties it to none.
            bytes_min: Fill it up to at least this, with the footer.

        Returns:
            The footer to write behind it.
        """
        return write_sections(
            file,
            self.parts(),
            self.name_at,
            identity=identity,
            report=self.report,
            bytes_min=bytes_min,
        )

    @classmethod
    def concatenate(cls, indexes: Iterable[Index]) -> Index:
        """Put indexes of one blob behind one another."""
        return cls.from_columns(Columns.concatenate([index.columns for index in indexes]))

    @property
    def columns(self) -> Columns:
        """All members as columns; a stored index is read whole for it."""
        if self._columns is None:
            self._columns = Columns.concatenate(list(self.parts()))
        return self._columns

    def parts(self) -> Iterator[Columns]:
        """Go through the members in order, as columns of some of them, in bounded memory."""
        if self._columns is not None or self._stored is None:
            yield self.columns
        else:
            yield from self._stored.parts()

    def __len__(self) -> int:
        return len(self._columns if self._stored is None else self._stored)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Member]:
        for part in self.parts():
            yield from map(part.member_at, range(len(part)))

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
        mine, others = self.columns, other.columns
        return (
            mine.offset_start == others.offset_start
            and mine.offset_end == others.offset_end
            and _name_lengths(mine) == _name_lengths(others)
            and mine.packed_names() == others.packed_names()
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __reduce__(self) -> tuple[object, ...]:
        if self._stored is not None:
            return Index.from_stored, (self._stored,)
        return _restored, (self.columns, self.report, self.identity)

    def __repr__(self) -> str:
        return f"<Index of {len(self)} members>"

    @property
    def names(self) -> Names:
        """The names in archive order, a sequence of str."""
        return Names(self)

    @property
    def offset_start(self) -> NDArray[np.int64]:
        """Where each payload starts in the blob, bytes: (n,) int64, read-only."""
        return _read_only(self.columns.offset_start)

    @property
    def offset_end(self) -> NDArray[np.int64]:
        """One past where each payload ends, bytes: (n,) int64, read-only."""
        return _read_only(self.columns.offset_end)

    @property
    def payload_bytes(self) -> int:
        """The sum of all payloads' sizes."""
        if self._stored is not None:
            return self._stored.footer.payload_bytes
        return measure(self.columns.offset_start, self.columns.offset_end)[0]

    @property
    def last_end(self) -> int:
        """One past the last byte of any payload, from the start of the blob; 0 of no members."""
        if self._stored is not None:
            return self._stored.footer.last_end
        return measure(self.columns.offset_start, self.columns.offset_end)[1]

    def _rows(self, row: int) -> tuple[Columns, int]:
        """Find the columns that hold a row, and its place in them."""
        if self._columns is not None or self._stored is None:
            return self.columns, row
        return self._stored.rows(row, row + 1), 0

    def name_at(self, row: int) -> str:
        """Return the name in a row, 0 ≤ row < len."""
        columns, place = self._rows(row)
        return columns.name_at(place)

    def member_at(self, row: int) -> Member:
        """Return the member in a row, 0 ≤ row < len."""
        columns, place = self._rows(row)
        return columns.member_at(place)

    def range_of(self, name: str) -> ByteRange:
        """Find where a member's payload lies.

        Raises:
            MemberNotFoundError: there is none of that name.
        """
        return ByteRange(*self.bounds_of(name))

    def bounds_of(self, name: str) -> tuple[int, int]:
        """Find the same as a plain pair, for the read path: making a ByteRange takes half a µs."""
        if self._stored is not None and self._lookup is None:
            bounds = self._stored.locate(name)
            if bounds is not None:
                return bounds
        row = self._find(name)
        if row < 0:
            row = self.row_of(name)  # raises
        columns, place = self._rows(row)
        return columns.offset_start[place], columns.offset_end[place]

    def bounds_of_many(self, names: Sequence[str]) -> list[tuple[int, int]]:
        """Find the offsets of many names at once: an index far away is asked as seldom as it can be.

        Raises:
            MemberNotFoundError: there is none of one name, the first such.
        """
        if self._stored is None or self._lookup is not None:
            return list(map(self.bounds_of, names))
        located = self._stored.locate_many(names)
        return [bounds or self.bounds_of(name) for name, bounds in zip(names, located, strict=True)]

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
            if self._stored is not None:
                return self._stored.find(name)
            self._lookup = NameLookup(self.columns.names, self.columns.name_bounds)
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
        mask = match_names(self.columns.names, self.columns.name_bounds, globs)
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
        given = [names] if isinstance(names, str) else names
        wanted = (
            None
            if given is None
            else {name if isinstance(name, str) else name.name for name in given}
        )

        def chosen(part: Columns) -> Columns:
            import numpy as np

            passed = np.ones(len(part), bool)
            if globs:
                passed &= _matching(part, globs)
            if exclusions := _as_globs(exclude):
                passed &= ~_matching(part, exclusions)
            sizes = np.asarray(part.offset_end) - np.asarray(part.offset_start)
            if min_size is not None:
                passed &= sizes >= min_size
            if max_size is not None:
                passed &= sizes <= max_size
            rows = np.flatnonzero(passed)
            if wanted is not None:
                rows = _kept(rows, lambda row: part.name_at(row) in wanted)
            if regex is not None:
                found = re.compile(regex).search
                rows = _kept(rows, lambda row: found(part.name_at(row)))
            if where is not None:
                rows = _kept(rows, lambda row: where(part.member_at(row)))
            return part.take(rows)

        return Index.from_columns(
            Columns.concatenate([chosen(part) for part in self.parts()]), identity=self.identity
        )

    def take(self, rows: NDArray[np.int64]) -> Index:
        """Make an index of the given rows, in their order.

        Args:
            rows: (k,) int64, each 0 ≤ row < len.

        Raises:
            IndexError: a row that does not exist.
        """
        return Index.from_columns(self.columns.take(rows), identity=self.identity)

    def slice(self, first: int, last: int) -> Index:
        """Make an index of the rows first:last, without a copy."""
        return Index.from_columns(self.columns.slice(first, last), identity=self.identity)

    def with_basenames(self) -> Index:
        """Make an index whose names are what stands behind the last "/" of these.

        Raises:
            DuplicateNameError: two members would have one name; both are named.
        """
        columns = self.columns.with_basenames()
        duplicate = NameLookup(columns.names, columns.name_bounds).first_duplicate()
        if duplicate is not None:
            first, last = map(self.name_at, duplicate)
            raise DuplicateNameError(f"{first!r} and {last!r} have the same basename")
        return Index.from_columns(columns)


def _matching(part: Columns, globs: Sequence[str]) -> NDArray[np.bool_]:
    import numpy as np

    return np.frombuffer(match_names(part.names, part.name_bounds, globs), np.bool_)


def _name_lengths(columns: Columns) -> list[int]:
    return [end - start for start, end in pairwise(columns.name_bounds.tolist())]


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


def _restored(columns: Columns, report: ScanReport | None, identity: Identity | None) -> Index:
    return Index.from_columns(columns, report=report, identity=identity)
