"""A blob in a local file.

Strategy: pread, which has no position that threads would share. A mapping would kill the process (SIGBUS) if the file is
cut while it is read.
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

READ_BYTES_MAX = 1 << 30  # one read; Linux allows a little less than 2 GiB (read(2))


class LocalStore(Store):
    """A blob in a file.

    The file stays open. If another file takes its place by a rename, reads still return the old bytes. If the file is
    cut, reads behind the cut raise BlobChangedError. Bytes that are overwritten in place are not noticed: comparing
    the modification time at each read would cost as much as the read.
    """

    def __init__(self, path: str | os.PathLike[str], *, version: str | None = None) -> None:
        """Open the file.

        Args:
            path: Path of the file.
            version: The version that it must have; None takes any.

        Raises:
            BlobNotFoundError: there is no such file.
            BlobChangedError: the file is another version.
            StorageError: the file can't be opened, or is not a plain file.
        """
        self._fd = -1
        self.url = os.fspath(path)
        self.location = Location(self.url, "local")
        self.size = 0
        try:
            # for pickling: this process, or the one that unpickles, may be in another folder by then
            self._path = os.path.abspath(self.url)  # noqa: PTH100 (keeps links)
            # O_NONBLOCK: to open a FIFO would wait for a writer
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"{self.url}: no such file") from exc
        except OSError as exc:
            raise StorageError(f"{self.url}: can't be opened: {exc.strerror}") from exc
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
            return data if len(data) == end - start else self._fetch_on(data, start, end)
        except OSError as exc:
            if isinstance(exc, StorageError):
                raise
            raise StorageError(f"{self.url}: can't read at byte {start}: {exc.strerror}") from exc

    def _fetch_on(self, data: bytes, start: int, end: int) -> bytes:
        """Read the rest after a short read: Linux reads at most 2 GiB at once, and the file may have been cut."""
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
        """Close the file. No thread may be reading from it; closing twice is harmless."""
        super().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., LocalStore], tuple[str, str]]:
        return _reopen, (self._path, self.version)


def _reopen(path: str, version: str) -> LocalStore:
    return LocalStore(path, version=version)
