"""Columns as a Parquet file, and back."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.columns import Columns
from blobpack.errors import BlobNotFoundError, FormatError, StorageError
from blobpack.index.arrow import (
    FIELDS,
    NotTextError,
    are_utf8,
    from_arrow_table,
    names_to_arrow,
    need,
    to_arrow_table,
)
from blobpack.stores.output import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GROUP_ROWS = 1 << 17  # of a Parquet file, read and written at once


def write_parquet(
    parts: Callable[[], Iterable[Columns]], path: str | os.PathLike[str] | BinaryIO
) -> int:
    """Write columns as a Parquet file, in bounded memory; it appears whole or not at all.

    Args:
        parts: Gives the members, part by part; asked a second time when a name is not UTF-8. Facts that the first
            part does not have are left out.
        path: Where to; or a binary file open for writing.

    Returns:
        How many rows were written.

    Raises:
        PackageMissingError: there is no pyarrow.
        StorageError: the file can't be written.
    """
    need("pyarrow.parquet", "arrow")
    if hasattr(path, "write"):
        text = all(are_utf8(names_to_arrow(part)) for part in parts())  # can't be begun anew
        return _write_groups(parts(), cast("BinaryIO", path), text=text)
    with replacing(path) as file:
        try:
            return _write_groups(parts(), file, text=True)
        except NotTextError:
            file.seek(0)
            file.truncate()
            return _write_groups(parts(), file, text=False)


def read_parquet(path: str | os.PathLike[str]) -> Iterator[Columns]:
    """Read columns from a Parquet file, row group by row group.

    Raises:
        PackageMissingError: there is no pyarrow.
        BlobNotFoundError: there is no such file.
        FormatError: it is no Parquet file, or from_arrow_table refuses its columns.
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
        present = [name for name in opened.schema_arrow.names if name in ("name", *FIELDS)]
        yield from_arrow_table(
            opened.schema_arrow.empty_table()
        )  # its columns, when there is no row
        for group in range(opened.num_row_groups):
            yield from_arrow_table(opened.read_row_group(group, columns=present))


def _write_groups(parts: Iterable[Columns], file: BinaryIO, *, text: bool) -> int:
    parquet = need("pyarrow.parquet", "arrow")
    groups = _groups(parts)
    first = next(groups, Columns.of_members([]))
    table = to_arrow_table(first, text=text)
    rows = len(first)
    with parquet.ParquetWriter(
        file, table.schema, compression="zstd", use_dictionary=["media_type"]
    ) as writer:
        writer.write_table(table)
        for group in groups:
            table = to_arrow_table(_with_facts_of(first, group), text=text)
            writer.write_table(table)
            rows += len(group)
    return rows


def _groups(parts: Iterable[Columns]) -> Iterator[Columns]:
    """Cut parts into groups of at most GROUP_ROWS."""
    for part in parts:
        for first in range(0, len(part), GROUP_ROWS):
            yield part.slice(first, min(first + GROUP_ROWS, len(part)))


def _with_facts_of(model: Columns, part: Columns) -> Columns:
    """Leave out the facts that a model does not have; all that it has must be there."""
    facts = dict(part.facts())
    for name, _ in model.facts():
        if name not in facts:
            raise ValueError(f"some members have {name}, and some have not: their index is mixed")
    columns = {name: facts[name] for name, _ in model.facts()}
    return Columns(part.names, part.name_bounds, part.offset_start, part.offset_end, **columns)


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Name the file in errors, and make pyarrow's ours."""
    pa = need("pyarrow", "arrow")
    try:
        yield
    except FormatError as exc:
        raise FormatError(f"{path}: {exc}") from exc
    except (pa.ArrowException, OSError, ValueError, OverflowError) as exc:
        said = str(exc).partition("\n")[0]
        raise FormatError(f"{path}: not a Parquet file that can be read: {said}") from exc
