"""Open files: a descriptor that the last reader closes, and reads and writes that are never short.

Strategy: a descriptor is an int that closes the file when nothing refers to it any more. A call such as os.pread holds
a reference to its arguments until it returns. So `close` in another thread only drops a reference, and the system can't
give the number to another file while a read is under way. A lock for each read would cost a tenth of the read.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

from blobpack._native.closed_at_last import close_descriptor

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Most bytes of one read. Linux transfers a little less than 2 GiB in one call (read(2)).
READ_BYTES_MAX = 1 << 30


class Descriptor(int):
    """A file descriptor, closed when nothing refers to it any more. Pass it on as it is: int() makes a plain number."""

    # compiled, because Python drops a Ctrl-C that arrives in a finalizer in Python
    __del__ = close_descriptor


def read_at(fd: int, start: int, end: int) -> bytes:
    """Read the bytes start to end of a file; fewer only if the file ends before.

    Raises:
        OSError: the file can't be read.
    """
    parts = []
    pos = start
    # pread(2) may return less than it was asked for: on some network file systems, and for more than 2 GiB
    while pos < end:
        part = os.pread(fd, min(end - pos, READ_BYTES_MAX), pos)
        if not part:
            break
        parts.append(part)
        pos += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_at(fd: int, data: Buffer, pos: int) -> None:
    """Write all of some bytes at a position of a file.

    Raises:
        OSError: the bytes can't be written.
    """
    view = memoryview(data).cast("B")
    # pwrite(2) may write less than it was given: on a disk that is nearly full, for example
    while view:
        done = os.pwrite(fd, view, pos)
        view, pos = view[done:], pos + done


class WholeWriter(io.RawIOBase):
    """Writes to a raw file, all of the data at each call. Closing it leaves the file open."""

    def __init__(self, file: io.RawIOBase) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Write all of the data; return its bytes."""
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            # None: a file that must not block takes nothing now
            view = view[self._file.write(view) or 0 :]
        return size


def never_short(file: BinaryIO) -> BinaryIO:
    """Return a file whose write takes all of the data: the file itself, unless it is raw.

    PYTHONUNBUFFERED, for example, makes stdout a raw file.
    """
    return cast("BinaryIO", WholeWriter(file)) if isinstance(file, io.RawIOBase) else file
