"""Open files: a descriptor that the last reader closes, and reads and writes that are never short.

Strategy: a descriptor is an int that closes the file when nothing refers to it any more. A call such as os.pread holds
a reference to its arguments until it returns. So `close` in another thread only drops a reference, and the system can't
give the number to another file while a read is under way. A lock for each read would cost a tenth of the read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

# Most bytes of one read. Linux transfers a little less than 2 GiB in one call (read(2)).
READ_BYTES_MAX = 1 << 30


class Descriptor(int):
    """A file descriptor, closed when nothing refers to it any more. Pass it on as it is: int() makes a plain number."""

    # a default, because the module's globals are gone when the interpreter exits
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self)


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
