"""The table of a blob's members: by name and in archive order, as columns, with no object a member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack._native.lookup import NameLookup
from blobpack.columns import Columns
from blobpack.errors import DuplicateNameError
from blobpack.index.arrow import (
    from_arrow_table,
    to_arrays,
    to_arrow_table,
    to_frame,
)
from blobpack.index.parquet import read_parquet, write_parquet
from blobpack.index.rows import Rows
from blobpack.index.select import make_conditions
from blobpack.indexfile.open import StoredIndex, load_stored
from blobpack.indexfile.writer import write_sections
from blobpack.model import (
    ScanReport,
    check_local_path,
    check_output,
    check_several,
    check_whole,
)
from blobpack.stores.location import location_of, output_location
from blobpack.stores.output import writing

if TYPE_CHECKING:
    import os
    import re
    from collections.abc import Callable, Iterable

    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.identity import Identity
    from blobpack.model import Member
    from blobpack.stores.sink import Sink


class Index(Rows):
    """The members of a blob, in archive order.

    Names need not be unique in a tar: by name, the last member wins, as in tar extraction; in order, all
    are there. An index does not change; a selection is a new one. One that was opened from a file or a blob
    reads only what is asked for.

    Attributes:
        report: What the scan met beside these members; None when the index did not come from a scan.
        identity: The archive it is of, as far as that was looked at.
    """

    __slots__ = ("__weakref__", "identity", "report")

    def __init__(self, members: Iterable[Member] = (), *, report: ScanReport | None = None) -> None:
        """Make an index of members, in their order.

        Media type, width and height are left out where no member has one; checksum and time, where not all have.

        Raises:
            TypeError: what is given are no Members.
            ValueError: a member's offsets are negative or out of order; a fact that no index can hold; or a name
                that no tar can hold.
        """
        check_several("members", members, "Members")
        if report is not None and not isinstance(report, ScanReport):
            raise TypeError(f"report must be a ScanReport or None, not {report!r}")
        super().__init__(Columns.of_members(members), None)
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
        Rows.__init__(index, columns, None)
        index.report, index.identity = report, identity
        return index

    @classmethod
    def from_stored(cls, stored: StoredIndex) -> Index:
        """Stand for an index that stays where it is until its rows are asked for."""
        index = cls.__new__(cls)
        Rows.__init__(index, None, stored)
        index.report, index.identity = stored.footer.report, stored.footer.identity
        return index

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Index:
        """Open an index file, at a path or URL; what is in it is read when it is asked for.

        Raises:
            BlobNotFoundError: there is none.
            FormatError: it is damaged, or no index.
        """
        location_of("path", path)
        return cls.from_stored(load_stored(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index into a file of its own; docs/format.md says what is in it.

        Raises:
            StorageError: the file can't be written.
        """
        output_location("path", path)
        with writing(path) as sink:
            sink.write(self.write_sections(sink, self.identity).encode())

    def write_sections(
        self, sink: Sink, identity: Identity | None, *, bytes_min: int = 0
    ) -> Footer:
        """Write the index without its footer.

        Args:
            sink: Takes it, at its position.
            identity: The archive it is of; None ties it to none.
            bytes_min: Fill it up to at least this, with the footer.

        Returns:
            The footer to write behind it.
        """
        return write_sections(
            sink,
            self.parts(),
            self.name_at,
            identity=identity,
            report=self.report,
            bytes_min=bytes_min,
        )

    @classmethod
    def concatenate(cls, indexes: Iterable[Index]) -> Index:
        """Put indexes of one blob behind one another."""
        check_several("indexes", indexes, "indexes")
        listed = list(indexes)
        for index in listed:
            if not isinstance(index, Index):
                raise TypeError(f"indexes must be several Index, and one is {index!r}")
        return cls.from_columns(Columns.concatenate([index.columns for index in listed]))

    def __eq__(self, other: object) -> bool:
        """Compare names and offsets, in order."""
        if not isinstance(other, Index):
            return NotImplemented
        import numpy as np

        mine, others = self.columns, other.columns
        return bool(
            mine.offset_start == others.offset_start
            and mine.offset_end == others.offset_end
            and np.array_equal(mine.name_lengths(), others.name_lengths())
            and mine.packed_names() == others.packed_names()
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value

    def __reduce__(self) -> tuple[object, ...]:
        if self._stored is not None:
            return Index.from_stored, (self._stored,)
        return _restored, (self.columns, self.report, self.identity)

    def __repr__(self) -> str:
        return f"<Index of {len(self)} members>"

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
        """Choose members; all conditions must hold. The order stays.

        Args:
            globs: A member's whole name matches any of these; `*` crosses "/", as in fnmatch, and case counts.
            exclude: Globs of which none may match.
            regex: Is found somewhere in the name (re.search).
            names: The name is one of these, or of these members', or of another index'.
            min_size: The payload has at least this many bytes.
            max_size: And at most this many.
            media_type: Its media type is this, or any of these; a glob, too, such as "image/*".
            min_width: The image is at least so many pixels wide. One of unknown width passes no condition
                on it; so do media type and height.
            max_width: And at most so many.
            min_height: At least so high.
            max_height: And at most.
            where: Called with each Member that passed the other conditions; true keeps it.

        Returns:
            A new index of the members chosen.

        Raises:
            FactsMissingError: a condition on a media type, width or height, which the index does not have.
            TypeError: an argument has another type.
            ValueError: there is no such media type, or the regex is none.
        """
        conditions = make_conditions(
            globs=globs,
            exclude=exclude,
            regex=regex,
            names=names.columns if isinstance(names, Index) else names,
            min_size=min_size,
            max_size=max_size,
            media_type=media_type,
            min_width=min_width,
            max_width=max_width,
            min_height=min_height,
            max_height=max_height,
            where=where,
        )
        kept = list(map(conditions.kept, self.parts()))
        return Index.from_columns(Columns.concatenate(kept), identity=self.identity)

    def take(self, rows: NDArray[np.int64]) -> Index:
        """Make an index of the given rows, in their order.

        Args:
            rows: (k,) int64, each 0 ≤ row < len.

        Raises:
            IndexError: a row that does not exist.
        """
        import numpy as np

        numbers = np.asarray(rows)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise TypeError(f"rows must be whole numbers, not {numbers.dtype}")
        return Index.from_columns(self.columns.take(numbers), identity=self.identity)

    def slice(self, first: int, last: int) -> Index:
        """Make an index of the rows first:last, without a copy; of a stored index, only they are read."""
        check_whole("first", first)
        check_whole("last", last)
        return Index.from_columns(self.columns_of(first, last), identity=self.identity)

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Give the columns as NumPy arrays, by name; the facts that the index does not have are left out.

        Returns:
            name: (n,) object, str; bytes that are not UTF-8 stand as surrogates (PEP 383).
            offset_start, offset_end: (n,) int64, read-only, as are those that follow.
            media_type: (n,) object, str, None where it is unknown.
            width, height: (n,) uint32, pixels, 0 where unknown.
            crc32c: (n,) uint32.
            mtime: (n,) int64, seconds since 1970 UTC.
        """
        return to_arrays(self.columns)

    def to_arrow(self) -> pa.Table:
        """Give the columns as an Arrow table; names and offsets are not copied.

        Returns:
            name: large_string; large_binary, as in the tar, if any name is not UTF-8.
            offset_start, offset_end: int64.
            media_type: dictionary of string, null where it is unknown.
            width, height: uint32, pixels, null where unknown.
            crc32c: uint32.
            mtime: int64, seconds since 1970 UTC.

        Raises:
            PackageMissingError: there is no pyarrow.
        """
        return to_arrow_table(self.columns)

    def to_pandas(self) -> pd.DataFrame:
        """Give the columns of to_arrow as a DataFrame: media types as categories, whole numbers as such.

        Raises:
            PackageMissingError: there is no pandas, or no pyarrow.
        """
        return to_frame(self.columns)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the columns of to_arrow as a Parquet file, in bounded memory; it appears whole or not at all.

        Raises:
            PackageMissingError: there is no pyarrow.
            StorageError: the file can't be written.
        """
        check_output("path", path)
        write_parquet(self.parts, path)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Index:
        """Make an index of an Arrow table like that of to_arrow, or of a DataFrame's; other columns are passed by.

        Raises:
            PackageMissingError: there is no pyarrow.
            FormatError: a column is missing, or of another type, or a value can't be; the column is named.
        """
        return cls.from_columns(from_arrow_table(table))

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str]) -> Index:
        """Read an index from a Parquet file like that of to_parquet; other columns are passed by.

        Raises:
            PackageMissingError: there is no pyarrow.
            BlobNotFoundError: there is no such file.
            FormatError: it is no Parquet file, or a column is missing or not what it must be; it is named.
        """
        check_local_path("path", path)
        return cls.from_columns(Columns.concatenate(list(read_parquet(path))))

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


def _restored(columns: Columns, report: ScanReport | None, identity: Identity | None) -> Index:
    return Index.from_columns(columns, report=report, identity=identity)
