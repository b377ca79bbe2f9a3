"""A local blob that is changed in place: it is locked, written at given positions, and its errors name it.

Strategy: an append or embedding locks its blob until it has ended. What replaces a blob, or writes a file beside it, shares
that lock for the moment, and locks the folder. So whatever is written beside a blob belongs to the file at its path. The
blob is locked first, then the folder: in the other order, two processes could wait for each other. A new blob is locked
before it takes its place, until its index file is there, too.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack.errors import BlobNotFoundError, StorageError
from blobpack.stores.descriptor import write_at
from blobpack.stores.local import CLOSED, LocalStore
from blobpack.stores.output import folder_locked, release, translate_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Buffer

WRITE_BYTES = 1 << 20


class BlobFile:
    """A local blob that is open for writing; its errors name it.

    Attributes:
        fd: Descriptor of the file; CLOSED once it is closed.
        path: Path of the file, without symbolic links.
        url: The file as the user named it.
    """

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

    def reserve(self, pos: int, size: int) -> None:
        """Allocate bytes from a position on, if the file system can; the file becomes longer if it ends before them.

        Raises:
            StorageError: the disk is full.
        """
        with translate_write_errors(self.url):
            try:
                if size:
                    os.posix_fallocate(self.fd, pos, size)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise

    def store(self) -> LocalStore:
        """Open the file as it is now for reading, whatever its path leads to."""
        return LocalStore(self.path, fd=self.fd)

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the file."""
        return _is_at(self.fd, self.path)

    @contextmanager
    def writer(self, pos: int) -> Iterator[BinaryIO]:
        """Open a buffered stream that writes from a position on. If the block fails, buffered bytes are discarded."""
        raw = _Writer(self, pos)
        with io.BufferedWriter(raw, WRITE_BYTES) as stream:
            try:
                yield cast("BinaryIO", stream)
                stream.flush()
            # A stream writes its buffer when it is closed, or else when the garbage collector finds it: over the bytes that
            # the caller has restored, or, once the blob is closed, to another file that was given its descriptor.
            except BaseException:
                raw.is_discarding = True
                raise


class _Writer(io.RawIOBase):
    """A raw stream that writes to a blob from a position on.

    Attributes:
        is_discarding: What is still to come is not written.
    """

    def __init__(self, file: BlobFile, pos: int) -> None:
        super().__init__()
        self._file, self._pos = file, pos
        self.is_discarding = False

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        """Write all of the data; return its bytes."""
        size = memoryview(data).nbytes
        if not self.is_discarding:
            self._file.write(data, self._pos)
            self._pos += size
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
        file = BlobFile(fd, path, url)
        try:
            lock(fd, url)
            if _is_at(fd, path):
                yield file
                return
        finally:
            # an exception may keep it, and the system gives the number to the next file that is opened
            file.fd = CLOSED
            # a mapped index may hold a duplicate of the descriptor, which shares the lock
            release(fd)
            # what must last was synced before, so an error of the system says nothing new
            with suppress(OSError):
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
        if not _has_locked(fd, fcntl.LOCK_EX):
            # Only an append or embedding holds the lock alone. The others share it, and end soon: see undisturbed.
            if not _has_locked(fd, fcntl.LOCK_SH):
                raise StorageError(f"{url}: another append or embedding is at work on it")
            fcntl.flock(fd, fcntl.LOCK_EX)
    except StorageError:
        raise
    except OSError as exc:
        raise StorageError(f"{url}: can't be locked: {exc.strerror}") from exc


def _has_locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def undisturbed(path: Path, *, wait: bool) -> Iterator[None]:
    """Keep other processes from changing or replacing a blob, and the files beside it, for a block.

    On a file system without locks, nobody is kept from it.

    Args:
        path: Path of the blob, without symbolic links. There may be no such file.
        wait: Wait until an append or embedding that is at work has ended.

    Raises:
        StorageError: an append or embedding is at work on the blob, unless `wait`.
    """
    while True:
        with ExitStack() as held:
            fd = held.enter_context(shared(path, wait=wait))
            held.enter_context(folder_locked(path.parent))
            # another process may have replaced the blob while this one waited
            if not os.access(path, os.R_OK) if fd is None else _is_at(fd, path):
                yield
                return


@contextmanager
def shared(path: Path, *, wait: bool, url: str = "") -> Iterator[int | None]:
    """Keep appends and embeddings off a file for a block; see undisturbed.

    Args:
        path: The file.
        wait: Wait until an append or embedding that is at work has ended.
        url: The name of the file in messages, if it is not at its own path yet.

    Returns:
        A descriptor of the file; None if there is no such file, or no right to read it.

    Raises:
        StorageError: an append or embedding is at work on the file, unless `wait`; or the file can't be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, PermissionError):
        yield None
        return
    except OSError as exc:
        raise StorageError(f"{url or path}: can't be locked: {exc.strerror}") from exc
    try:
        if not _can_share(fd):
            if not wait:
                raise StorageError(f"{path}: an append or embedding is at work on it")
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield fd
    finally:
        # also if a forked process has inherited the descriptor
        release(fd)
        # nothing was written through it
        with suppress(OSError):
            os.close(fd)


def _can_share(fd: int) -> bool:
    # on a file system without locks, nobody appends
    try:
        return _has_locked(fd, fcntl.LOCK_SH)
    except OSError:
        return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
