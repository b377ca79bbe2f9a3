"""The contract of what blobs and indexes are written to: a local file, or an upload to S3."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Sink(ABC):
    """Takes bytes front to back.

    Attributes:
        is_stream: What was written can neither be changed nor read again. If false, see local.
        version: What the store calls the version that was written, once it is in place; "" if the store has no
            such name.
    """

    is_stream = True
    version = ""  # a local file has none: checksums alone tie an index to it

    @abstractmethod
    def write(self, data: Buffer, /) -> int:
        """Write all of the data behind what was written; return its bytes.

        Raises:
            StorageError: it can't be written.
        """

    @abstractmethod
    def tell(self) -> int:
        """Return the position that the next write goes to."""

    def local(self) -> LocalSink:
        """Return the sink as the local file that it is.

        Raises:
            TypeError: it is a stream.
        """
        raise TypeError(f"{type(self).__name__} is written front to back only")


class LocalSink(Sink):
    """A local file, which can be written at any place.

    Attributes:
        path: Where it lies until it takes its place; "" if it has no name.
    """

    is_stream = False
    path = ""

    @abstractmethod
    def fileno(self) -> int:
        """Return the file's descriptor."""

    @abstractmethod
    def seek(self, pos: int, /) -> int:
        """Have the next write go to a position; return the position."""

    def flush(self) -> None:
        """Hand to the system what waits in a buffer, so that the descriptor reads it."""

    def local(self) -> LocalSink:
        """Return the sink itself."""
        return self

    def read_back(self, start: int, end: int) -> bytes:
        """Read what was written to the bytes start to end."""
        self.flush()
        return os.pread(self.fileno(), end - start, start)


class FileSink(LocalSink):
    """An open binary file as a sink."""

    def __init__(self, file: BinaryIO, path: str = "") -> None:
        """Wrap a file, which stays the caller's to close.

        Args:
            file: Open for writing.
            path: Where it lies; "" if it has no name.
        """
        self._file = file
        self.path = path

    def write(self, data: Buffer, /) -> int:
        """Write on; see Sink."""
        return self._file.write(data)

    def tell(self) -> int:
        """Return the file's position."""
        return self._file.tell()

    def fileno(self) -> int:
        """Return the file's descriptor."""
        return self._file.fileno()

    def seek(self, pos: int, /) -> int:
        """Move the file's position."""
        return self._file.seek(pos)

    def flush(self) -> None:
        """Empty the file's buffer."""
        self._file.flush()

    def restart(self) -> None:
        """Drop all that was written, and go back to the start."""
        self._file.seek(0)
        self._file.truncate()


class CountingSink(Sink):
    """Drops what is written, and counts its bytes."""

    def __init__(self) -> None:
        self._pos = 0

    def write(self, data: Buffer, /) -> int:
        """Count the data."""
        size = memoryview(data).nbytes
        self._pos += size
        return size

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self._pos
