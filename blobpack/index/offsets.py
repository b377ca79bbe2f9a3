"""The offsets file `<stem>_offsets.pkl`, and the same rows as CSV, JSON lines or Parquet.

The format is Supervisely's: consecutive pickles, each a list of up to 10,000 BlobImageInfo. Strategy: native code writes
the bytes that Supervisely's SDK would write, and reads them without unpickling, so that nothing in a file is run. The
other formats also have the facts of the index.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager, suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack._native.pickles import OffsetsDecoder, encode_batch
from blobpack.argument_order import is_output, is_there, recognise_swap
from blobpack.columns import FACTS, Columns
from blobpack.errors import BlobNotFoundError, DuplicateNameError, StorageError, TruncatedError
from blobpack.index.index import Index
from blobpack.index.parquet import PARQUET, write_parquet
from blobpack.indexfile.identity import COLLECTION_IDENTITY
from blobpack.model import (
    NameStyle,
    OffsetsFormat,
    check_choice,
    check_flag,
    check_number,
    check_several,
    shown,
)
from blobpack.stores.descriptor import never_short
from blobpack.stores.location import Location, local_output, local_path
from blobpack.stores.output import replacing
from blobpack.stores.replace import OutputKind, check_replaceable, check_suffix

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from blobpack.stores.base import Store

# rows of one pickle; the SDK's OFFSETS_PKL_BATCH_SIZE
BATCH_ROWS = 10_000

# enough of a file to recognise its kind
HEAD_BYTES = 1 << 16

SUFFIXES: dict[str, OffsetsFormat] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


def offsets_path(blob: str | os.PathLike[str], format: OffsetsFormat = "pkl") -> Path:
    """Return the path of the offsets file beside a blob, as Supervisely names it: out.tar → out_offsets.pkl."""
    path = Path(blob)
    # The SDK finds a blob's offsets file by this name only. It cuts the last suffix, whatever it
    # is: a.b.tar → a.b_offsets.pkl.
    return path.with_name(f"{PurePosixPath(path.name).stem}_offsets.{format}")


def void_path(blob: str | os.PathLike[str]) -> Path:
    """Return the path of the note that an append keeps beside a local blob until the files beside it are up to date."""
    path = Path(blob)
    return path.with_name(f".{path.name}.idx.void")


def format_of(path: str | os.PathLike[str]) -> OffsetsFormat:
    """Return the format that belongs to a path's suffix; any other suffix stands for Supervisely's format."""
    return SUFFIXES.get(Path(path).suffix.lower(), "pkl")


@recognise_swap(index=is_there, path=is_output)
def write_offsets(
    index: Index | Iterable[Index],
    path: str | os.PathLike[str] | BinaryIO,
    names: NameStyle = "path",
    *,
    format: OffsetsFormat = "pkl",
    force: bool = False,
) -> int:
    """Write the name and offsets of each member.

    The file appears complete or not at all, and replaces an older one. Without members, the file is empty.

    Args:
        index: The members; or several indexes, which are written one after the other in bounded memory (with
            names="basename", all names are kept in memory).
        path: Path of the file, or a binary file that is open for writing.
        names: "path" writes the member's name; "basename" its part after the last "/", as Supervisely's importer
            expects.
        format: "pkl" is Supervisely's; "csv" has a header line; "jsonl" has one object on each line; "parquet". All but
            "pkl" also have the facts of the index (of the first one, if there are several). An unknown value is an
            empty cell or null.
        force: Replace a file that is not an offsets file of this format, and allow a suffix of another format.

    Returns:
        The number of rows that were written.

    Raises:
        DuplicateNameError: two members have the same basename; the message names both.
        StorageError: the file can't be written, or would replace a file of another kind.
        PackageMissingError: the format is Parquet, and pyarrow is not installed.
        TypeError: an argument has another type.
        ValueError: there is no such choice, the suffix of the path promises another format, or the index belongs to a
            collection.
    """
    if isinstance(index, Index):
        _check_of_one_blob(index)
    else:
        check_several("index", index, "indexes")
        # one by one as they are written: an iterator may make each index when it is asked for it
        index = map(_check_index, index)
    path = local_output("path", path)
    check_choice("names", names, NameStyle)
    check_choice("format", format, OffsetsFormat)
    if hasattr(path, "write"):
        path = never_short(cast("BinaryIO", path))
    check_flag("force", force)
    if format == "parquet":
        return _write_parquet(index, path, names, force=force)
    if isinstance(path, str):
        location = Location(path, "local")
        check_suffix("path", location, OFFSETS_KINDS[format], force=force)
        check_replaceable(location, OFFSETS_KINDS[format], force=force)
    rows = 0
    with _open_output(path) as file:
        for batch, encoded in _encode_batches(_batches(index, names), format):
            file.write(encoded)
            rows += len(batch)
    return rows


def _is_offsets_pickle(store: Store) -> bool:
    # the decoder of blobpack itself judges the beginning: a pickle of anything else is a FormatError
    head = store.read_range(0, min(HEAD_BYTES, store.size))
    # the head is cut in the midst of a pickle
    with suppress(TruncatedError):
        OffsetsDecoder(io.BytesIO(head), store.url).read_batch(1)
    return True


def _is_offsets_csv(store: Store) -> bool:
    head, *_ = store.read_range(0, min(HEAD_BYTES, store.size)).partition(b"\n")
    return _are_fields(head.decode("latin-1").split(","))


def _is_offsets_jsonl(store: Store) -> bool:
    head, end, _ = store.read_range(0, min(HEAD_BYTES, store.size)).partition(b"\n")
    # a name is long enough to fill the head
    if not end and head.startswith(b'{"name": "'):
        return store.size > HEAD_BYTES
    try:
        row = json.loads(head)
    except ValueError:
        return False
    return isinstance(row, dict) and _are_fields(list(row))


def _are_fields(names: list[str]) -> bool:
    """Return whether these are the fields of an offsets file; one that somebody has added would be lost."""
    first = ["name", "offset_start", "offset_end"]
    return names[:3] == first and set(names[3:]) <= set(FACTS)


OFFSETS_KINDS = {
    "pkl": OutputKind("offsets file", _is_offsets_pickle),
    "csv": OutputKind("CSV file of offsets", _is_offsets_csv),
    "jsonl": OutputKind("JSON lines file of offsets", _is_offsets_jsonl),
    "parquet": PARQUET,
}


def _check_index(index: Index) -> Index:
    if not isinstance(index, Index):
        raise TypeError(f"index must be an Index or several, and one is {shown(index)}")
    _check_of_one_blob(index)
    return index


def _check_of_one_blob(index: Index) -> None:
    if index.identity == COLLECTION_IDENTITY:
        raise ValueError(
            "index: this is a collection of several blobs, and an offsets file holds the offsets in one: write one file for each blob"
        )


def read_offsets(path: str | os.PathLike[str]) -> Index:
    """Read an offsets file of any version of Supervisely's SDK. No code in the file is run.

    Returns:
        The rows as an index, in their order.

    Raises:
        BlobNotFoundError: there is no such file.
        TruncatedError: the file ends inside a pickle.
        FormatError: the file holds anything but rows of name, offset_start and offset_end; the message has the byte
            offset.
        StorageError: the file can't be opened.
    """
    path = local_path("path", path)
    with _open_input(path) as file:
        # all rows at once: 2⁶² is more than any file holds
        columns = OffsetsDecoder(file, str(path)).read_batch(1 << 62)
    return Index._from_columns(Columns(*columns)) if columns else Index()


def iter_offsets(path: str | os.PathLike[str], rows: int = BATCH_ROWS) -> Iterator[Index]:
    """Read an offsets file in parts, in memory that is bounded by its largest pickle.

    Args:
        path: Path of the file.
        rows: Least number of rows in each index; the last one may have fewer.

    Returns:
        An iterator of indexes, in the order of the file.

    Raises:
        BlobpackError: as read_offsets raises; raised when the iterator gets there.
        ValueError: rows is less than 1.
    """
    path = local_path("path", path)
    check_number("rows", rows, 1)
    # The generator is another function: in a generator, the checks above would run only at the first next().
    return _iter_indexes(path, rows)


def _iter_indexes(path: str | os.PathLike[str], rows: int) -> Iterator[Index]:
    with _open_input(path) as file:
        decoder = OffsetsDecoder(file, str(path))
        while columns := decoder.read_batch(rows):
            yield Index._from_columns(Columns(*columns))


@contextmanager
def _open_input(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        # unbuffered: the native decoder reads into a buffer of its own
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
    index: Index | Iterable[Index],
    path: str | os.PathLike[str] | BinaryIO,
    names: NameStyle,
    *,
    force: bool,
) -> int:
    if isinstance(index, Index) and names == "path":
        return write_parquet(index._parts, path, force=force)
    # a list, because write_parquet goes through the parts again if a name is not UTF-8
    indexes = [index] if isinstance(index, Index) else list(index)
    return write_parquet(
        lambda: (batch._columns for batch in _batches(indexes, names)), path, force=force
    )


def _batches(index: Index | Iterable[Index], names: NameStyle) -> Iterator[Index]:
    if names == "path":
        return _cut_into_batches([index] if isinstance(index, Index) else index)
    if isinstance(index, Index):
        return _cut_into_batches([index.with_basenames()])
    # several indexes may be larger than memory together, so their names are cut batch by batch
    return _with_basenames(_cut_into_batches(index))


def _encode_batches(
    batches: Iterator[Index], format: OffsetsFormat
) -> Iterator[tuple[Index, bytes]]:
    """Encode batch by batch. All rows have the fields of the first batch."""
    # The first batch settles the fields: a CSV file has one header line, and of several indexes the later ones may have
    # other facts.
    first = next(batches, Index())
    fields = ["name", "offset_start", "offset_end", *(name for name, _ in first._columns.facts())]
    encode = {"pkl": _encode_pickle, "csv": _encode_csv, "jsonl": _encode_jsonl}[format]
    if format == "csv":
        yield Index(), f"{','.join(fields)}\n".encode()
    for batch in chain([first], batches):
        yield batch, encode(batch, fields) if len(batch) else b""


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


def _encode_pickle(batch: Index, fields: list[str]) -> bytes:
    columns = batch._columns
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
    """Encode rows as RFC 4180 describes, but for its line ends: text in quotes, an empty cell for an unknown value."""
    values = attrgetter(*fields)
    lines = (",".join(map(csv_cell, values(member))) + "\n" for member in batch)
    # bytes of names that are not UTF-8 come out as they are in the tar; JSON escapes them as \udc80 and the like
    return "".join(lines).encode("utf-8", "surrogateescape")


def csv_cell(value: str | int | None) -> str:
    """Return a cell of CSV: text in quotes, an empty cell for an unknown value."""
    if isinstance(value, str):
        # RFC 4180, section 2, rule 7: a quote inside a quoted field is doubled
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value)


def _encode_jsonl(batch: Index, fields: list[str]) -> bytes:
    values = attrgetter(*fields)
    lines = (json.dumps(dict(zip(fields, values(member), strict=True))) + "\n" for member in batch)
    return "".join(lines).encode()
