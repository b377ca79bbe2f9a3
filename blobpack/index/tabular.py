"""The methods of an index that make tables of it, or make an index of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from blobpack.argument_order import recognise_swap
from blobpack.columns import Columns
from blobpack.index.saved import SavedRows, is_index
from blobpack.index.tables.arrow import to_arrays, to_arrow_table, to_frame
from blobpack.index.tables.from_arrow import from_arrow_table, from_frame
from blobpack.index.tables.parquet import read_parquet, write_parquet
from blobpack.model import check_flag
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import is_place, local_path, output_or_file

if TYPE_CHECKING:
    import os
    from typing import Self

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray


class TabularRows(SavedRows):
    """The members, which other packages take as tables."""

    __slots__ = ()

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Return the columns as NumPy arrays, by name, without the facts that the index does not have.

        Returns:
            name: (n,) object, str; bytes that are not UTF-8 stand as surrogates (PEP 383).
            offset_start, offset_end: (n,) int64, read-only, like all columns of numbers.
            media_type: (n,) object, str, None where it is unknown.
            width, height: (n,) uint32, pixels, 0 where unknown.
            crc32c: (n,) uint32.
            mtime: (n,) int64, seconds since 1970 UTC, 0 where unknown.
        """
        return to_arrays(self._columns)

    def to_arrow(self) -> pa.Table:
        """Return the columns as an Arrow table. Names and offsets are not copied.

        Returns:
            name: large_string; large_binary, as in the tar, if any name is not UTF-8.
            offset_start, offset_end: int64.
            media_type: dictionary of string, null where it is unknown.
            width, height: uint32, pixels, null where unknown.
            crc32c: uint32.
            mtime: int64, seconds since 1970 UTC, null where unknown.

        Raises:
            PackageMissingError: pyarrow is not installed.
        """
        return to_arrow_table(self._columns)

    def to_pandas(self) -> pd.DataFrame:
        """Return the columns of `to_arrow` as a DataFrame. Media types are categories, and whole numbers stay whole numbers.

        Raises:
            PackageMissingError: pandas or pyarrow is not installed.
        """
        return to_frame(self._columns)

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame) -> Self:
        """Make an index of a DataFrame that has the columns of `to_pandas`; other columns are ignored.

        Args:
            frame: The columns. The names may also be the row labels, as after `set_index("name")`.

        Raises:
            PackageMissingError: pandas or pyarrow is not installed.
            FormatError: a column is missing, has another type, or holds an impossible value; the message names it.
            TypeError: the argument is not a DataFrame.
        """
        return cls._from_columns(from_frame(frame))

    @recognise_swap(self=is_index, path=is_place)
    @with_remote_options
    def to_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        **remote: Unpack[RemoteOptions],
    ) -> None:
        """Write the columns of `to_arrow` into a Parquet file, in bounded memory. The file appears complete or not at all.

        Args:
            path: Path or s3:// URL of the file.
            force: Replace a file that is not a Parquet file of such columns, and allow a suffix of another format.
            remote: How remote blobs are reached: see RemoteOptions.

        Raises:
            PackageMissingError: pyarrow is not installed.
            StorageError: the file can't be written, or would replace a file with other contents.
            ValueError: the suffix of the path promises another format.
        """
        check_flag("force", force)
        target = output_or_file("path", path, Access.of("to_parquet", remote))
        write_parquet(lambda: ((part, None) for part in self._parts()), target, force=force)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Self:
        """Make an index of an Arrow table that has the columns of `to_arrow`; other columns are ignored.

        A DataFrame, and any other object that `pyarrow.table` accepts, is converted first.

        Raises:
            PackageMissingError: pyarrow is not installed.
            FormatError: a column is missing, has another type, or holds an impossible value; the message names it.
            TypeError: the argument is not a table.
        """
        return cls._from_columns(from_arrow_table(table))

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str]) -> Self:
        """Read an index from a Parquet file that has the columns of `to_arrow`; other columns are ignored.

        Raises:
            PackageMissingError: pyarrow is not installed.
            BlobNotFoundError: there is no such file.
            FormatError: this is not a Parquet file, or a column is missing or wrong; the message names it.
        """
        rows = list(read_parquet(local_path("path", path)))
        return cls._from_columns(Columns.concatenate(rows))
