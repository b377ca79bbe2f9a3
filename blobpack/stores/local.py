"""A blob in a local file.

Strategy: native code reads the file by pread, which has no file position that threads would share, and maps a file that
is read often (`_native/stores/local_reads.pyx`). What native code can't read is read here again, to raise the right error.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
from typing import TYPE_CHECKING

from blobpack._native.cached_read import read_cached
from blobpack._native.local_reads import LocalFile
from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import Store
from blobpack.stores.descriptor import Descriptor, read_at
from blobpack.stores.location import Location
from blobpack.threads import processor_count
from blobpack.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED = -1
# threads that read a batch from memory; more wait for the same memory
THREADS_MAX = 8


class LocalStore(Store):
    """A blob in a file.

    The file stays open until the store is closed and the last read that was under way then has ended. If the file is
    replaced by a rename, reads still return the old bytes. If it is truncated, reads behind its new end raise
    BlobChangedError. Bytes overwritten in place are not noticed, because comparing the modification time at each read
    would cost as much as the read.
    """

    # here, because another thread may count the open stores before __init__ has run
    _fd: int = CLOSED

    def __init__(
        self, path: str | os.PathLike[str], *, version: str | None = None, fd: int | None = None
    ) -> None:
        """Open the file.

        Args:
            path: Path of the file.
            version: Version that the file must have; None accepts any.
            fd: A descriptor of the file, if it is open already: the path may lead to another file by now. The caller
                closes it.

        Raises:
            BlobNotFoundError: there is no such file.
            BlobChangedError: the file is another version.
            StorageError: the file can't be opened, or is not a plain file.
        """
        self.location = path if isinstance(path, Location) else Location(os.fspath(path), "local")
        self.url = self.location.path
        self.size = 0
        try:
            # Absolute, for pickling: the process that unpickles may have another working directory.
            self._path = os.path.abspath(self.url)  # noqa: PTH100 (keeps links)
            # Without O_NONBLOCK, opening a FIFO would wait for a writer.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            self._fd = Descriptor(os.open(self.url, flags) if fd is None else os.dup(fd))
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{self.url}: no such file") from exc
        except OSError as exc:
            raise StorageError(f"{self.url}: can't be opened: {_reason(exc)}") from exc
        # From the descriptor, not the path: another file may have taken the path since it was opened.
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise StorageError(f"{self.url}: not a plain file")
        self.size = found.st_size
        self.native_file = LocalFile(self._fd, self.size, processor_count(THREADS_MAX))
        self.version = version_of(found)
        if version is not None and version != self.version:
            self.close()
            raise BlobChangedError(f"{self.url}: the file is no longer the one that was opened")

    @property
    def fd(self) -> int | None:
        """Descriptor of the open file; None once it is closed."""
        # Read once: another thread may close the store between two looks.
        fd = self._fd
        return None if fd == CLOSED else fd

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end."""
        file = self.native_file
        found = None if file is None else file.read(start, end)
        return self._fetch_slowly(start, end) if found is None else found

    def _fetch_slowly(self, start: int, end: int) -> bytes:
        """Read bytes that native code could not read, or raise the error that says why."""
        # The local name keeps the file open until the end of this function, whatever another thread does.
        fd = self._fd
        try:
            data = os.pread(fd, end - start, start)
            if len(data) == end - start:
                return data
            data += read_at(fd, start + len(data), end)
            if len(data) == end - start:
                return data
            found = os.fstat(fd).st_size
        except OSError as exc:
            # Another thread closed the store after read_range had looked.
            if fd == CLOSED:
                self._raise_unreadable(start, end)
            raise StorageError(f"{self.url}: can't read at byte {start}: {exc.strerror}") from exc
        raise BlobChangedError(
            f"{self.url}: can't read bytes {start} to {end}: the file was cut to {found} bytes; it had {self.size} when it was opened"
        )

    def read_if_ready(self, start: int, end: int) -> bytes | None:
        """Read a range if the page cache holds it. tmpfs, NFS and macOS can't say whether they would wait: None there."""
        # the local name keeps the file open, whatever another thread does
        fd = self._fd
        if fd == CLOSED or not 0 <= start <= end <= self.size:
            return None
        return read_cached(fd, start, end - start)

    @property
    def is_replaced(self) -> bool:
        """Whether the file was written, cut, replaced or removed since it was opened."""
        try:
            return version_of(os.stat(self._path)) != self.version  # noqa: PTH116 (1.7 us; a Path takes twice as long)
        except OSError:
            return True

    @property
    def is_grown(self) -> bool:
        """Whether the path leads to the file that was opened, and the file is not shorter."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 (as above)
        except OSError:
            return False
        return f"{found.st_ino:x}" == self.version.partition("-")[0] and found.st_size >= self.size

    def close(self) -> None:
        """Close the file. Reads that are under way end first, and get their bytes. Closing twice is harmless."""
        super().close()
        self._fd = CLOSED
        if self.native_file is not None:
            self.native_file.close()

    def __reduce__(self) -> tuple[Callable[..., LocalStore], tuple[str, str]]:
        return _reopen_local_store, (self._path, self.version)


def version_of(found: os.stat_result) -> str:
    """Return the version of a file: every write to it and every replacement changes the version."""
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _reason(exc: OSError) -> str | None:
    """Return the text of an error; if too many files are open, also the number of those that blobpack has open."""
    if exc.errno not in (errno.EMFILE, errno.ENFILE):
        return exc.strerror
    # The garbage collector knows all stores. A list of our own would make each opening slower.
    stores = [found for found in gc.get_objects() if type(found) is LocalStore]
    count = sum(store.fd is not None for store in stores)
    return (
        f"{exc.strerror}: this process has {counted(count, 'blob or index file', 'blobs and index files')} of blobpack open; close those that are "
        f"no longer read, or raise the limit (ulimit -n)"
    )


def _reopen_local_store(path: str, version: str) -> LocalStore:
    return LocalStore(path, version=version)
