"""Keep a copy of the index inside a local blob while the index is overwritten.

Readers that have the blob open find the copy: see `indexfile/overwritten.py`. A change of the blob that fails puts the index
back from it. It is a hidden file beside the blob, which its process locks.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import StorageError
from blobpack.indexfile.footer import FOOTER_BYTES, INDEX_MAGIC, MEMBER_HEADER_BYTES
from blobpack.indexfile.overwritten import kept_index_path
from blobpack.stores.descriptor import read_at
from blobpack.stores.output import discard, hold, remove_leftovers, translate_write_errors
from blobpack.tar.splicing.source import copy_range

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from blobpack.indexfile.footer import Footer
    from blobpack.writing.blob_file import BlobFile


class KeptIndex:
    """The index inside a blob, as it was before a change of the blob.

    Attributes:
        footer: Its footer; None if there is no whole index.
        is_needed: Readers need the copy, because there is no whole index in the blob.
    """

    def __init__(self, file: BlobFile, footer: Footer | None, size: int) -> None:
        # without an index, there may be the copy that an append has left when it was killed
        self.is_needed = footer is None
        self.footer = footer
        self._file, self._size = file, size
        self._header, self._last = b"", _last_block(file)
        self._copy: BinaryIO | None = None

    def fill(self, copy: BinaryIO, footer: Footer) -> None:
        """Copy the index to a file."""
        file, start = self._file, self._size - footer.region_bytes
        with translate_write_errors(file.url):
            self._header = read_at(file.fd, start - MEMBER_HEADER_BYTES, start)
        copy_range(file.fd, start, footer.region_bytes, copy.fileno(), 0, file.url)
        self._copy = copy

    def is_replaced(self) -> bool:
        """Return whether another index has been written to the blob: its footer comes last."""
        last = _last_block(self._file)
        return last.endswith(INDEX_MAGIC) and last != self._last

    def put_back(self) -> None:
        """Write the index, if there was one, into the blob again, with another stamp in its footer.

        Otherwise a reader that pauses while it reads the index, and goes on when the footer is back, would not notice that
        the index was overwritten meanwhile.

        Raises:
            StorageError: the blob can't be written.
        """
        if not self.footer or not self._copy:
            return
        file, start = self._file, self._size - self.footer.region_bytes
        sections = self.footer.region_bytes - FOOTER_BYTES
        file.write(self._header, start - MEMBER_HEADER_BYTES)
        copy_range(self._copy.fileno(), 0, sections, file.fd, start, file.url)
        file.sync()
        file.write(self.footer.encode(int.from_bytes(os.urandom(8))), start + sections)
        file.sync()
        self.is_needed = False


@contextmanager
def index_kept(file: BlobFile, footer: Footer | None, size: int) -> Iterator[KeptIndex]:
    """Keep a copy of the index inside a blob for a block that overwrites the index.

    The copy stays behind the block only if readers need it. Then the next change of the blob removes it.

    Args:
        file: The blob, which is locked.
        footer: Footer of the index; None if there is no whole index in the blob.
        size: Bytes of the blob, which the index ends.

    Raises:
        StorageError: the copy can't be written. Nothing has been changed then.
    """
    path = kept_index_path(file.path, os.fstat(file.fd).st_ino)
    kept, copy = KeptIndex(file, footer, size), None
    # The try starts before the file is created, because Ctrl-C may come at any moment after that.
    try:
        if footer:
            # not overwritten: readers may have mapped a copy that an append left when it was killed
            discard(path)
            copy = _create(path, file)
            kept.fill(copy, footer)
        yield kept
    finally:
        if not kept.is_needed:
            discard(path)
            # of the same blob in other files
            remove_leftovers(file.path)
        if copy:
            with suppress(OSError):
                copy.close()


def _last_block(file: BlobFile) -> bytes:
    with translate_write_errors(file.url):
        end = os.fstat(file.fd).st_size
        return read_at(file.fd, max(0, end - FOOTER_BYTES), end)


def _create(path: Path, file: BlobFile) -> BinaryIO:
    """Create and lock the copy. Without the right to write in the folder, it has no name, and readers do without."""
    # nobody may read names in the copy who may not read the blob
    mode = stat.S_IMODE(os.fstat(file.fd).st_mode)
    try:
        while True:
            copy = open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
            # the umask may have taken rights away
            with suppress(OSError):
                os.fchmod(copy.fileno(), mode)
            if hold(copy.fileno()):
                return copy
            copy.close()
    except PermissionError:
        return tempfile.TemporaryFile()
    except OSError as exc:
        raise StorageError(f"{file.url}: its index can't be copied: {exc.strerror}") from exc
