"""Columns written to a Parquet file, and read from one.

Strategy: write and read one row group at a time, so that memory does not grow with the number of members. The type of
the names must be known before the first row group is written: begin with text, and if a name turns out not to be UTF-8,
write the file again with bytes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blobpack.columns import Columns
from blobpack.errors import BlobNotFoundError, FormatError, StorageError
from blobpack.index.tables.arrow import (
    FIELDS,
    NotTextError,
    are_utf8,
    names_to_arrow,
    need,
    to_arrow_table,
)
from blobpack.index.tables.from_arrow import from_arrow_table
from blobpack.stores.base import StoreFile
from blobpack.stores.location import Location
from blobpack.stores.output import writing_anywhere
from blobpack.stores.replace import OutputKind, check_replaceable, check_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from blobpack.stores.base import Store

# rows of a row group, the part of a Parquet file that is written or read at a time
GROUP_ROWS = 1 << 17
# name of the column that says which blob a row belongs to, and its place, behind name, offset_start and offset_end
BLOB_FIELD, BLOB_PLACE = "blob", 3


def _is_of_offsets(store: Store) -> bool:
    """Return whether a file or object is a Parquet file that holds the columns of an index, and no others."""
    parquet = need("pyarrow.parquet", "arrow")
    with _translate_errors(store.url), StoreFile(store) as file:
        names = set(parquet.ParquetFile(file).schema_arrow.names)
    # columns that somebody has added, labels for example, would be lost
    return {"name", "offset_start", "offset_end"} <= names <= {"name", BLOB_FIELD, *FIELDS}


PARQUET = OutputKind("Parquet file of offsets", _is_of_offsets)


def write_parquet(
    parts: Callable[[], Iterable[tuple[Columns, str | None]]],
    target: Location | BinaryIO,
    *,
    force: bool = False,
) -> int:
    """Write columns as a Parquet file, in bounded memory. The file appears complete or not at all.

    Args:
        parts: Returns the members, part by part, and the path or URL of their blob, if the table has a column for it.
            It is called again if a name is not UTF-8. Facts that the first part does not have are left out.
        target: The file or object in S3 to write, or a binary file that is open for writing.
        force: Replace a file of any kind.

    Returns:
        The number of rows that were written.

    Raises:
        PackageMissingError: pyarrow is not installed.
        StorageError: the file can't be written.
        ValueError: some parts have facts that others do not have.
    """
    # before a file is opened: without pyarrow, nothing should appear on disk
    need("pyarrow.parquet", "arrow")
    if not isinstance(target, Location):
        # a caller's file may be a pipe, which can't be written again: look at all names first
        text = all(are_utf8(names_to_arrow(part)) for part, _ in parts())
        return _write_groups(parts(), target, text=text)
    check_suffix("path", target, PARQUET, force=force)
    check_replaceable(target, PARQUET, force=force)
    with writing_anywhere(target) as file:
        try:
            return _write_groups(parts(), file, text=True)
        except NotTextError:
            # the second attempt must not leave bytes of the first one behind its end
            file.seek(0)
            file.truncate()
            return _write_groups(parts(), file, text=False)


def read_parquet(path: str | os.PathLike[str]) -> Iterator[Columns]:
    """Read columns from a Parquet file, one row group at a time.

    Raises:
        PackageMissingError: pyarrow is not installed.
        BlobNotFoundError: there is no such file.
        FormatError: this is not a Parquet file, or a column is missing or wrong.
        StorageError: the file can't be opened.
    """
    parquet = need("pyarrow.parquet", "arrow")
    path = os.fspath(path)
    try:
        file = open(path, "rb")  # noqa: PTH123, SIM115 (a path of any kind; closed below)
    except FileNotFoundError as exc:
        raise BlobNotFoundError(f"{path}: no such Parquet file") from exc
    except OSError as exc:
        raise StorageError(f"{path}: can't be opened: {exc.strerror}") from exc
    with file, _translate_errors(path):
        opened = parquet.ParquetFile(file)
        # other columns may be large, images for example, and are not read
        present = [name for name in opened.schema_arrow.names if name in ("name", *FIELDS)]
        # a file without row groups must have the columns, too
        yield from_arrow_table(opened.schema_arrow.empty_table())
        for group in range(opened.num_row_groups):
            yield from_arrow_table(opened.read_row_group(group, columns=present))


def _write_groups(
    parts: Iterable[tuple[Columns, str | None]], file: BinaryIO, *, text: bool
) -> int:
    parquet = need("pyarrow.parquet", "arrow")
    groups = _groups(parts)
    # without any member, write a file of no rows that has the columns
    first, blob = next(groups, (Columns.of_members([]), None))
    table = _table(first, blob, text=text)
    rows = len(first)
    with parquet.ParquetWriter(
        file, table.schema, compression="zstd", use_dictionary=["media_type", BLOB_FIELD]
    ) as writer:
        writer.write_table(table)
        for group, blob in groups:
            writer.write_table(_table(_with_facts_of(first, group), blob, text=text))
            rows += len(group)
    return rows


def _table(columns: Columns, blob: str | None, *, text: bool) -> pa.Table:
    table = to_arrow_table(columns, text=text)
    if blob is None:
        return table
    pa = need("pyarrow", "arrow")
    # a path may hold bytes that are not UTF-8, and text in Parquet may not
    shown = blob.encode("utf-8", "backslashreplace").decode()
    return table.add_column(BLOB_PLACE, BLOB_FIELD, pa.repeat(shown, len(columns)))


def _groups(
    parts: Iterable[tuple[Columns, str | None]],
) -> Iterator[tuple[Columns, str | None]]:
    """Cut parts into groups of at most GROUP_ROWS rows."""
    for part, blob in parts:
        for first in range(0, len(part), GROUP_ROWS):
            yield part.slice(first, min(first + GROUP_ROWS, len(part))), blob


def _with_facts_of(model: Columns, part: Columns) -> Columns:
    """Return a part with the facts of the model only. The part must have all of them."""
    facts = dict(part.facts())
    for name, _ in model.facts():
        if name not in facts:
            raise ValueError(
                f"some members have {name} and others do not: the rows of a Parquet file need the same columns"
            )
    columns = {name: facts[name] for name, _ in model.facts()}
    return Columns(part.names, part.name_bounds, part.offset_start, part.offset_end, **columns)


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Add the path to errors, and raise pyarrow's errors as FormatError."""
    pa = need("pyarrow", "arrow")
    try:
        yield
    except FormatError as exc:
        raise FormatError(f"{path}: {exc}") from exc
    # an OSError, too; the message names the path already
    except StorageError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as exc:
        # pyarrow raises plain OSError and ValueError for damaged files, too; some of its messages have several lines
        reason = str(exc).partition("\n")[0]
        raise FormatError(f"{path}: not a Parquet file that can be read: {reason}") from exc
