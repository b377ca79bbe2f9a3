"""The contract of sinks, to which blobs and indexes are written: a local file, or an upload to S3."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO

from blobpack.stores.descriptor import read_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

SINK_WRITE_BYTES = 1 << 20


class Sink(ABC):
    """A destination that is written front to back.

    Attributes:
        is_stream: Bytes that were written can neither be changed nor read again. If False, see local.
        version: The ETag of the object that was written, once it is complete; "" for a local file.
    """

    is_stream = True
    # A local file has no version that could be stored in its index. Checksums of its bytes tie the index to it.
    version = ""

    @abstractmethod
    def write(self, data: Buffer, /) -> int:
        """Write all of the data behind the bytes written so far; return the number of bytes of the data.

        Raises:
            StorageError: the data can't be written.
        """

    @abstractmethod
    def tell(self) -> int:
        """Return the position of the next write."""

    def local(self) -> LocalSink:
        """Return this sink as a LocalSink.

        Raises:
            TypeError: this sink is a stream.
        """
        raise TypeError(f"{type(self).__name__} can only be written front to back")


class LocalSink(Sink):
    """A local file, which can be written at any position.

    Attributes:
        path: Path of the file while it is written; "" if the file has no name.
    """

    is_stream = False
    path = ""

    @abstractmethod
    def fileno(self) -> int:
        """Return the file's descriptor."""

    @abstractmethod
    def seek(self, pos: int, /) -> int:
        """Set the position of the next write; return the position."""

    def flush(self) -> None:
        """Pass buffered bytes to the system, so that reads from the descriptor see them."""

    def local(self) -> LocalSink:
        """Return the sink itself."""
        return self

    def read_back(self, start: int, end: int) -> bytes:
        """Read the bytes start to end of the file; fewer only if the file ends before."""
        self.flush()
        # read_at leaves the position of the next write as it is.
        return read_at(self.fileno(), start, end)


class FileSink(LocalSink):
    """An open binary file as a sink."""

    def __init__(self, file: BinaryIO, path: str = "") -> None:
        """Wrap a file. The caller closes it.

        Args:
            file: A file open for writing.
            path: Path of the file; "" if it has no name.
        """
        self._file = file
        self.path = path

    def write(self, data: Buffer, /) -> int:
        """Write the data; see Sink."""
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
        """Flush the file's buffer."""
        self._file.flush()

    def restart(self) -> None:
        """Discard everything that was written, and go back to the start."""
        self._file.seek(0)
        self._file.truncate()


class CountingSink(Sink):
    """Discards what is written, and counts its bytes."""

    def __init__(self) -> None:
        self._pos = 0

    def write(self, data: Buffer, /) -> int:
        """Count the bytes of the data."""
        # nbytes, because len of a buffer counts its items, which may have several bytes each
        size = memoryview(data).nbytes
        self._pos += size
        return size

    def tell(self) -> int:
        """Return the number of bytes counted so far."""
        return self._pos


class Parts(ABC):
    """The parts of an archive, each of which native code writes to a file in any order; see parts_of.

    Attributes:
        fd: Descriptor of the file. Each byte goes to the position that it has in the archive.
    """

    fd: int

    @abstractmethod
    def finish(self, start: int, end: int) -> None:
        """Pass the part from start to end on to the sink. All of it is written.

        Raises:
            StorageError: the sink can't be written.
        """


class LocalParts(Parts):
    """Parts that are written to the sink's own file."""

    def __init__(self, sink: LocalSink) -> None:
        sink.flush()
        self._sink = sink
        self.fd = sink.fileno()

    def finish(self, start: int, end: int) -> None:
        """Move the sink to the end of the part: writes through the descriptor have not moved it."""
        self._sink.seek(end)


class StagedParts(Parts):
    """Parts that are written to a temporary file, and sent to a sink from there."""

    def __init__(self, sink: Sink, file: BinaryIO) -> None:
        self._sink = sink
        self.fd = file.fileno()

    def finish(self, start: int, end: int) -> None:
        """Send the part to the sink, and free its space."""
        for pos in range(start, end, SINK_WRITE_BYTES):
            self._sink.write(read_at(self.fd, pos, min(pos + SINK_WRITE_BYTES, end)))
        # the next part is written at its position in the archive, behind a hole
        os.ftruncate(self.fd, 0)


@contextmanager
def parts_of(sink: Sink) -> Iterator[Parts]:
    """Write an archive to a sink part by part, each part in any order.

    A sink that is a stream gets a temporary file in front of it, which has no name, and holds one part at a time.
    """
    if not sink.is_stream:
        yield LocalParts(sink.local())
        return
    with TemporaryFile() as file:
        yield StagedParts(sink, file)
