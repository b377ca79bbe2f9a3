"""Write names and offsets as Supervisely's pickles, CSV, JSON lines or Parquet.

Strategy: native code encodes the bytes that Supervisely's SDK would write. The other formats also have the facts of the
index, and a column that names the blob, if the rows belong to several blobs.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO

from blobpack._native.pickles import encode_batch
from blobpack.errors import DuplicateNameError
from blobpack.index.index import Index
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.index.tables.offsets import BATCH_ROWS, OFFSETS_KINDS
from blobpack.index.tables.parquet import BLOB_FIELD, BLOB_PLACE, write_parquet
from blobpack.stores.location import Location
from blobpack.stores.output import writing_anywhere
from blobpack.stores.replace import check_replaceable, check_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from blobpack.columns import Columns
    from blobpack.model import Member, NameStyle, OffsetsFormat


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows of a table.

    Attributes:
        index: The members.
        blob: Path or URL of their blob, if the table has a column for it; else None.
    """

    index: Index
    blob: str | None = None


def write_table(
    parts: Callable[[], Iterable[TablePart]],
    target: Location | BinaryIO,
    names: NameStyle,
    format: OffsetsFormat,
    *,
    whole: bool,
    force: bool,
) -> int:
    """Write the name and offsets of each member. The file or object appears complete or not at all.

    Args:
        parts: Returns the rows, part by part. It is called again only for Parquet, if a name is not UTF-8.
        target: The file or object to write, or a binary file that is open for writing.
        names: See write_offsets.
        format: See write_offsets.
        whole: Each part can be read twice, so names of all its members are compared first.
        force: See write_offsets.

    Returns:
        The number of rows that were written.

    Raises:
        DuplicateNameError: two members, of parts of one blob, have the same basename; the message names both.
        StorageError: the file can't be written, or would replace a file of another kind.
        ValueError: the suffix of the target promises another format.
    """
    if isinstance(target, Location):
        check_suffix("target", target, OFFSETS_KINDS[format], force=force)
        check_replaceable(target, OFFSETS_KINDS[format], force=force)
    if format == "parquet":
        return write_parquet(lambda: _columns(parts(), names, whole=whole), target, force=force)
    rows = 0
    with writing_anywhere(target) if isinstance(target, Location) else nullcontext(target) as file:
        for batch, encoded in _encode_batches(_batches(parts(), names, whole=whole), format):
            file.write(encoded)
            rows += len(batch)
    return rows


def _columns(
    parts: Iterable[TablePart], names: NameStyle, *, whole: bool
) -> Iterator[tuple[Columns, str | None]]:
    if names == "path" and whole:
        for part in parts:
            for columns in part.index._parts():
                yield columns, part.blob
        return
    for batch in _batches(parts, names, whole=whole):
        yield batch.index._columns, batch.blob


def _batches(parts: Iterable[TablePart], names: NameStyle, *, whole: bool) -> Iterator[TablePart]:
    """Cut and join parts into batches of BATCH_ROWS rows, each of one blob, with the names that are to be written."""
    for blob, together in groupby(parts, key=attrgetter("blob")):
        indexes: Iterable[Index] = (part.index for part in together)
        if names == "path":
            cut = _cut_into_batches(indexes)
        elif whole:
            cut = chain.from_iterable(map(_whole_with_basenames, indexes))
        else:
            # several indexes may be larger than memory together, so their names are cut batch by batch
            cut = _with_basenames(_cut_into_batches(indexes))
        for index in cut:
            yield TablePart(index, blob)


def _encode_batches(
    batches: Iterator[TablePart], format: OffsetsFormat
) -> Iterator[tuple[Index, bytes]]:
    """Encode batch by batch. All rows have the fields of the first batch."""
    # The first batch settles the fields: a CSV file has one header line, and of several indexes the later ones may have
    # other facts.
    first = next(batches, TablePart(Index()))
    fields = ["name", "offset_start", "offset_end"]
    fields += [name for name, _ in first.index._columns.facts()]
    encode = {"pkl": _encode_pickle, "csv": _encode_csv, "jsonl": _encode_jsonl}[format]
    if format == "csv":
        yield Index(), f"{','.join(_names_of(fields, first))}\n".encode()
    for batch in chain([first], batches):
        yield batch.index, encode(batch, fields) if len(batch.index) else b""


