"""Members of one blob copied behind those of another: whole groups, headers and all, as far as they go.

While the pieces of one part are copied, the headers of the next part are found.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack._native.copying import copy_pieces
from blobpack._native.splice import encode_headers, find_groups
from blobpack.tar.header import BLOCK
from blobpack.tar.splice_source import RemoteSource, check_copied, copy_range, is_long, open_source
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns
    from blobpack.model import Progress
    from blobpack.stores.base import Store
    from blobpack.tar.splice_source import LocalSource

    Int64s = NDArray[np.int64]

SPLICE_PART_BYTES = 64 << 20  # of the source, found and copied at a time
KERNEL_COPY_BYTES_MIN = 256 << 10  # a range of this size is copied by the kernel alone


class Offsets:
    """Where the members come to lie in the new blob."""

    def __init__(self, members: int) -> None:
        import numpy as np

        self.start = np.empty(members, np.int64)
        self.size = np.empty(members, np.int64)
        self.count = 0
        self.pos = 0
        self.new_headers = 0

    def put_into(self, names: Columns) -> Columns:
        """Make the table of the new blob."""
        start, end = self.start, self.start + self.size
        return replace(
            names, offset_start=start.data.toreadonly(), offset_end=end.data.toreadonly()
        )


def splice(
    store: Store,
    index: Columns,
    members: Columns,
    to_fd: int,
    offsets: Offsets,
    progress: Progress | None = None,
) -> None:
    """Copy members behind those that are there, in the order given.

    Args:
        store: Their blob.
        index: All members of that blob.
        members: Those to copy.
        to_fd: The new blob.
        offsets: Where its members lie; these are added.
        progress: progress(members, bytes), called now and then.

    Raises:
        BlobChangedError: the index is not the blob's, or the blob was cut.
        StorageError: the blob can't be read, or the new one not written.
    """
    with open_source(store) as source:
        _Splice(source, store, index, members, to_fd, offsets, progress).run()


class _Splice:
    """What is copied, from where, to where."""

    def __init__(
        self,
        source: LocalSource | RemoteSource,
        store: Store,
        index: Columns,
        members: Columns,
        to_fd: int,
        offsets: Offsets,
        progress: Progress | None,
    ) -> None:
        self.source, self.store, self.members = source, store, members
        self.to_fd, self.offsets, self.progress = to_fd, offsets, progress
        self.before, self.padded_end = _extents(index, members)

    def run(self) -> None:
        """Copy all of them."""
        parts = list(_parts(self.before, self.padded_end))
        if isinstance(self.source, RemoteSource):
            for first, last in parts:
                self._copy(first, last, self._find(first, last))
            return
        with closing(
            map_ahead(lambda part: self._find(*part), parts, threads=1, most=2, name="splice")
        ) as found:
            for (first, last), groups in zip(parts, found, strict=True):
                self._copy(first, last, groups)

    def _is_long(self, first: int, last: int) -> bool:
        """Tell whether a part is one member that is too long to have in memory."""
        start = self.members.offset_start[first]
        return last - first == 1 and is_long(int(self.padded_end[first]) - start)

    def _find(self, first: int, last: int) -> Int64s:
        """Find where the groups of the rows first:last start; -1 where a header must be made."""
        import numpy as np

        part = self.members.slice(first, last)
        long = self._is_long(first, last)
        brought_end = np.asarray(part.offset_start) if long else self.padded_end[first:last]
        self.source.bring(self.before[first:last], brought_end)
        return np.asarray(
            find_groups(
                self.source.fd,
                self.store.size,
                self.store.url,
                self.before[first:last].data,
                part.offset_start,
                part.offset_end,
                part.names,
                part.name_bounds,
            )
        )

    def _copy(self, first: int, last: int, groups: Int64s) -> None:
        """Copy the rows first:last, and note where they come to lie."""
        import numpy as np

        part = self.members.slice(first, last)
        start, padded_end = np.asarray(part.offset_start), self.padded_end[first:last]
        made = np.flatnonzero(groups < 0)
        headers, header_bounds = _headers_of(part.take(made)) if len(made) else (b"", _zeros(1))
        begin = groups.copy()
        begin[made] = start[made]
        header_bytes = start - begin
        header_bytes[made] = np.diff(header_bounds)
        group_bytes = header_bytes + padded_end - start
        at = self.offsets.pos + np.cumsum(group_bytes) - group_bytes
        rows = slice(self.offsets.count, self.offsets.count + len(part))
        self.offsets.start[rows] = at + header_bytes
        self.offsets.size[rows] = np.asarray(part.offset_end) - start
        pieces, sizes = _pieces(begin, padded_end - begin, made, header_bounds)
        self._copy_pieces(headers, pieces, sizes, long=self._is_long(first, last))
        self.offsets.count += len(part)
        self.offsets.new_headers += len(made)
        if self.progress:
            self.progress(self.offsets.count, self.offsets.pos)

    def _copy_pieces(
        self, headers: bytes | memoryview, pieces: Int64s, sizes: Int64s, *, long: bool
    ) -> None:
        """Write pieces: the long ones by the kernel, those between them natively."""
        import numpy as np

        copy = self.source.copy if long else self._copy_brought
        whole = np.flatnonzero((sizes >= KERNEL_COPY_BYTES_MIN) & (pieces >= 0)).tolist()
        first = 0
        for i in [*whole, len(pieces)]:
            short = slice(first, i)
            first = i + 1
            if short.stop > short.start:
                copied = copy_pieces(
                    self.source.fd,
                    self.to_fd,
                    self.offsets.pos,
                    headers,
                    pieces[short].data,
                    sizes[short].data,
                )
                check_copied(copied, self.store.url)
                self.offsets.pos += int(sizes[short].sum())
            if i < len(pieces):
                size = int(sizes[i])
                copy(int(pieces[i]), size, self.to_fd, self.offsets.pos)
                self.offsets.pos += size

    def _copy_brought(self, pos: int, size: int, to_fd: int, to: int) -> None:
        copy_range(self.source.fd, pos, size, to_fd, to, self.store.url)


def _zeros(count: int) -> Int64s:
    import numpy as np

    return np.zeros(count, np.int64)


def _padded(end: Int64s, start: Int64s) -> Int64s:
    """Compute where payloads end with their padding."""
    return start + (end - start + BLOCK - 1 & -BLOCK)


def _extents(index: Columns, members: Columns) -> tuple[Int64s, Int64s]:
    """Compute between which bytes each member and its headers lie, by the other members of its blob.

    Args:
        index: All members of the blob.
        members: (k,) of them.

    Returns:
        before: (k,) int64, where the member before ends, or 0.
        padded_end: (k,) int64, where the member ends with its padding.
    """
    import numpy as np

    start, end = np.asarray(members.offset_start), np.asarray(members.offset_end)
    all_start = np.asarray(index.offset_start)
    all_padded = _padded(np.asarray(index.offset_end), all_start)
    if not bool((all_start[1:] >= all_start[:-1]).all()):
        order = np.argsort(all_start, kind="stable")
        all_start, all_padded = all_start[order], all_padded[order]
    ends = np.concatenate([_zeros(1), np.maximum.accumulate(all_padded)])
    before = ends[np.searchsorted(all_start, start)]
    return np.minimum(before, np.maximum(start - BLOCK, 0)), _padded(end, start)


def _parts(before: Int64s, padded_end: Int64s) -> Iterator[tuple[int, int]]:
    """Part rows into runs of about SPLICE_PART_BYTES; a longer member stands alone."""
    import numpy as np

    sizes = padded_end - before
    total = np.cumsum(sizes)
    first, count = 0, len(sizes)
    while first < count:
        base = int(total[first - 1]) if first else 0
        last = int(np.searchsorted(total, base + SPLICE_PART_BYTES, "right"))
        last = max(last, first + 1)
        yield first, last
        first = last


def _headers_of(columns: Columns) -> tuple[memoryview, Int64s]:
    """Encode members' headers anew."""
    import numpy as np

    sizes = np.asarray(columns.offset_end) - np.asarray(columns.offset_start)
    mtimes = _zeros(len(columns)).data if columns.mtime is None else columns.mtime
    headers, bounds = encode_headers(columns.names, columns.name_bounds, sizes.data, mtimes)
    return headers, np.asarray(bounds)


def _pieces(
    begin: Int64s, sizes: Int64s, made: Int64s, header_bounds: Int64s
) -> tuple[Int64s, Int64s]:
    """List the ranges to copy, in their order, joined where one begins where another ends.

    Args:
        begin: (k,) where each member's range begins in its source.
        sizes: (k,) its bytes.
        made: (m,) the rows before which an encoded header goes.
        header_bounds: (m + 1,) where each of these lies.

    Returns:
        pieces: (n,) int64, as copy_pieces takes them.
        sizes: (n,) int64.
    """
    import numpy as np

    pieces = np.insert(begin, made, ~header_bounds[:-1])
    sizes = np.insert(sizes, made, np.diff(header_bounds))
    filled = sizes > 0
    if not bool(filled.all()):
        pieces, sizes = pieces[filled], sizes[filled]
    first = np.ones(len(pieces), bool)
    first[1:] = (pieces[1:] != pieces[:-1] + sizes[:-1]) | (pieces[1:] < 0) | (pieces[:-1] < 0)
    firsts = np.flatnonzero(first)
    return pieces[firsts], np.add.reduceat(sizes, firsts) if len(firsts) else sizes
