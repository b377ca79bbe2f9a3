"""A blob in a local file.

Strategy: pread, because it has no file position that threads would share. A mapping is not used: if the file is
truncated, reading from a mapping kills the process with SIGBUS (mmap(2)).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import Store
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable

# Most bytes of each further read after a short one. Linux transfers a little less than 2 GiB in one read (read(2)).
READ_BYTES_MAX = 1 << 30


class LocalStore(Store):
    """A blob in a file.

    The file stays open. If it is replaced by a rename, reads still return the old bytes. If it is truncated, reads
    behind its new end raise BlobChangedError. Bytes overwritten in place are not noticed, because comparing the
    modification time at each read would cost as much as the read.
    """

    def __init__(self, path: str | os.PathLike[str], *, version: str | None = None) -> None:
        """Open the file.

        Args:
            path: Path of the file.
            version: Version that the file must have; None accepts any.

        Raises:
            BlobNotFoundError: there is no such file.
            BlobChangedError: the file is another version.
            StorageError: the file can't be opened, or is not a plain file.
        """
        self._fd = -1
        self.location = path if isinstance(path, Location) else Location(os.fspath(path), "local")
        self.url = self.location.path
        self.size = 0
        try:
            # Absolute, for pickling: the process that unpickles may have another working directory.
            self._path = os.path.abspath(self.url)  # noqa: PTH100 (keeps links)
            # Without O_NONBLOCK, opening a FIFO would wait for a writer.
            self._fd = os.open(self.url, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{self.url}: no such file") from exc
        except OSError as exc:
            raise StorageError(f"{self.url}: can't be opened: {exc.strerror}") from exc
        # From the descriptor, not the path: another file may have taken the path since it was opened.
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise StorageError(f"{self.url}: not a plain file")
        self.size = found.st_size
        self.version = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
        if version is not None and version != self.version:
            self.close()
            raise BlobChangedError(f"{self.url}: the file is no longer the one that was opened")

    @property
    def fd(self) -> int | None:
        """Descriptor of the open file; None once it is closed."""
        return self._fd if self._fd >= 0 else None

    def fetch(self, start: int, end: int) -> bytes:
        """Read the bytes start to end."""
        try:
            data = os.pread(self._fd, end - start, start)
            return data if len(data) == end - start else self._read_rest(data, start, end)
        except OSError as exc:
            # BlobChangedError from _read_rest is an OSError, too.
            if isinstance(exc, StorageError):
                raise
            raise StorageError(f"{self.url}: can't read at byte {start}: {exc.strerror}") from exc

    def _read_rest(self, data: bytes, start: int, end: int) -> bytes:
        """Read the rest of a range after a short read, and check that the file was not truncated."""
        parts = [data]
        pos = start + len(data)
        while pos < end and parts[-1]:
            parts.append(os.pread(self._fd, min(end - pos, READ_BYTES_MAX), pos))
            pos += len(parts[-1])
        if pos < end:
            raise BlobChangedError(
                f"{self.url}: the file was cut to {os.fstat(self._fd).st_size} bytes; "
                f"it had {self.size} when it was opened"
            )
        return b"".join(parts)

    def close(self) -> None:
        """Close the file; no thread may be reading from it. Closing twice is harmless."""
        super().close()
        # Set to -1 first: at a second close, the same number may be the descriptor of another file.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., LocalStore], tuple[str, str]]:
        return _reopen_local_store, (self._path, self.version)


def _reopen_local_store(path: str, version: str) -> LocalStore:
    return LocalStore(path, version=version)
