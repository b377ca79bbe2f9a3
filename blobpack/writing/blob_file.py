"""A local blob that is changed in place: it is locked, written at given positions, and its errors name it."""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.descriptor import write_at
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer

WRITE_BYTES = 1 << 20


class BlobFile:
    """A local blob that is open for writing; its errors name it."""

    def __init__(self, fd: int, path: Path, url: str) -> None:
        self.fd, self.path, self.url = fd, path, url

    def write(self, data: Buffer, pos: int) -> None:
        """Write all of some bytes at a position.

        Raises:
            StorageError: the bytes can't be written.
        """
        with translate_write_errors(self.url):
            write_at(self.fd, data, pos)

    def sync(self) -> None:
        """Wait until everything that was written is on disk."""
        with translate_write_errors(self.url):
            os.fsync(self.fd)

    def cut(self, size: int) -> None:
        """Cut the file to a size."""
        with translate_write_errors(self.url):
            os.ftruncate(self.fd, size)

    def writer(self, pos: int) -> io.BufferedWriter:
        """Return a buffered stream that writes from a position on."""
        return io.BufferedWriter(_Writer(self, pos), WRITE_BYTES)


class _Writer(io.RawIOBase):
    """A raw stream that writes to a blob from a position on."""

    def __init__(self, file: BlobFile, pos: int) -> None:
        super().__init__()
        self._file, self.pos = file, pos

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        """Write all of the data; return its bytes."""
        size = memoryview(data).nbytes
        self._file.write(data, self.pos)
        self.pos += size
        return size


@contextmanager
def locked(path: Path, url: str) -> Iterator[BlobFile]:
    """Open a blob for writing, locked until the block ends.

    Raises:
        BlobNotFoundError: there is no such file.
        StorageError: another append or embedding is at work on the blob, or it can't be written.
    """
    # The lock is on the open file, not on its path. If a pack replaced the blob between open and lock, the lock is on a
    # file that has no name any more: then the new file is opened.
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{url}: no such file") from exc
        except OSError as exc:
            raise StorageError(f"{url}: can't be written: {exc.strerror}") from exc
        try:
            lock(fd, url)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(fd)):
                yield BlobFile(fd, path, url)
                return
        finally:
            os.close(fd)


def lock(fd: int, url: str) -> None:
    """Lock a blob against other appends and embeddings, until the file is closed.

    Raises:
        StorageError: another append or embedding is at work on the blob, or the file system has no locks.
    """
    # flock(2), not the locks of fcntl(2): those end when the process closes any descriptor of the file, and an append
    # opens and closes the blob as a store while it holds the lock. LOCK_NB, because the second of two appends is refused
    # at once (docs/guarantees.md).
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise StorageError(f"{url}: another append or embedding is at work on it") from exc
    except OSError as exc:
        raise StorageError(f"{url}: can't be locked: {exc.strerror}") from exc
