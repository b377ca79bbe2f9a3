"""Where splice reads the members that it copies: a local file, or a temporary file with parts of a remote blob."""

from __future__ import annotations

import errno
import os
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack._native.copying import copy_pieces
from blobpack.errors import BlobChangedError, StorageError
from blobpack.threads import map_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import Copied
    from blobpack.stores.base import Store

    Int64s = NDArray[np.int64]

SPLICE_FETCH_BYTES = 8 << 20
SPLICE_GAP_BYTES = 1 << 20
SPLICE_FETCHES_AT_ONCE = 8
SPLICE_FETCHES_AHEAD = 64  # they end in any order, and hold no bytes when they have

# what the kernel says when it can't copy between these files itself
CANT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


def is_long(size: int) -> bool:
    """Return whether a member is too long to hold in memory."""
    return size > SPLICE_FETCH_BYTES


class LocalSource:
    """A blob in a file."""

    def __init__(self, fd: int, url: str) -> None:
        self.fd, self._url = fd, url

    def bring(self, begin: Int64s, end: Int64s) -> None:
        """Have ranges in the file: they are."""

    def copy(self, pos: int, size: int, to_fd: int, to: int) -> None:
        """Copy a range of a long member."""
        copy_range(self.fd, pos, size, to_fd, to, self._url)


class RemoteSource:
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
def open_source(store: Store) -> Iterator[LocalSource | RemoteSource]:
    """Open a blob as a source; the temporary file of a remote one is removed when the block ends."""
    if store.fd is not None:
        yield LocalSource(store.fd, store.url)
        return
    import tempfile

    with tempfile.TemporaryFile() as file:
        yield RemoteSource(store, file.fileno())


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
        check_copied(copy_pieces(from_fd, to_fd, to + done, b"", *rest), url)


def check_copied(copied: Copied, url: str) -> None:
    """Raise the error of a native copy that failed.

    Raises:
        BlobChangedError: the source became shorter.
        StorageError: a read or a write failed.
    """
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
