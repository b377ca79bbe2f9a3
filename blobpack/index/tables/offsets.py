"""The offsets file `<stem>_offsets.pkl`: its name, how it is recognised, and reading it.

The format is Supervisely's: consecutive pickles, each a list of up to 10,000 BlobImageInfo. Strategy: native code reads it
without unpickling, so that nothing in a file is run. offsets_table.py writes it, and the same rows in other formats.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack._native.pickles import OffsetsDecoder
from blobpack.columns import FACTS, Columns
from blobpack.errors import BlobNotFoundError, StorageError, TruncatedError
from blobpack.index.index import Index
from blobpack.index.tables.parquet import BLOB_FIELD, PARQUET
from blobpack.model import OffsetsFormat, check_number
from blobpack.stores.arguments import local_path
from blobpack.stores.replace import OutputKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

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
    return names[:3] == first and set(names[3:]) <= {BLOB_FIELD, *FACTS}


OFFSETS_KINDS = {
    "pkl": OutputKind("offsets file", _is_offsets_pickle),
    "csv": OutputKind("CSV file of offsets", _is_offsets_csv),
    "jsonl": OutputKind("JSON lines file of offsets", _is_offsets_jsonl),
    "parquet": PARQUET,
}


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
        BlobpackError: as for read_offsets; the iterator raises it when it reaches the fault.
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
