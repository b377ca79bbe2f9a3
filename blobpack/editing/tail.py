"""The end of a local blob that grows, as a sink."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.stores.descriptor import read_at
from blobpack.stores.output import (
    translate_write_errors,
)
from blobpack.stores.sink import LocalSink
from blobpack.tar.header import BLOCK
from blobpack.writing.append_mark import mark_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from blobpack.editing.blob_state import BlobState
    from blobpack.writing.blob_file import BlobFile


# the two zero blocks and the mark
HELD_BYTES = 3 * BLOCK
# a page: commit relies on the kernel and the disk to write a page whole
ATOMIC_WRITE_BYTES = 4096


class Tail(LocalSink):
    """The blob from the end of its old members on. The first HELD_BYTES that are written are held back in memory.

    Attributes:
        held: The bytes that are held back.
        end: Where the new archive ends.
    """

    def __init__(self, file: BlobFile, before: BlobState) -> None:
        self._file, self._before = file, before
        self._start = self._pos = before.end
        self.held = bytearray(HELD_BYTES)
        self.end = before.end

    def fileno(self) -> int:
        """Return the descriptor of the blob."""
        return self._file.fd

    def tell(self) -> int:
        """Return the position in the blob."""
        return self._pos

    def seek(self, pos: int, /) -> int:
        """Set the position of the next write, and return it."""
        self._pos = pos
        return pos

    def write(self, data: Buffer, /) -> int:
        """Write at the position, and hold back bytes that belong to the first HELD_BYTES."""
        view = memoryview(data).cast("B")
        kept = max(0, min(len(view), self._start + HELD_BYTES - self._pos))
        if kept:
            at = self._pos - self._start
            self.held[at : at + kept] = view[:kept]
        self._file.write(view[kept:], self._pos + kept)
        self._pos += len(view)
        return len(view)

    def finish(self, index_bytes: int) -> None:
        """Write a mark behind the new archive (step 3), and allocate the bytes of the index that goes there."""
        mark = mark_of(self._before.place)
        self.write(mark)
        # otherwise the disk could be full behind the commit, and the blob would be left without an index
        self._file.reserve(self.end, index_bytes)
        # if the file is longer, readers look at its last block
        size = os.fstat(self._file.fd).st_size
        if self.end + BLOCK < size:
            self._file.write(mark, size - BLOCK)
        self._file.sync()

    def commit(self) -> None:
        """Write the bytes that were held back, which makes the new members appear (step 4)."""
        in_page = ATOMIC_WRITE_BYTES - self._start % ATOMIC_WRITE_BYTES
        # the second page first: the first one replaces the zero block that ends the old archive by a header
        if in_page < HELD_BYTES:
            self._file.write(self.held[in_page:], self._start + in_page)
            self._file.sync()
        self._file.write(self.held[:in_page], self._start)
        self._file.sync()

    def has_appeared(self) -> bool:
        """Return whether readers find the new members: commit writes their first header last."""
        with translate_write_errors(self._file.url):
            first = read_at(self._file.fd, self._start, self._start + BLOCK)
        return first.strip(b"\0") != b""
