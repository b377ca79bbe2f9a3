"""Facts of members that lie in a blob already: media type, sizes as shown, CRC-32C, in one pass over it."""

from __future__ import annotations

import os
from array import array
from contextlib import closing
from dataclasses import dataclass, replace
from operator import gt
from typing import TYPE_CHECKING

from blobpack._native import facts as _facts
from blobpack._native.results import FactColumns
from blobpack.checksum import crc32c
from blobpack.errors import BlobChangedError, FormatError, StorageError
from blobpack.index.index import Index
from blobpack.threads import map_ahead, processor_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.columns import Columns
    from blobpack.model import ProgressCallback
    from blobpack.stores.base import Store

FACTS_THREADS_MAX = 8
FACTS_REMOTE_THREADS = 8  # a store far away is waited for, not computed
FACTS_WINDOW_BYTES = 1 << 22
FACTS_GAP_BYTES = 1 << 16  # read over, where small payloads lie this close
ENDED = "the blob ends before they do"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row whose bytes could not be read, and why."""

    row: int
    reason: str


def take_facts(
    store: Store,
    index: Index,
    threads: int | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Index:
    """Read all payloads once, and add what their bytes tell to the index.

    No pixel is decoded. Of a payload far away, over 4 MiB and with what says its size behind them, as in some
    TIFFs, the size stays unknown.

    Args:
        store: The blob.
        index: Its members, or some of them; mtime and the report stay as they are.
        threads: How many read; None for as many as there are processors, up to 8, or 8 for a store that is
            not a local file.
        progress: progress(members, bytes), called now and then.

    Returns:
        A new index, with media_type, width, height and crc32c.

    Raises:
        BlobChangedError: the blob is no longer the one that was opened, or ends before a member does.
        StorageError: the store failed.
    """
    columns = index.columns
    facts, unreadable = read_facts(store, columns, threads=threads, progress=progress)
    if unreadable:
        first = unreadable[0]
        raise _error_of(store, columns, first)
    taken = replace(columns, **facts._asdict())
    return Index.from_columns(taken, report=index.report)


def _error_of(store: Store, columns: Columns, first: Unreadable) -> StorageError:
    message = (
        f"{store.url}: member {columns.name_at(first.row)!r}: "
        f"bytes {columns.offset_start[first.row]} to {columns.offset_end[first.row]}: {first.reason}"
    )
    return BlobChangedError(message) if first.reason == ENDED else StorageError(message)


def read_facts(
    store: Store,
    columns: Columns,
    *,
    images: bool = True,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[FactColumns, list[Unreadable]]:
    """Read payloads, by several threads, and take facts of each.

    Args:
        store: The blob.
        columns: The members.
        images: Also recognise and measure images; else checksums alone.
        threads: How many read; see take_facts.
        progress: progress(members, bytes).

    Returns:
        The facts, and the rows that could not be read, in order.

    Raises:
        BlobChangedError: a store that is not a local file is another version now.
    """
    if store.fd is None:
        return _read_far_facts(
            store,
            columns,
            images=images,
            threads=threads or FACTS_REMOTE_THREADS,
            progress=progress,
        )
    facts, faults = _facts.take_facts(
        store.fd,
        store.size,
        columns.names,
        columns.name_bounds,
        columns.offset_start,
        columns.offset_end,
        images=images,
        threads=threads or processor_count(FACTS_THREADS_MAX),
        progress=progress,
    )
    return facts, [
        Unreadable(row, ENDED if error == _facts.READ_ENDED else os.strerror(error))
        for row, error in faults
    ]


# Stores that are no local file


class _Taken:
    """The facts of n members while they come in, a window at a time."""

    def __init__(self, rows: int) -> None:
        self.columns = tuple(array(kind, bytes(rows * array(kind).itemsize)) for kind in "BIII")
        self.unreadable: list[Unreadable] = []

    def put(self, first: int, columns: FactColumns) -> None:
        for column, part in zip(self.columns, columns, strict=True):
            memoryview(column)[first : first + len(part)] = part

    def views(self) -> FactColumns:
        return FactColumns(*(memoryview(column).toreadonly() for column in self.columns))


def windows(columns: Columns) -> Iterator[tuple[int, int]]:
    """Part rows into runs that lie together and fit one window; a large payload is a run by itself."""
    starts, ends = columns.offset_start, columns.offset_end
    first = 0
    for row in range(1, len(columns)):
        if (
            not 0 <= starts[row] - ends[row - 1] <= FACTS_GAP_BYTES
            or ends[row] - starts[first] > FACTS_WINDOW_BYTES
        ):
            yield first, row
            first = row
    if len(columns):
        yield first, len(columns)


def _read_far_facts(
    store: Store, columns: Columns, *, images: bool, threads: int, progress: ProgressCallback | None
) -> tuple[FactColumns, list[Unreadable]]:
    """Bring windows by threads that wait for the store; a few more than there are threads are under way."""
    taken = _Taken(len(columns))
    members = size = 0

    def read(window: tuple[int, int]) -> tuple[int, int]:
        return _read_run(store, columns, *window, taken, images=images)

    with closing(
        map_ahead(read, windows(columns), threads=threads, most=2 * threads + 1, name="facts")
    ) as runs:
        for rows, read_bytes in runs:
            members += rows
            size += read_bytes
            if progress:
                progress(members, size)
    return taken.views(), sorted(taken.unreadable, key=lambda failed: failed.row)


def _read_run(
    store: Store, columns: Columns, first: int, last: int, taken: _Taken, *, images: bool
) -> tuple[int, int]:
    """Read the rows first:last of one window, and take their facts; how many, and their bytes."""
    start, end = columns.offset_start[first], columns.offset_end[last - 1]
    part = columns.slice(first, last)
    if not 0 <= start <= end <= store.size or any(map(gt, part.offset_start, part.offset_end)):
        return _read_one_by_one(store, columns, first, last, taken, images=images)
    try:
        if end - start > FACTS_WINDOW_BYTES:
            found = _read_large(store, columns, first, images=images)
        else:
            found = _facts.take_facts_within(
                store.read_range(start, end),
                start,
                part.names,
                part.name_bounds,
                part.offset_start,
                part.offset_end,
                images=images,
            )
    except BlobChangedError:
        raise
    except FormatError as exc:  # a damaged frame of a compressed blob
        if last - first > 1:
            _read_one_by_one(store, columns, first, last, taken, images=images)
        else:
            taken.unreadable.append(Unreadable(first, str(exc)))
    except StorageError as exc:
        taken.unreadable.extend(Unreadable(row, str(exc)) for row in range(first, last))
    else:
        taken.put(first, found)
    return last - first, sum(part.offset_end) - sum(part.offset_start)


def _read_one_by_one(
    store: Store, columns: Columns, first: int, last: int, taken: _Taken, *, images: bool
) -> tuple[int, int]:
    """Read what can be read of rows that are not all within the blob."""
    size = 0
    for row in range(first, last):
        if 0 <= columns.offset_start[row] <= columns.offset_end[row] <= store.size:
            size += _read_run(store, columns, row, row + 1, taken, images=images)[1]
        else:
            taken.unreadable.append(Unreadable(row, ENDED))
    return last - first, size


def _read_large(store: Store, columns: Columns, row: int, *, images: bool) -> FactColumns:
    """Read one payload in pieces."""
    start, end = columns.offset_start[row], columns.offset_end[row]
    name = bytes(columns.slice(row, row + 1).packed_names())
    piece = store.read_range(start, start + FACTS_WINDOW_BYTES)
    facts = _facts.facts_of(piece, name, size=end - start)
    checksum = facts.crc32c
    for pos in range(start + FACTS_WINDOW_BYTES, end, FACTS_WINDOW_BYTES):
        checksum = crc32c(store.read_range(pos, min(pos + FACTS_WINDOW_BYTES, end)), checksum)
    return FactColumns(
        memoryview(array("B", [facts.media_type if images else 0])),
        memoryview(array("I", [facts.width if images else 0])),
        memoryview(array("I", [facts.height if images else 0])),
        memoryview(array("I", [checksum])),
    )