def _cut_into_batches(indexes: Iterable[Index]) -> Iterator[Index]:
    """Cut and join indexes into batches of BATCH_ROWS rows; the last one may be shorter."""
    waiting: list[Index] = []
    count = 0
    for index in (Index._from_columns(part) for whole in indexes for part in whole._parts()):
        first = 0
        while len(index) - first >= BATCH_ROWS - count:
            last = first + BATCH_ROWS - count
            part = index[first:last]
            yield Index.concatenate([*waiting, part]) if waiting else part
            waiting, count, first = [], 0, last
        if first < len(index):
            waiting.append(index[first:])
            count += len(index) - first
    if waiting:
        yield Index.concatenate(waiting) if len(waiting) > 1 else waiting[0]


def _whole_with_basenames(index: Index) -> Iterator[Index]:
    """Yield batches of an index, with basenames, after all basenames were compared."""
    if len(index) <= ROWS_IN_MEMORY_MAX:
        yield from _cut_into_batches([index.with_basenames()])
        return
    index._check_basenames()
    for batch in _cut_into_batches([index]):
        yield Index._from_columns(batch._columns.with_basenames())


def _with_basenames(batches: Iterable[Index]) -> Iterator[Index]:
    """Cut names to basenames, batch by batch. All basenames are kept in memory, to find duplicates."""
    seen: dict[str, str] = {}
    for batch in batches:
        # finds duplicates inside the batch; the loop finds those of other batches
        renamed = batch.with_basenames()
        for name, path in zip(renamed.names, batch.names, strict=True):
            if name in seen:
                raise DuplicateNameError(f"{seen[name]!r} and {path!r} have the same basename")
            seen[name] = path
        yield renamed


def _encode_pickle(batch: TablePart, fields: list[str]) -> bytes:
    columns = batch.index._columns
    bounds = columns.name_bounds
    return encode_batch(
        columns.names,
        bounds[:-1],
        bounds[1:],
        columns.offset_start,
        columns.offset_end,
        0,
        len(columns),
    )


def _encode_csv(batch: TablePart, fields: list[str]) -> bytes:
    """Encode rows as RFC 4180 describes, but for its line ends: text in quotes, an empty cell for an unknown value."""
    lines = (",".join(map(csv_cell, row)) + "\n" for row in _rows(batch, fields))
    # bytes of names that are not UTF-8 come out as they are in the tar; JSON escapes them as \udc80 and the like
    return "".join(lines).encode("utf-8", "surrogateescape")


def csv_cell(value: str | int | None) -> str:
    """Return a cell of CSV: text in quotes, an empty cell for an unknown value."""
    if isinstance(value, str):
        # RFC 4180, section 2, rule 7: a quote inside a quoted field is doubled
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)


def _encode_jsonl(batch: TablePart, fields: list[str]) -> bytes:
    named = _names_of(fields, batch)
    lines = (json.dumps(dict(zip(named, row, strict=True))) + "\n" for row in _rows(batch, fields))
    return "".join(lines).encode()


def _names_of(fields: list[str], batch: TablePart) -> list[str]:
    """Return the names of the columns: the fields and, behind the offsets, the one for the blob, if there is one."""
    blob = [] if batch.blob is None else [BLOB_FIELD]
    return [*fields[:BLOB_PLACE], *blob, *fields[BLOB_PLACE:]]


def _rows(batch: TablePart, fields: list[str]) -> Iterator[tuple[str | int | None, ...]]:
    values: Callable[[Member], tuple[str | int | None, ...]] = attrgetter(*fields)
    if batch.blob is None:
        return map(values, batch.index)
    rows, blob = map(values, batch.index), batch.blob
    return ((*row[:BLOB_PLACE], blob, *row[BLOB_PLACE:]) for row in rows)
