"""The offsets file `<stem>_offsets.pkl`: read and written without unpickling anything.

The format is Supervisely's: consecutive pickles, each a list of up to 10,000 BlobImageInfo. The same rows
can be written as CSV, JSON lines or Parquet, and these with the facts that the index has.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack._native.pickles import OffsetsDecoder, encode_batch
from blobpack.columns import Columns
from blobpack.errors import BlobNotFoundError, DuplicateNameError, StorageError
from blobpack.index.index import Index
from blobpack.index.parquet import write_parquet
from blobpack.indexfile.identity import COLLECTION_IDENTITY
from blobpack.model import (
    NameStyle,
    OffsetsFormat,
    check_choice,
    check_local_path,
    check_number,
    check_output,
    check_several,
)
from blobpack.stores.output import replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

BATCH_ROWS = 10_000

SUFFIXES: dict[str, OffsetsFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def offsets_path(blob: str | os.PathLike[str], format: OffsetsFormat = "pkl") -> Path:
    """Name the offsets file beside a blob, as Supervisely does: out.tar → out_offsets.pkl."""
    path = Path(blob)
    return path.with_name(f"{PurePosixPath(path.name).stem}_offsets.{format}")


def format_of(path: str | os.PathLike[str]) -> OffsetsFormat:
    """Tell the format by a path's suffix; one that says nothing is Supervisely's."""
    return SUFFIXES.get(Path(path).suffix.lower(), "pkl")


def write_offsets(
    index: Index | Iterable[Index],
    path: str | os.PathLike[str] | BinaryIO,
    names: NameStyle = "path",
    *,
    format: OffsetsFormat = "pkl",
) -> int:
    """Write where each member's payload lies.

    The file appears whole or not at all, and replaces one that is there. No rows make an empty file.

    Args:
        index: The members; or several indexes, written behind one another in bounded memory (but for
            names="basename", which remembers every name).
        path: Where to; or a binary file open for writing.
        names: "path", the member's name; or "basename", what stands behind its last "/", as Supervisely's
            importer expects.
        format: "pkl", Supervisely's; "csv" with a header line; "jsonl", an object a line; "parquet". But for the
            first, they carry the facts, too, that the index has (of several, those of the first): what is
            unknown is an empty cell, or null.

    Returns:
        How many rows were written.

    Raises:
        DuplicateNameError: two members have one basename; both are named.
        StorageError: the file can't be written.
        PackageMissingError: Parquet is asked for, and there is no pyarrow.
        TypeError: an argument has another type.
        ValueError: a choice that there is not; or the members are those of a collection.
    """
    if isinstance(index, Index):
        _check_of_one_blob(index)
    else:
        check_several("index", index, "indexes")
        index = map(_check_index, index)
    check_output("path", path)
    check_choice("names", names, NameStyle)
    check_choice("format", format, OffsetsFormat)
    if format == "parquet":
        return _write_parquet(index, path, names)
    rows = 0
    with _open_output(path) as file:
        for batch, encoded in _encode_batches(_batches(index, names), format):
            file.write(encoded)
            rows += len(batch)
    return rows


def _check_index(index: Index) -> Index:
    if not isinstance(index, Index):
        raise TypeError(f"index must be an Index or several, and one is {index!r}")
    _check_of_one_blob(index)
    return index


def _check_of_one_blob(index: Index) -> None:
    if index.identity == COLLECTION_IDENTITY:
        raise ValueError(
            "index: offsets in several blobs can't stand in one file: write those of each blob, or keep the collection"
        )


def read_offsets(path: str | os.PathLike[str]) -> Index:
    """Read an offsets file of any Supervisely version. Nothing in it is run.

    Returns:
        Its rows as an index, in their order.

    Raises:
        BlobNotFoundError: there is no such file.
        TruncatedError: it ends inside a pickle.
        FormatError: it holds anything but rows of name, offset_start and offset_end; with the byte offset.
    """
    check_local_path("path", path)
    with _open_input(path) as file:
        columns = OffsetsDecoder(file, str(path)).read_batch(1 << 62)
    return Index.from_columns(Columns(*columns)) if columns else Index()


def iter_offsets(path: str | os.PathLike[str], rows: int = BATCH_ROWS) -> Iterator[Index]:
    """Read an offsets file in memory bounded by its largest pickle.

    Args:
        path: The file.
        rows: Each index has at least so many rows, the last one what is left.

    Returns:
        An iterator of indexes, whose rows follow one another.

    Raises:
        BlobpackError: as for read_offsets, at the row that is reached.
        ValueError: rows is not at least 1.
    """
    check_local_path("path", path)
    check_number("rows", rows, 1)
    return _iter_indexes(path, rows)


def _iter_indexes(path: str | os.PathLike[str], rows: int) -> Iterator[Index]:
    with _open_input(path) as file:
        decoder = OffsetsDecoder(file, str(path))
        while columns := decoder.read_batch(rows):
            yield Index.from_columns(Columns(*columns))


@contextmanager
def _open_input(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb", buffering=0)  # noqa: PTH123, SIM115 (a path of any kind; closed below)
    except FileNotFoundError as exc:
        raise BlobNotFoundError(f"{path}: no such offsets file") from exc
    except OSError as exc:
        raise StorageError(f"{path}: can't be opened: {exc.strerror}") from exc
    with file:
        yield cast("BinaryIO", file)


@contextmanager
def _open_output(path: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
    if hasattr(path, "write"):
        yield cast("BinaryIO", path)
        return
    with replacing(path) as file:
        yield file


def _write_parquet(
    index: Index | Iterable[Index], path: str | os.PathLike[str] | BinaryIO, names: NameStyle
) -> int:
    if isinstance(index, Index) and names == "path":
        return write_parquet(index.parts, path)
    indexes = [index] if isinstance(index, Index) else list(index)
    return write_parquet(lambda: (batch.columns for batch in _batches(indexes, names)), path)


def _batches(index: Index | Iterable[Index], names: NameStyle) -> Iterator[Index]:
    if names == "path":
        return _cut_into_batches([index] if isinstance(index, Index) else index)
    if isinstance(index, Index):
        return _cut_into_batches([index.with_basenames()])
    return _with_basenames(_cut_into_batches(index))


def _encode_batches(
    batches: Iterator[Index], format: OffsetsFormat
) -> Iterator[tuple[Index, bytes]]:
    """Encode batch by batch; all rows have the fields of the first batch."""
    first = next(batches, Index())
    fields = ["name", "offset_start", "offset_end", *(name for name, _ in first.columns.facts())]
    encode = {"pkl": _encode_pickle, "csv": _encode_csv, "jsonl": _encode_jsonl}[format]
    if format == "csv":
        yield Index(), f"{','.join(fields)}\n".encode()
    for batch in chain([first], batches):
        yield batch, encode(batch, fields) if len(batch) else b""


def _cut_into_batches(indexes: Iterable[Index]) -> Iterator[Index]:
    """Cut and join indexes into batches of BATCH_ROWS, the last one shorter."""
    waiting: list[Index] = []
    count = 0
    for index in (Index.from_columns(part) for whole in indexes for part in whole.parts()):
        first = 0
        while len(index) - first >= BATCH_ROWS - count:
            last = first + BATCH_ROWS - count
            part = index.slice(first, last)
            yield Index.concatenate([*waiting, part]) if waiting else part
            waiting, count, first = [], 0, last
        if first < len(index):
            waiting.append(index.slice(first, len(index)))
            count += len(index) - first
    if waiting:
        yield Index.concatenate(waiting) if len(waiting) > 1 else waiting[0]


def _with_basenames(batches: Iterable[Index]) -> Iterator[Index]:
    """Rename batch by batch; every basename is remembered, to find those that come twice."""
    seen: dict[str, str] = {}
    for batch in batches:
        renamed = batch.with_basenames()
        for name, path in zip(renamed.names, batch.names, strict=True):
            if name in seen:
                raise DuplicateNameError(f"{seen[name]!r} and {path!r} have the same basename")
            seen[name] = path
        yield renamed


def _encode_pickle(batch: Index, fields: list[str]) -> bytes:
    columns = batch.columns
    bounds = columns.name_bounds
    return encode_batch(
        columns.names,
        bounds[:-1],
        bounds[1:],
        batch.offset_start.data,
        batch.offset_end.data,
        0,
        len(batch),
    )


def _encode_csv(batch: Index, fields: list[str]) -> bytes:
    """Encode as RFC 4180 has it: text in quotes, numbers bare, and nothing at all for what is unknown."""
    values = attrgetter(*fields)
    lines = (",".join(map(_csv_cell, values(member))) + "\n" for member in batch)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _csv_cell(value: str | int | None) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)


def _encode_jsonl(batch: Index, fields: list[str]) -> bytes:
    values = attrgetter(*fields)
    lines = (json.dumps(dict(zip(fields, values(member), strict=True))) + "\n" for member in batch)
    return "".join(lines).encode()
