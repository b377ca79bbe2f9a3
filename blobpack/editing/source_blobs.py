"""The blobs that merge and subset copy members from: which blob holds which members, and opening these blobs.

Strategy: all members are known before a blob is opened. Blobs of a collection are opened when their members are copied.
Members may be asked for in any order, so some blobs are kept open.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from blobpack.closing import Closing
from blobpack.index.index import Index
from blobpack.index.row_numbers import ascends, rows_as_array
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.index.which import numbers_of_several
from blobpack.opening.blob import Blob
from blobpack.opening.blob_rows import rows_within
from blobpack.tar.splicing.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.model import Which
    from blobpack.opening.blob_rows import BlobPart
    from blobpack.opening.reader import Reader
    from blobpack.stores.base import Store

# a local blob takes a file descriptor
BLOBS_KEPT_OPEN = 64


class Chosen(NamedTuple):
    """Members of one blob that are copied, in order."""

    blob: BlobPart
    members: Index


def all_of(blob: BlobPart) -> Chosen:
    """Return all members of a blob."""
    return Chosen(blob, blob.read_index())


def blobs_of(reader: Reader) -> list[BlobPart]:
    """Return the blobs of a reader, in order, with their members read; the blobs of a collection are not opened."""
    return [part.with_index_read() for part in reader._each_blob()]


def choose(
    reader: Reader, blobs: Sequence[BlobPart], members: Index | Iterable[Which]
) -> list[Chosen]:
    """Find the blob that holds each of some members; neighbours of one blob are returned together.

    Args:
        reader: The blob or collection.
        blobs: Its blobs.
        members: A selection of its index; or names, members or rows.

    Raises:
        MemberNotFoundError: there is no such member.
        IndexError: there is no such row.
    """
    # of one blob, also an index that somebody has made is taken as it is: the headers are compared with it
    if isinstance(reader, Blob) and isinstance(members, Index):
        return [Chosen(blobs[0], members)]
    if members is reader.index:
        return [all_of(blob) for blob in blobs]
    rows = numbers_of_several(reader.index, members, "members")
    found: Iterable[tuple[BlobPart, range | NDArray[np.int64]]]
    if ascends(rows):
        found = (
            (blob, rows_within(rows, blob.first_row, blob.first_row + len(blob.read_index())))
            for blob in blobs
        )
    else:
        found = _runs(blobs, rows_as_array(rows))
    # of many members, only the row numbers are kept in memory
    take = Index._view if len(rows) > ROWS_IN_MEMORY_MAX else Index._cut
    return [Chosen(blob, take(blob.read_index(), run)) for blob, run in found if len(run)]


def _runs(
    blobs: Sequence[BlobPart], rows: NDArray[np.int64]
) -> Iterator[tuple[BlobPart, NDArray[np.int64]]]:
    """Yield each run of rows that are in one blob, with this blob; the rows are counted from the blob's first one."""
    import numpy as np

    # several blobs have one first row if some of them are empty: the last of these has the member
    numbers = np.searchsorted([blob.first_row for blob in blobs], rows, "right") - 1
    cuts = np.flatnonzero(np.diff(numbers)) + 1
    for run, run_numbers in zip(np.split(rows, cuts), np.split(numbers, cuts), strict=True):
        blob = blobs[int(run_numbers[0])]
        yield blob, run - blob.first_row


class OpenBlobs(Closing):
    """Blobs that are open, with the places of their members; the least recently used one is closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, tuple[ExitStack, Store, Extents]] = OrderedDict()

    def get(self, blob: BlobPart) -> tuple[Store, Extents]:
        """Return a blob's store, and where its members lie.

        Raises:
            BlobpackError: the blob can't be opened, or is not the one that was collected.
        """
        found = self._open.get(id(blob))
        if found is None:
            with ExitStack() as stack:
                store = stack.enter_context(blob.opened())
                found = (stack, store, Extents(blob.read_index()))
                found = (stack.pop_all(), *found[1:])
            self._open[id(blob)] = found
        self._open.move_to_end(id(blob))
        while len(self._open) > BLOBS_KEPT_OPEN:
            self._open.popitem(last=False)[1][0].close()
        return found[1], found[2]

    def close(self) -> None:
        """Close all blobs that are open."""
        for stack, _, _ in self._open.values():
            stack.close()
