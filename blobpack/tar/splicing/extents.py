"""Positions of members in the blobs that they are copied from, and in the blob that they are copied to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from blobpack.tar.header import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns
    from blobpack.index.index import Index

    Int64s = NDArray[np.int64]


class Offsets:
    """The offsets of the members in the new blob, collected while members are copied.

    Attributes:
        start: (n,) int64, offset_start of each member of the latest table; valid for those copied so far.
        size: (n,) int64, payload bytes of each member of that table; valid for those copied so far.
        count: Members copied so far, those of earlier tables included.
        pos: Bytes of the new blob so far; the next member goes there.
        new_headers: Members for which new headers were made.
    """

    def __init__(self) -> None:
        self.count = self.pos = self.new_headers = 0
        self.expect(0)

    def expect(self, members: int) -> None:
        """Make room for the members of the next table, and drop the offsets of the table before."""
        import numpy as np

        self.start = np.empty(members, np.int64)
        self.size = np.empty(members, np.int64)
        self._first = self.count

    def note(self, start: Int64s, size: Int64s) -> None:
        """Note where the next members are in the new blob."""
        first = self.count - self._first
        rows = slice(first, first + len(start))
        self.start[rows] = start
        self.size[rows] = size
        self.count += len(start)

    def put_into(self, names: Columns) -> Columns:
        """Return the latest table as that of the new blob: these offsets, and all other columns of `names`."""
        start, end = self.start, self.start + self.size
        return replace(
            names, offset_start=start.data.toreadonly(), offset_end=end.data.toreadonly()
        )


class _Ends(NamedTuple):
    """Members in the order of their starts.

    Attributes:
        start: (n,) int64, offset_start of each member.
        end: (n + 1,) int64, the largest padded end of all members before each one, and of all.
    """

    start: Int64s
    end: Int64s

    @classmethod
    def of(cls, start: Int64s, padded: Int64s, before: int) -> _Ends:
        """Make the ends of members whose starts ascend; the members before them end at `before`."""
        import numpy as np

        # The running maximum, because an index given by a user may have payloads that overlap.
        return cls(start, np.maximum.accumulate(np.concatenate([zeros(1) + before, padded])))


class _Part(NamedTuple):
    """Rows of an index that are read together.

    Attributes:
        first: The first row.
        last: The end of the rows.
        start: offset_start of the first member.
        before: The largest padded end of all members in parts before.
    """

    first: int
    last: int
    start: int
    before: int


class Extents:
    """Finds the bytes of a blob within which a member and its headers lie.

    The headers begin somewhere behind the end of the member before. Between them may be folders and symbolic links,
    which are not in the index.

    Strategy: read the index once, and note for each part of it where the members before it end. Parts that are asked for
    are read again. So an index of any number of members takes little memory.
    """

    def __init__(self, index: Index) -> None:
        """Use an index of all members of the blob, in any order."""
        import numpy as np

        self._index = index
        self._parts: list[_Part] = []
        self._kept: tuple[int, _Ends] | None = None
        row = last_start = before = 0
        for columns in index._pieces():
            if not len(columns):
                continue
            start, padded = _places(columns)
            # an index made from an offsets file may be in another order than the archive
            if start[0] < last_start or not bool((start[1:] >= start[:-1]).all()):
                start, padded = _places(index._columns)
                order = np.argsort(start, kind="stable")
                self._parts = [_Part(0, len(index), 0, 0)]
                self._kept = 0, _Ends.of(start[order], padded[order], 0)
                return
            self._parts.append(_Part(row, row + len(columns), int(start[0]), before))
            row, last_start = row + len(columns), int(start[-1])
            before = max(before, int(padded.max()))

    def of(self, members: Columns) -> tuple[Int64s, Int64s]:
        """Compute the extents of (k,) members, in any order.

        Returns:
            before: (k,) int64, where the member before ends with its padding, or 0.
            padded_end: (k,) int64, where the member ends with its padding.
        """
        import numpy as np

        start, padded_end = _places(members)
        # The first part whose members can have this start: of members with one start, such as hard links, none is before
        # the others.
        numbers = np.searchsorted([part.start for part in self._parts], start) - 1
        order = np.argsort(numbers, kind="stable")
        before = zeros(len(members))
        for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(rows) and self._parts:
                ends = self._ends(max(int(numbers[rows[0]]), 0))
                before[rows] = ends.end[np.searchsorted(ends.start, start[rows])]
        # A wrong index may leave no room for a header. Then the search starts one block before the payload, and finds
        # that the index is not this blob's.
        return np.minimum(before, np.maximum(start - BLOCK, 0)), padded_end

    def _ends(self, number: int) -> _Ends:
        """Read a part again, unless it is the one that was read last."""
        if self._kept is None or self._kept[0] != number:
            part = self._parts[number]
            places = _places(self._index._columns_of(part.first, part.last))
            self._kept = number, _Ends.of(*places, part.before)
        return self._kept[1]


def _places(columns: Columns) -> tuple[Int64s, Int64s]:
    """Return where payloads start, and where they end with their padding."""
    import numpy as np

    start = np.asarray(columns.offset_start)
    return start, padded_to(np.asarray(columns.offset_end), start)


def zeros(count: int) -> Int64s:
    """Return zeros, (count,) int64."""
    import numpy as np

    return np.zeros(count, np.int64)


def padded_to(end: Int64s, start: Int64s) -> Int64s:
    """Compute where payloads end with their padding: payloads are padded to whole blocks of 512 bytes."""
    return start + (end - start + BLOCK - 1 & -BLOCK)
