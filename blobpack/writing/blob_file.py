"""A local blob that is open to be changed: locked, written at places, and its errors name it."""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.output import translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer

WRITE_BYTES = 1 << 20


class BlobFile:
    """The blob, open for an append; its errors name it."""

    def __init__(self, fd: int, path: Path, url: str) -> None:
        self.fd, self.path, self.url = fd, path, url

    def write(self, data: Buffer, pos: int) -> None:
        """Write bytes at a place, all of them."""
        view = memoryview(data).cast("B")
        with translate_write_errors(self.url):
            while view:
                done = os.pwrite(self.fd, view, pos)
                view, pos = view[done:], pos + done

    def sync(self) -> None:
        """Wait until all that was written is on disk."""
        with translate_write_errors(self.url):
            os.fsync(self.fd)

    def cut(self, size: int) -> None:
        """End the file here."""
        with translate_write_errors(self.url):
            os.ftruncate(self.fd, size)

    def writer(self, pos: int) -> io.BufferedWriter:
        """Open it for writing on from a place."""
        return io.BufferedWriter(_Writer(self, pos), WRITE_BYTES)


class _Writer(io.RawIOBase):
    """Writes on from a place of a file."""

    def __init__(self, file: BlobFile, pos: int) -> None:
        super().__init__()
        self._file, self.pos = file, pos

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        """Write all of it."""
        size = memoryview(data).nbytes
        self._file.write(data, self.pos)
        self.pos += size
        return size


@contextmanager
def locked(path: Path, url: str) -> Iterator[BlobFile]:
    """Open a blob for an append, and keep others from it.

    Raises:
        BlobNotFoundError: there is no such file.
        StorageError: another append has it, or it can't be written.
    """
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
                return  # else it was replaced before it was locked
        finally:
            os.close(fd)


def lock(fd: int, url: str) -> None:
    """Keep others from changing a blob, for as long as the file is open.

    Raises:
        StorageError: another process is at work on it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise StorageError(f"{url}: another append or embedding is at work on it") from exc
    except OSError as exc:
        raise StorageError(f"{url}: can't be locked: {exc.strerror}") from exc


def write_durably(file: BinaryIO, position: int, block: bytes) -> None:
    """Write bytes at a place, and wait until they are on disk."""
    file.seek(position)
    file.write(block)
    file.flush()
    os.fsync(file.fileno())
