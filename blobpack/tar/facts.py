"""Facts of the members of an existing blob: media type, width and height as shown, and CRC-32C, in one pass.

Strategy: the payloads of a local file are read by native code, with one thread for each processor. Those of any other
store are read in windows of up to 4 MiB, by threads that wait for the store, and native code takes the facts from each
window. The facts go into arrays that are made once, each window into its own rows.
"""

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
from blobpack.look_ahead import map_ahead
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.columns import Columns
    from blobpack.progress import CountCallback
    from blobpack.stores.base import Store

FACTS_THREADS_MAX = 8
# independent of the number of processors: these threads wait for a remote store, they don't compute
FACTS_REMOTE_THREADS = 8
# 8 threads hold 32 MiB at most: of a window that is done, only its facts stay
FACTS_WINDOW_BYTES = 1 << 22
# payloads no further apart than this are read together, with the bytes between them: one request less
FACTS_GAP_BYTES = 1 << 16
PAST_END = "the blob ends before this payload does"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row whose payload could not be read, and the reason."""

    row: int
    reason: str


def take_facts(
    store: Store,
    index: Index,
    threads: int | None = None,
    *,
    progress: CountCallback | None = None,
) -> Index:
    """Read all payloads once, and add their facts to the index.

    No pixel is decoded.

    Args:
        store: The blob.
        index: Its members, or some of them; mtime and the report stay as they are.
        threads: Number of threads that read; None for one for each processor, up to 8, or for 8 if the blob is not a
            local file.
        progress: progress(members, bytes), called from time to time.

    Returns:
        A new index, with media_type, width, height and crc32c.

    Raises:
        BlobChangedError: the blob is no longer the one that was opened, or ends before a member does.
        StorageError: the store failed.
    """
    columns = index._columns
    facts, unreadable = read_facts(store, columns, threads=threads, progress=progress)
    if unreadable:
        first = unreadable[0]
        raise _unreadable_error(store, columns, first)
    taken = replace(columns, **facts._asdict())
    return Index._from_columns(taken, report=index.report)


def _unreadable_error(store: Store, columns: Columns, first: Unreadable) -> StorageError:
    message = (
        f"{store.url}: member {columns.name_at(first.row)!r}: "
        f"bytes {columns.offset_start[first.row]} to {columns.offset_end[first.row]}: {first.reason}"
    )
    return BlobChangedError(message) if first.reason == PAST_END else StorageError(message)


def read_facts(
    store: Store,
    columns: Columns,
    *,
    images: bool = True,
    threads: int | None = None,
    progress: CountCallback | None = None,
) -> tuple[FactColumns, list[Unreadable]]:
    """Read payloads in several threads, and return the facts of each; rows that can't be read raise no error.

    Args:
        store: The blob.
        columns: The members.
        images: Also recognise and measure images; False for checksums alone.
        threads: Number of threads that read; see take_facts.
        progress: progress(members, bytes), called from time to time.

    Returns:
        facts: The facts of all rows; without meaning for a row that could not be read.
        unreadable: The rows that could not be read, in order.

    Raises:
        BlobChangedError: the blob is not a local file, and is now another version.
    """
    fd = store.fd
    if fd is None:
        return _read_remote_facts(
            store,
            columns,
            images=images,
            threads=threads or FACTS_REMOTE_THREADS,
            progress=progress,
        )
    facts, faults = _facts.take_facts(
        fd,
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
        Unreadable(row, PAST_END if error == _facts.READ_ENDED else os.strerror(error))
        for row, error in faults
    ]


# Stores without a file descriptor


class _FactTable:
    """The facts of n members, filled in window by window.

    Several threads fill it without a lock: no two windows have a row in common, and list.append is atomic.
    """

    def __init__(self, rows: int) -> None:
        self.columns = tuple(array(kind, bytes(rows * array(kind).itemsize)) for kind in "BIII")
        self.unreadable: list[Unreadable] = []

    def put(self, first: int, columns: FactColumns) -> None:
        for column, part in zip(self.columns, columns, strict=True):
            memoryview(column)[first : first + len(part)] = part

    def views(self) -> FactColumns:
        return FactColumns(*(memoryview(column).toreadonly() for column in self.columns))


def windows(columns: Columns) -> Iterator[tuple[int, int]]:
    """Divide rows into windows of payloads close to each other, up to 4 MiB; a larger payload is a window of its own."""
    starts, ends = columns.offset_start, columns.offset_end
    first = 0
    for row in range(1, len(columns)):
        # The distance is below 0 if the rows are not in archive order, or if a hard link repeats a payload.
        if (
            not 0 <= starts[row] - ends[row - 1] <= FACTS_GAP_BYTES
            or ends[row] - starts[first] > FACTS_WINDOW_BYTES
        ):
            yield first, row
            first = row
    if len(columns):
        yield first, len(columns)


def _read_remote_facts(
    store: Store, columns: Columns, *, images: bool, threads: int, progress: CountCallback | None
) -> tuple[FactColumns, list[Unreadable]]:
    """Read windows in threads, and take facts of each.

    About twice as many windows as threads are under way, so that a slow window at the front of the queue does not leave
    the threads behind it without work.
    """
    table = _FactTable(len(columns))
    members = size = 0

    def read(window: tuple[int, int]) -> tuple[int, int]:
        return _read_window(store, columns, *window, table, images=images)

    with closing(
        map_ahead(read, windows(columns), threads=threads, most=2 * threads + 1, name="facts")
    ) as runs:
        for rows, read_bytes in runs:
            members += rows
            size += read_bytes
            if progress:
                progress(members, size)
    return table.views(), sorted(table.unreadable, key=lambda failed: failed.row)


def _read_window(
    store: Store, columns: Columns, first: int, last: int, table: _FactTable, *, images: bool
) -> tuple[int, int]:
    """Read the rows first:last of one window into the table; return how many they are, and their bytes."""
    start, end = columns.offset_start[first], columns.offset_end[last - 1]
    part = columns.slice(first, last)
    # A wrong index may have rows past the end of the blob, or payloads that end before they start. Then each row is
    # judged by itself: neither the store nor the native code accepts such a window.
    if not 0 <= start <= end <= store.size or any(map(gt, part.offset_start, part.offset_end)):
        return _read_one_by_one(store, columns, first, last, table, images=images)
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
    # A changed blob concerns every row: all other windows would fail, too. So it is raised, not noted for its rows.
    except BlobChangedError:
        raise
    # A frame of a compressed blob is damaged. The rows outside of that frame can be read one by one.
    except FormatError as exc:
        if last - first > 1:
            _read_one_by_one(store, columns, first, last, table, images=images)
        else:
            table.unreadable.append(Unreadable(first, str(exc)))
    except StorageError as exc:
        table.unreadable.extend(Unreadable(row, str(exc)) for row in range(first, last))
    else:
        table.put(first, found)
    return last - first, sum(part.offset_end) - sum(part.offset_start)


def _read_one_by_one(
    store: Store, columns: Columns, first: int, last: int, table: _FactTable, *, images: bool
) -> tuple[int, int]:
    """Read rows one by one, and note those that can't be read."""
    size = 0
    for row in range(first, last):
        if 0 <= columns.offset_start[row] <= columns.offset_end[row] <= store.size:
            size += _read_window(store, columns, row, row + 1, table, images=images)[1]
        else:
            table.unreadable.append(Unreadable(row, PAST_END))
    return last - first, size


def _read_large(store: Store, columns: Columns, row: int, *, images: bool) -> FactColumns:
    """Read one payload in pieces, so that a payload of any size takes the memory of one window."""
    start, end = columns.offset_start[row], columns.offset_end[row]
    name = bytes(columns.slice(row, row + 1).packed_names())
    piece = store.read_range(start, start + FACTS_WINDOW_BYTES)
    # The first piece says the media type, width and height of most images. Of the others, a few KiB are read once more.
    facts = _facts.facts_of(
        piece,
        name,
        size=end - start,
        read=lambda first, last: store.read_range(start + first, start + last),
    )
    # its checksum is carried on over the other pieces
    checksum = facts.crc32c
    for pos in range(start + FACTS_WINDOW_BYTES, end, FACTS_WINDOW_BYTES):
        checksum = crc32c(store.read_range(pos, min(pos + FACTS_WINDOW_BYTES, end)), checksum)
    return FactColumns(
        memoryview(array("B", [facts.media_type if images else 0])),
        memoryview(array("I", [facts.width if images else 0])),
        memoryview(array("I", [facts.height if images else 0])),
        memoryview(array("I", [checksum])),
    )
