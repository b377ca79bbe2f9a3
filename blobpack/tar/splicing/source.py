"""The blobs that splice copies members from: a local file, or a temporary file with the parts of a remote blob.

The native code that finds headers and copies members reads from a file descriptor. So what it needs of a remote or
compressed blob is fetched into a temporary file first, a part at a time.
"""

from __future__ import annotations

import errno
import os
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack._native.copying import copy_pieces
from blobpack.errors import BlobChangedError, StorageError
from blobpack.look_ahead import map_ahead
from blobpack.stores.descriptor import write_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import Copied
    from blobpack.stores.base import Store

    Int64s = NDArray[np.int64]

SPLICE_FETCH_BYTES = 8 << 20
SPLICE_GAP_BYTES = 1 << 20
# 8 fetches of 8 MiB hold 64 MiB in memory at most
SPLICE_FETCHES_AT_ONCE = 8
# Far more than run at once, so that a slow fetch does not stop the others: a fetch that is done has written its bytes
# to the file, and holds none in memory.
SPLICE_FETCHES_AHEAD = 64

# Errors of copy_file_range(2) after which a plain copy may succeed: the files are on two file systems (EXDEV), the file
# system has no such copy (EINVAL, EOPNOTSUPP), the kernel has no such call (ENOSYS), a sandbox forbids it (EPERM), or
# a file is swap space (ETXTBSY).
CANT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY)


def is_long(size: int) -> bool:
    """Return whether a member is too long to be fetched whole: it is copied without the temporary file."""
    return size > SPLICE_FETCH_BYTES


class LocalSource:
    """A blob in a local file."""

    def __init__(self, fd: int, url: str) -> None:
        self.fd, self._url = fd, url

    def bring(self, begin: Int64s, end: Int64s) -> None:
        """Do nothing: all bytes are in the file already."""

    def copy(self, pos: int, size: int, to_fd: int, to: int) -> None:
        """Copy a range of a long member to the new blob."""
        copy_range(self.fd, pos, size, to_fd, to, self._url)


class RemoteSource:
    """A blob that is remote or compressed; its bytes are fetched into a temporary file as they are needed."""

    def __init__(self, store: Store, fd: int) -> None:
        self._store, self.fd = store, fd

    def bring(self, begin: Int64s, end: Int64s) -> None:
        """Fetch ranges into the file, at the offsets that they have in the blob, and drop what was there before."""
        # Cutting to nothing frees the disk space of the part before. Then the file gets the blob's size as one hole,
        # so that offsets in it are those in the blob.
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

    def _fetch(self, bounds: tuple[int, int]) -> None:
        start, end = bounds
        write_all(self.fd, self._store.read_range(start, end), start, self._store.url)

    def copy(self, pos: int, size: int, to_fd: int, to: int) -> None:
        """Copy a range of a long member to the new blob; bring has not fetched it."""
        for start in range(pos, pos + size, SPLICE_FETCH_BYTES):
            piece = self._store.read_range(start, min(start + SPLICE_FETCH_BYTES, pos + size))
            write_all(to_fd, piece, to + start - pos, self._store.url)


def _fetches(begin: Int64s, end: Int64s) -> Iterator[tuple[int, int]]:
    """Merge ranges that are close together, and cut the result into fetches."""
    import numpy as np

    order = np.argsort(begin, kind="stable")
    # An index given by a user may have payloads that overlap, or lie within another one. The running maximum keeps a
    # short range from ending a long one that began before it.
    begin, end = begin[order], np.maximum.accumulate(end[order])
    breaks = np.flatnonzero(begin[1:] > end[:-1] + SPLICE_GAP_BYTES) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(begin)], strict=True):
        for start in range(int(begin[first]), int(end[last - 1]), SPLICE_FETCH_BYTES):
            yield start, min(start + SPLICE_FETCH_BYTES, int(end[last - 1]))


@contextmanager
def open_source(store: Store) -> Iterator[LocalSource | RemoteSource]:
    """Open a blob as a source; the temporary file of a remote one is removed when the block ends."""
    fd = store.fd
    if fd is not None:
        yield LocalSource(fd, store.url)
        return
    import tempfile

    with tempfile.TemporaryFile() as file:
        yield RemoteSource(store, file.fileno())


def copy_range(from_fd: int, pos: int, size: int, to_fd: int, to: int, url: str) -> None:
    """Copy a range from one file to another, inside the kernel if it can.

    On file systems such as Btrfs and XFS, the two files then share the blocks on disk.

    Args:
        from_fd: The source, open for reading.
        pos: First byte of the range in the source.
        size: Bytes to copy.
        to_fd: The new blob, open for writing.
        to: Where the range goes in the new blob.
        url: The source, for messages.

    Raises:
        BlobChangedError: the source ends before the range does.
        StorageError: the range can't be read or written.
    """
    done = 0
    try:
        while done < size:
            copied = os.copy_file_range(from_fd, to_fd, size - done, pos + done, to + done)
            # 0 means the end of the source, or a file system that can't do it: Linux 5.3 to 5.18 reported success
            # without copying on some, says copy_file_range(2). The plain copy below finds out which.
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
        raise BlobChangedError(f"{url}: the file became shorter while it was copied")
    if copied.read_error or copied.write_error:
        doing = "read" if copied.read_error else "copied"
        reason = os.strerror(copied.read_error or copied.write_error)
        raise StorageError(f"{url}: can't be {doing}: {reason}")


def write_all(fd: int, data: bytes, pos: int, url: str) -> None:
    """Write all of some bytes of a blob to a file, at a position.

    Raises:
        StorageError: the bytes can't be written.
    """
    try:
        write_at(fd, data, pos)
    except OSError as exc:
        raise StorageError(f"{url}: can't be copied: {exc.strerror}") from exc
