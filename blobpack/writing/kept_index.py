"""Keep a copy of the index inside a local blob while the index is overwritten, for readers that have the blob open.

`indexfile/overwritten.py` finds the copy. It is a hidden file beside the blob.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blobpack.errors import StorageError
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.indexfile.overwritten import kept_index_path
from blobpack.stores.descriptor import read_at
from blobpack.stores.output import discard, hold, translate_write_errors
from blobpack.tar.splice_source import copy_range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blobpack.indexfile.footer import Footer
    from blobpack.writing.blob_file import BlobFile


@contextmanager
def index_kept(file: BlobFile, footer: Footer | None, size: int) -> Iterator[None]:
    """Keep a copy of the index inside a blob for a block that overwrites the index.

    Args:
        file: The blob, which is locked.
        footer: Footer of the index; None if there is no whole index in the blob.
        size: Bytes of the blob, which the index ends.

    Raises:
        StorageError: the copy can't be written. Nothing has been changed then.
    """
    path = kept_index_path(file.path, os.fstat(file.fd).st_ino)
    with ExitStack() as stack:
        # the try starts before the copy is created, because Ctrl-C may come at any moment after that
        try:
            if footer:
                # not overwritten: readers may have mapped a copy that an append left when it was killed
                _remove(path, file.url)
                if copy := _create(path, file.url):
                    stack.enter_context(copy)
                    _copy_index(file, footer.region_bytes, size, copy)
            yield
        finally:
            # if the block did not get to write an index, a copy stays for readers
            end = os.fstat(file.fd).st_size
            if read_at(file.fd, max(0, end - len(INDEX_MAGIC)), end) == INDEX_MAGIC:
                _remove(path, file.url)


def _remove(path: Path, url: str) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(
            f"{url}: the copy of its index beside it can't be removed: {exc.strerror}"
        ) from exc


def _create(path: Path, url: str) -> BinaryIO | None:
    """Create and lock the copy; return None without the right to write in the folder: then readers do without."""
    try:
        while True:
            copy = path.open("xb")
            if hold(copy.fileno()):
                return copy
            copy.close()
    except PermissionError:
        return None
    except OSError as exc:
        raise StorageError(f"{url}: its index can't be copied: {exc.strerror}") from exc


def _copy_index(file: BlobFile, size: int, end: int, copy: BinaryIO) -> None:
    """Copy the index that ends at a byte of a blob. The copy is not synced: after a power failure, no reader has it open."""
    try:
        # nobody may read names in the copy who may not read the blob
        with translate_write_errors(file.url):
            os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(file.fd).st_mode))
        copy_range(file.fd, end - size, size, copy.fileno(), 0, file.url)
    except BaseException:
        discard(Path(copy.name))
        raise
