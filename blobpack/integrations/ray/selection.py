"""The members to read, in their order, and how they are cut into runs, one for each task.

Strategy: a run holds about as many bytes as any other. If there are at least as many runs as blobs, each run lies in one
blob. If all members are read, a binary search finds the runs, so only a few offsets of the index are needed.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from blobpack.index.origin import origin_of
from blobpack.index.row_numbers import rows_as_array
from blobpack.integrations.ray.where import narrowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blobpack.index.index import Index
    from blobpack.integrations.ray.where import Where
    from blobpack.model import RayOrder
    from blobpack.opening.blob_rows import BlobRows
    from blobpack.opening.reader import Reader

# A cut moves to the border between two blobs if it is nearer than this part of a run.
SNAPPED_PART = 0.25


class Selection(ABC):
    """Members of a blob or collection, in an order.

    Attributes:
        rows: Their rows in the index.
        ascends: Whether the rows ascend.
        borders: Places among these rows at which a blob begins or ends, ascending, from 0 to their number.
    """

    rows: range | NDArray[np.int64]
    ascends: bool
    borders: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    @abstractmethod
    def bytes_before(self, place: int) -> int:
        """Return about how many bytes of payloads lie before a place."""

    def runs(self, count: int) -> list[tuple[int, int]]:
        """Cut the members into at most `count` runs of about equal size; return where each run begins and ends."""
        before = [self.bytes_before(border) for border in self.borders]
        cuts = {0, len(self)}
        if len(self.borders) - 1 > count:
            cuts |= self._even_cuts(0, len(self), count, before)
        else:
            parts = [max(0, last - first) for first, last in pairwise(before)]
            for number, runs in enumerate(shares(parts, count)):
                first, last = self.borders[number], self.borders[number + 1]
                cuts |= {first, last} | self._even_cuts(first, last, runs, [])
        places = sorted(cuts)
        return list(pairwise(places))

    def _even_cuts(self, first: int, last: int, runs: int, before: Sequence[int]) -> set[int]:
        """Return places that cut a part of the members into runs; places near a border move to it.

        Args:
            first: Place at which the part begins.
            last: Place at which it ends.
            runs: Number of runs.
            before: Bytes before each border; empty if no cut moves.
        """
        begin, end = self.bytes_before(first), self.bytes_before(last)
        run_bytes = (end - begin) / runs
        cuts = set()
        for number in range(1, runs):
            target = begin + run_bytes * number
            near = _nearest(before, target)
            if near is not None and abs(before[near] - target) <= run_bytes * SNAPPED_PART:
                cuts.add(self.borders[near])
            else:
                # A binary search asks for few offsets, each of which may be a read of the index file.
                cuts.add(bisect_left(range(last), target, first, last, key=self.bytes_before))
        return cuts


class AllMembers(Selection):
    """All members in archive order. Of a stored index, nothing is read here but some offsets."""

    def __init__(self, reader: Reader) -> None:
        self._index = reader.index
        blobs = [blob for blob in reader.blobs if blob.rows]
        self.rows = range(len(reader.index))
        self.ascends = True
        self._first_rows: list[int] = [blob.first_row for blob in blobs]
        self.borders = [*self._first_rows, len(self.rows)] if blobs else [0, 0]
        sizes = [self._archive_bytes(blob) for blob in blobs]
        self._before: list[int] = [0, *accumulate(sizes)]

    def _archive_bytes(self, blob: BlobRows) -> int:
        # The file of a compressed blob is smaller than its archive. For a remote index, the size of the file has to do,
        # because each look at a row could take a request.
        if self._index._is_remote:
            return blob.bytes
        return self._index._bounds_at(blob.first_row + blob.rows - 1)[1]

    def bytes_before(self, place: int) -> int:
        """Return the bytes before a place: of whole blobs, and of the archive before the member."""
        number = bisect_right(self.borders, place) - 1
        if number >= len(self._first_rows):
            return self._before[-1] if self._first_rows else 0
        first, size = self.borders[number], self._before[number + 1] - self._before[number]
        if place == first:
            return self._before[number]
        if self._index._is_remote:
            # An estimate, as if all members had one size: the offset itself could take a request.
            inside = size * (place - first) // (self.borders[number + 1] - first)
        else:
            inside = self._index._bounds_at(place)[0]
        return self._before[number] + inside


class SomeMembers(Selection):
    """Chosen members, or members in another order."""

    def __init__(self, reader: Reader, rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.rows = rows
        self.ascends = bool(np.all(rows[1:] > rows[:-1]))
        self.borders = _borders(reader, rows) if self.ascends and len(rows) else [0, len(rows)]
        self._before = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(sizes, out=self._before[1:])

    def bytes_before(self, place: int) -> int:
        """Return the bytes of the payloads before a place."""
        return int(self._before[place])


def select(reader: Reader, where: Where | None, order: RayOrder, seed: int) -> Selection:
    """Choose members, and put them in order.

    Args:
        reader: The blob or collection.
        where: Conditions; None: all members.
        order: Their order.
        seed: Seed of a random order.

    Raises:
        FactsMissingError: a condition needs facts that the index does not have.
        TypeError: a condition does not exist, or has a wrong type.
        ValueError: a condition has a wrong value.
    """
    if where is None and order == "archive":
        return AllMembers(reader)
    chosen = reader.index if where is None else narrowed(reader.index, where)
    rows = rows_as_array(origin_of(chosen).rows)
    sizes = chosen.offset_end - chosen.offset_start
    if order != "archive":
        places = _places(chosen, order, seed)
        rows, sizes = rows[places], sizes[places]
    return SomeMembers(reader, rows, sizes)


def _places(chosen: Index, order: RayOrder, seed: int) -> NDArray[np.int64]:
    """Return the places of members in another order."""
    if order == "random":
        return np.random.default_rng(seed).permutation(len(chosen))
    # imported here: without a table of names, pyarrow is not needed
    import pyarrow as pa
    import pyarrow.compute as pc

    from blobpack.index.tables.arrow import names_to_arrow

    names = names_to_arrow(chosen._columns, pa.large_binary())
    # stable: of members that share a name, the last one stays the last
    return np.asarray(pc.sort_indices(names), np.int64)


def _borders(reader: Reader, rows: NDArray[np.int64]) -> list[int]:
    """Return the places at which blobs begin among ascending rows, and the end."""
    begins = rows.searchsorted([blob.first_row for blob in reader.blobs])
    return sorted({0, len(rows), *begins.tolist()})


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """Return the number of runs for each of several parts, so that the largest run is as small as possible.

    Args:
        sizes: Bytes of each part.
        count: Number of all runs, at least that of the parts.
    """
    runs = [1] * len(sizes)
    largest: list[tuple[float, int]] = [(-size, number) for number, size in enumerate(sizes)]
    # The part whose runs are the largest gets the next run.
    heapq.heapify(largest)
    for _ in range(count - len(sizes)):
        number = largest[0][1]
        runs[number] += 1
        heapq.heapreplace(largest, (-sizes[number] / runs[number], number))
    return runs


def _nearest(ascending: Sequence[int], target: float) -> int | None:
    """Return the place of the number that is nearest to a target; None if there are no numbers."""
    if not ascending:
        return None
    place = bisect_left(ascending, target)
    near = range(max(0, place - 1), min(place + 1, len(ascending)))
    return min(near, key=lambda each: abs(ascending[each] - target))
