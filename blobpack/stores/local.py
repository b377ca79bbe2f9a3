"""A blob in a local file, read with pread: no shared position, and no mapping that a cut file breaks."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError
from blobpack.stores.base import Store
from blobpack.stores.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES_MAX = 1 << 30  # what Linux reads at once, and a little less


class LocalStore(Store):
    """A blob in a file.

    The file stays open: replaced by another one, as by rename, it is still read as it was. Cut, it is a
    BlobChangedError. Bytes overwritten in place are not noticed: looking at each read would cost as much as
    the read.
    """

    def __init__(self, path: str | os.PathLike[str], *, version: str | None = None) -> None:
        """Open the file.

        Args:
            path: Where it is.
            version: The version it must be; None takes what is there.

        Raises:
            BlobNotFoundError: there is no such file.
            BlobChangedError: it is another version.
            StorageError: it can't be opened, or is not a plain file.
        """
        self._fd = -1
        self.url = os.fspath(path)
        self.location = Location(self.url, "local")
        self._path = os.path.abspath(self.url)  # noqa: PTH100 (keeps links); a chdir may follow
        self.size = 0
        try:
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
        """Read on after a short read: one of more than 2 GiB, or of a file that was cut."""
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
        """Close the file, when no thread reads from it any more; again is harmless."""
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
