"""Rows of client metadata, from JSON lines, CSV, Parquet or a table in memory."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blobpack.errors import FormatError, SourceError
from blobpack.index.tables.arrow import need
from blobpack.stores.arguments import local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from blobpack.integrations.encord.form.items import Document

    # where a row is, for messages; its name; its fields without the name
    Row = tuple[str, str, Document]

NAME = "name"
TABLE_ROWS_AT_ONCE = 1024


def has_columns(value: object) -> bool:
    """Return whether a value is a table of pyarrow, pandas, polars or DuckDB: they all export Arrow."""
    return hasattr(value, "__arrow_c_stream__")


def read_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Read rows from a file; its suffix says which format it has.

    Raises:
        FormatError: a row has no name, or the file is not in the format that its suffix names.
        PackageMissingError: the file is Parquet, and pyarrow is not installed.
        SourceError: the file can't be read.
        ValueError: the path is a URL, or has another suffix.
    """
    where = local_path("metadata", path)
    readers = {
        ".jsonl": _json_rows,
        ".ndjson": _json_rows,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(Path(where).suffix.lower())
    if reader is None:
        raise ValueError(
            f"metadata must be .jsonl, .ndjson, .csv or .parquet, or a dict, a table or a function, not {where!r}"
        )
    try:
        yield from reader(where)
    except OSError as exc:
        if isinstance(exc, SourceError):
            raise
        raise SourceError(f"{where}: can't be read: {exc.strerror}", paths=(where,)) from exc


def _json_rows(path: str) -> Iterator[Row]:
    # by line feeds only: a text may hold U+2028, at which splitlines() would split
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:  # noqa: PTH123 (a str)
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            # json raises RecursionError for thousands of nested brackets
            except (ValueError, RecursionError) as exc:
                raise FormatError(f"{where}: {exc}") from exc
            if not isinstance(row, dict):
                raise FormatError(f"{where}: expected a JSON object, not {type(row).__name__}")
            yield _named(where, row)


def _csv_rows(path: str) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:  # noqa: PTH123 (a str)
        reader = csv.DictReader(file, strict=True)
        try:
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if None in cells:
                    raise FormatError(f"{where}: more cells than columns")
                row = {
                    name: _of_cell(cell) for name, cell in cells.items() if cell and name != NAME
                }
                yield _named(where, {NAME: cells.get(NAME), **row})
        except csv.Error as exc:
            # DictReader.line_num is still that of the row before the error
            raise FormatError(f"{path}, line {reader.reader.line_num}: {exc}") from exc


def _of_cell(cell: str) -> object:
    """Return the value of a cell: a JSON value, such as 1.5, true or [0.1, 0.2]; or any other text as it is."""
    try:
        return json.loads(cell, parse_constant=str)
    except (ValueError, RecursionError):
        return cell


def _parquet_rows(path: str) -> Iterator[Row]:
    parquet = need("pyarrow.parquet", "arrow")
    pyarrow = need("pyarrow", "arrow")
    try:
        batches = parquet.ParquetFile(path).iter_batches(TABLE_ROWS_AT_ONCE)
        yield from _of_batches(path, batches)
    except pyarrow.ArrowInvalid as exc:
        raise FormatError(f"{path}: {exc}") from exc


def table_rows(table: Any) -> Iterator[Row]:
    """Yield the rows of a table in memory.

    Raises:
        FormatError: the table has no column of names.
        PackageMissingError: pyarrow is not installed.
    """
    pyarrow = need("pyarrow", "arrow")
    batches = pyarrow.RecordBatchReader.from_stream(table)
    yield from _of_batches("metadata", batches)


def _of_batches(where: str, batches: Any) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for first in range(0, batch.num_rows, TABLE_ROWS_AT_ONCE):
            for row in batch.slice(first, TABLE_ROWS_AT_ONCE).to_pylist():
                number += 1
                fields = {key: value for key, value in row.items() if value is not None}
                yield _named(f"{where}, row {number}", fields)


def _named(where: str, row: Document) -> Row:
    name = row.pop(NAME, None)
    if not isinstance(name, str) or not name:
        raise FormatError(f"{where}: it has no name")
    return where, name, row
