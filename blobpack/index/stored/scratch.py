"""An index in a temporary file: of members that are made one part after the other, and are too many for memory."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING

from blobpack.indexfile.mapped import LocalIndex
from blobpack.indexfile.writer import write_sections
from blobpack.stores.descriptor import write_at
from blobpack.stores.local import LocalStore
from blobpack.stores.output import translate_write_errors
from blobpack.stores.sink import FileSink

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

    from blobpack.columns import Columns


class ScratchIndex(LocalIndex):
    """An index mapped from a file without a name, which the system removes when nothing refers to the index any more."""


class _ScratchSink(FileSink):
    """A file in the temporary folder. Its errors name that folder, which may be on another disk than the blob."""

    def write(self, data: Buffer, /) -> int:
        """Write the data; see Sink."""
        start = self.tell()
        with translate_write_errors(gettempdir()):
            write_at(self.fileno(), data, start)
        return self.seek(start + memoryview(data).nbytes) - start


def write_scratch(parts: Iterable[Columns]) -> ScratchIndex:
    """Write members into an index in a temporary file, and map it. The file takes about 35 bytes a member.

    Args:
        parts: The members, in order. All parts have the same facts.

    Raises:
        StorageError: the temporary folder can't be written to.
    """
    with ExitStack() as stack:
        with translate_write_errors(gettempdir()):
            # Unbuffered: on a full disk, closing a file with a buffer would raise a second error.
            file = stack.enter_context(TemporaryFile(buffering=0))
        sink = _ScratchSink(file)
        footer = write_sections(sink, parts, None, identity=None)
        packed = footer.encode()
        sink.write(packed)
        # the store has a descriptor of its own; without a path, the index is shown as one in memory
        return ScratchIndex(LocalStore("", fd=file.fileno()), 0, replace(footer, packed=packed))
