"""Positions of members in the blobs that they are copied from, and in the blob that they are copied to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack.tar.header import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns

    Int64s = NDArray[np.int64]


class Offsets:
    """The offsets of the members in the new blob, collected while members are copied.

    Attributes:
        start: (members,) int64, offset_start of each member; valid up to `count`.
        size: (members,) int64, payload bytes of each member; valid up to `count`.
        count: Members copied so far.
        pos: Bytes of the new blob so far; the next member goes there.
        new_headers: Members for which new headers were made.
    """

    def __init__(self, members: int) -> None:
        import numpy as np

        self.start = np.empty(members, np.int64)
        self.size = np.empty(members, np.int64)
        self.count = 0
        self.pos = 0
        self.new_headers = 0

    def put_into(self, names: Columns) -> Columns:
        """Return the table of the new blob: these offsets, and all other columns of `names`."""
        start, end = self.start, self.start + self.size
        return replace(
            names, offset_start=start.data.toreadonly(), offset_end=end.data.toreadonly()
        )


class Extents:
    """Finds the bytes of a blob within which a member and its headers lie.

    The headers begin somewhere behind the end of the member before. Between them may be folders and symbolic links,
    which are not in the index.
    """

    def __init__(self, index: Columns) -> None:
        """Use an index of all members of the blob, in any order."""
        import numpy as np

        start = np.asarray(index.offset_start)
        padded = padded_to(np.asarray(index.offset_end), start)
        # an index made from an offsets file may be in another order than the archive
        if not bool((start[1:] >= start[:-1]).all()):
            order = np.argsort(start, kind="stable")
            start, padded = start[order], padded[order]
        self._start = start
        # The running maximum, because an index given by a user may have payloads that overlap.
        self._ends = np.concatenate([zeros(1), np.maximum.accumulate(padded)])

    def of(self, members: Columns) -> tuple[Int64s, Int64s]:
        """Compute the extents of (k,) members, in any order.

        Returns:
            before: (k,) int64, where the member before ends with its padding, or 0.
            padded_end: (k,) int64, where the member ends with its padding.
        """
        import numpy as np

        start, end = np.asarray(members.offset_start), np.asarray(members.offset_end)
        before = self._ends[np.searchsorted(self._start, start)]
        # A wrong index may leave no room for a header. Then the search starts one block before the payload, and finds
        # that the index is not this blob's.
        return np.minimum(before, np.maximum(start - BLOCK, 0)), padded_to(end, start)


def zeros(count: int) -> Int64s:
    """Return zeros, (count,) int64."""
    import numpy as np

    return np.zeros(count, np.int64)


def padded_to(end: Int64s, start: Int64s) -> Int64s:
    """Compute where payloads end with their padding: payloads are padded to whole blocks of 512 bytes."""
    return start + (end - start + BLOCK - 1 & -BLOCK)
