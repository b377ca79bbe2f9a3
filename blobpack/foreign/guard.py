"""A store that compares the header before each payload with the index, in the request that reads the payload.

The rows of a foreign index may be those of another tar, and a few requests can't check all rows for a remote tar. But the
header of a member lies directly before its payload. So both are read by one request, and the row is checked then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from blobpack.foreign.headers import HEADERS_BYTES, check_header, read_before
from blobpack.stores.base import Store
from blobpack.tar.header import BLOCK

if TYPE_CHECKING:
    from blobpack.index.index import Index


class HeaderGuard(Store):
    """The store of a blob whose index is foreign, and was not compared with the whole blob.

    Attributes:
        base: The store that is read.
    """

    def __init__(self, base: Store, index: Index, where: str, format: str) -> None:
        """Guard a store.

        Args:
            base: The store of the blob, which this store closes.
            index: The members; check_bounds has found that none of them overlap.
            where: Path or URL of the index, for messages.
            format: Format of the index; empty for an offsets file.
        """
        import numpy as np

        self.base: Store = base
        self.url, self.location, self.size, self.version = (
            base.url,
            base.location,
            base.size,
            base.version,
        )
        self.is_remote, self.is_compressed = base.is_remote, base.is_compressed
        self.counters, self.cache = base.counters, base.cache
        self._index, self._where, self._format = index, where, format
        # an index may list members in any order
        order = np.argsort(index.offset_start, kind="stable")
        self._rows = order.tolist()
        self._starts = index.offset_start[order].tolist()
        self._ends = index.offset_end[order].tolist()
        # 1 for each row whose header was found to fit; two threads may both check a row, which does no harm
        self._fits = bytearray(len(index))

    def read_range(self, start: int, end: int) -> bytes:
        """Read bytes; see Store. The header of an empty payload is compared, too."""
        # An empty payload takes no request, so its header takes one of its own.
        if start == end:
            for place in range(bisect_left(self._starts, start), bisect_right(self._starts, start)):
                if not self._fits[place]:
                    self._check(place, read_before(self.base, start))
        return super().read_range(start, end)

    def fetch(self, start: int, end: int) -> bytes:
        """Read bytes and the headers of the members among them, and compare these headers.

        Raises:
            StaleIndexError: the index has other members there.
        """
        # of the members that begin before the range, only the last one or its hard links can reach into it
        first = bisect_left(
            self._starts, self._starts[max(0, bisect_right(self._starts, start) - 1)]
        )
        last = bisect_left(self._starts, end)
        new = [
            place
            for place in range(first, last)
            if not self._fits[place] and self._ends[place] > start
        ]
        # their headers come with the range; those of members that begin before it take a read of their own
        inside = [place for place in new if self._starts[place] >= start]
        for place in new[: len(new) - len(inside)]:
            self._check(place, read_before(self.base, self._starts[place]))
        # The headers of the first payload lie before the range that was asked for, so the range begins earlier.
        begin = start
        if inside:
            begin = max(0, min(start, self._starts[inside[0]] - HEADERS_BYTES))
        body = self.base.read_range(begin, end)
        for place in inside:
            payload = self._starts[place] - begin
            self._check(place, body[max(payload % BLOCK, payload - HEADERS_BYTES) : payload])
        return body[start - begin :]

    def _check(self, place: int, before: bytes) -> None:
        member = self._index[self._rows[place]]
        check_header(self.base, member, before, self._where, self._format)
        self._fits[place] = 1

    @property
    def stored_bytes(self) -> int:
        """Size of the stored blob in bytes."""
        return self.base.stored_bytes

    def uncompressed(self, offset: int) -> tuple[Store, int]:
        """Return where a byte is stored uncompressed; see Store."""
        return self.base.uncompressed(offset)

    def holds(self, start: int, end: int) -> bool:
        """Return whether bytes are in a cache; see Store."""
        return self.base.holds(start, end)

    def forget(self, start: int, end: int) -> bool:
        """Drop bytes from caches; see Store."""
        return self.base.forget(start, end)

    @property
    def is_replaced(self) -> bool:
        """Whether the blob's path leads to another version by now; see Store."""
        return self.base.is_replaced

    @property
    def is_grown(self) -> bool:
        """Whether the file may only have been appended to; see Store."""
        return self.base.is_grown

    def close(self) -> None:
        """Close the store of the blob."""
        super().close()
        self.base.close()
