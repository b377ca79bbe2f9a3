"""Members of one blob copied behind those of another: whole groups, headers and all, as far as they go.

While the pieces of one part are copied, the headers of the next part are found.
"""

from __future__ import annotations

import errno
import os
from array import array
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from blobpack._native.copying import copy_pieces
from blobpack._native.splice import encode_headers, find_groups
from blobpack.errors import BlobChangedError, StorageError
from blobpack.tar.header import BLOCK
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import Copied
    from blobpack.columns import Columns
    from blobpack.stores.base import Store

    Int64s = NDArray[np.int64]
    from blobpack.model import ProgressCallback

SPLICE_PART_BYTES = 64 << 20  # of the source, found and copied at a time
KERNEL_COPY_BYTES_MIN = 256 << 10  # a range of this size is copied by the kernel alone
SPLICE_FETCH_BYTES = 8 << 20
SPLICE_GAP_BYTES = 1 << 20
SPLICE_FETCHES_AT_ONCE = 8
SPLICE_FETCHES_AHEAD = 64  # they end in any order, and hold no bytes when they have

# what the kernel says when it can't copy between these files itself
CANT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


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


class LocalSource:
    """A blob in a file."""

    def __init__(self, fd: int, url: str) -> None:
        self.fd, self._url = fd, url

    def bring(self, begin: Int64s, end: Int64s) -> None:
        """Have ranges in the file: they are."""

    def copy(self, pos: int, size: int, to_fd: int, to: int) -> None:
        """Copy a range of a long member."""
        copy_range(self.fd, pos, size, to_fd, to, self._url)


class DistantSource:
    """A blob that is elsewhere, or compressed: what is needed of it is brought to a temporary file."""

    def __init__(self, store: Store, fd: int) -> None:
        self._store, self.fd = store, fd

    def bring(self, begin: Int64s, end: Int64s) -> None:
        """Have ranges in the file, at their own offsets, and nothing else."""
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, self._store.size)
        fetches = _fetches(begin, end)
        for _ in map_ahead(
            self._fetch,
            fetches,
            threads=SPLICE_FETCHES_AT_ONCE,
            most=SPLICE_FETCHES_AHEAD,
            name="splice",
        ):
            pass

    def _fetch(self, wanted: tuple[int, int]) -> None:
        start, end = wanted
        write_all(self.fd, self._store.read_range(start, end), start, self._store.url)

    def copy(self, pos: int, size: int, to_fd: int, to: int) -> None:
        """Copy a range of a long member, which was not brought."""
        for start in range(pos, pos + size, SPLICE_FETCH_BYTES):
            piece = self._store.read_range(start, min(start + SPLICE_FETCH_BYTES, pos + size))
            write_all(to_fd, piece, to + start - pos, self._store.url)


def _fetches(begin: Int64s, end: Int64s) -> Iterator[tuple[int, int]]:
    """Join ranges that lie close together, and cut them into fetches."""
    import numpy as np

    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    breaks = np.flatnonzero(begin[1:] > end[:-1] + SPLICE_GAP_BYTES) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(begin)], strict=True):
        for start in range(int(begin[first]), int(end[last - 1]), SPLICE_FETCH_BYTES):
            yield start, min(start + SPLICE_FETCH_BYTES, int(end[last - 1]))


@contextmanager
def _source(store: Store) -> Iterator[LocalSource | DistantSource]:
    if store.fd is not None:
        yield LocalSource(store.fd, store.url)
        return
    import tempfile

    with tempfile.TemporaryFile() as file:
        yield DistantSource(store, file.fileno())


def splice(
    store: Store,
    index: Columns,
    members: Columns,
    to_fd: int,
    offsets: Offsets,
    progress: ProgressCallback | None = None,
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
    with _source(store) as source:
        _Splice(source, store, index, members, to_fd, offsets, progress).run()


class _Splice:
    """What is copied, from where, to where."""

    def __init__(
        self,
        source: LocalSource | DistantSource,
        store: Store,
        index: Columns,
        members: Columns,
        to_fd: int,
        offsets: Offsets,
        progress: ProgressCallback | None,
    ) -> None:
        self.source, self.store, self.members = source, store, members
        self.to_fd, self.offsets, self.progress = to_fd, offsets, progress
        self.before, self.padded_end = _extents(index, members)

    def run(self) -> None:
        """Copy all of them."""
        parts = list(_parts(self.before, self.padded_end))
        if isinstance(self.source, DistantSource):
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
        return last - first == 1 and int(self.padded_end[first]) - start > SPLICE_FETCH_BYTES

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
                _judge(copied, self.store.url)
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


# Copying


def copy_range(from_fd: int, pos: int, size: int, to_fd: int, to: int, url: str) -> None:
    """Copy a range between files: by the kernel where it can, sharing the disk's blocks where those can be.

    Raises:
        BlobChangedError: the source ends before.
        StorageError: it can't be copied.
    """
    done = 0
    try:
        while done < size:
            copied = os.copy_file_range(from_fd, to_fd, size - done, pos + done, to + done)
            if copied == 0:
                break
            done += copied
    except OSError as exc:
        if exc.errno not in CANT_COPY:
            raise StorageError(f"{url}: can't be copied: {exc.strerror}") from exc
    if done < size:
        rest = array("q", [pos + done]), array("q", [size - done])
        _judge(copy_pieces(from_fd, to_fd, to + done, b"", *rest), url)


def _judge(copied: Copied, url: str) -> None:
    if copied.source_ended:
        raise BlobChangedError(f"{url}: the file was cut while it was copied")
    if copied.read_error or copied.write_error:
        doing = "read" if copied.read_error else "copied"
        reason = os.strerror(copied.read_error or copied.write_error)
        raise StorageError(f"{url}: can't be {doing}: {reason}")


def write_all(fd: int, data: bytes, pos: int, url: str) -> None:
    """Write bytes of a blob at a place, all of them.

    Raises:
        StorageError: they can't be written.
    """
    view = memoryview(data)
    try:
        while view:
            done = os.pwrite(fd, view, pos)
            view, pos = view[done:], pos + done
    except OSError as exc:
        raise StorageError(f"{url}: can't be copied: {exc.strerror}") from exc
