"""Find the index of a local blob again, after an append has overwritten it while a reader had it open.

Strategy: an append keeps a copy of the index beside the blob, from before it overwrites the index until a whole index is
in the blob again. So at any moment, a reader finds one or the other. Both begin with the rows that the reader had, because
an append only adds rows behind them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import BlobChangedError, BlobNotFoundError, FormatError, StorageError
from blobpack.indexfile.footer import FOOTER_BYTES, Footer
from blobpack.indexfile.identity import sample_ranges
from blobpack.stores.descriptor import read_at
from blobpack.stores.local import LocalStore
from blobpack.stores.output import hidden_path

if TYPE_CHECKING:
    from blobpack.stores.base import Store

# An append may end, and the next one begin, between a look into the blob and a look beside it. Each look takes some
# microseconds, and an append takes a hundred times as long.
LOOKS = 100


def kept_index_path(blob: Path, inode: int) -> Path:
    """Return the path of the copy of a blob's index that an append keeps for readers.

    Args:
        blob: Path of the blob, without symbolic links.
        inode: Inode of the blob's file. Another file may have taken the path since a reader opened the blob.
    """
    return hidden_path(blob, f"{inode:012x}")


def present_path(fd: int) -> Path:
    """Return the present path of an open file, without symbolic links, even if the file was renamed."""
    return Path(os.path.realpath(f"/proc/self/fd/{fd}"))


def find_again(store: Store, known: Footer) -> tuple[Store, int, Footer]:
    """Find an index that begins with the rows of an index that was overwritten.

    Args:
        store: The file that held the index.
        known: Footer of that index.

    Returns:
        The store, the start of the region, and the footer of the index that was found. It may lack facts of the
        index that was overwritten, if the new members have none.

    Raises:
        BlobChangedError: there is no such index.
        StorageError: the store is closed.
    """
    fd = store.fd
    if fd is None:
        raise StorageError(f"{store.url}: the store is closed")
    if _begins_with(fd, known):
        for _ in range(LOOKS):
            found = _inside(store, fd) or _beside(fd)
            if found and found[2].row_count >= known.row_count:
                return found
    raise BlobChangedError(
        f"{store.url}: its index was overwritten since it was opened, and not by an append of blobpack"
    )


def _begins_with(fd: int, known: Footer) -> bool:
    """Compare a file with the samples that the identity of an archive records; an append writes only behind its members."""
    if known.identity is None or known.report is None:
        return False
    crc, end = 0, known.report.bytes_scanned
    for start, stop in sample_ranges(known.identity.archive_bytes):
        # the end-of-archive marker, and what fills up the last record, were zeros
        sample = read_at(fd, start, max(start, min(stop, end)))
        crc = crc32c(sample.ljust(stop - start, b"\0"), crc)
    return crc == known.identity.samples_crc


def _inside(store: Store, fd: int) -> tuple[Store, int, Footer] | None:
    """Read the footer at the end of a blob, which may have grown since its store was opened."""
    size = os.fstat(fd).st_size
    footer = _decode(read_at(fd, max(0, size - FOOTER_BYTES), size), size)
    if footer is None or footer.identity is None:
        return None
    if size - footer.bytes_inside != footer.identity.archive_bytes:
        return None
    return store, size - footer.region_bytes, footer


def _beside(fd: int) -> tuple[Store, int, Footer] | None:
    """Open the copy beside a blob."""
    try:
        copy = LocalStore(kept_index_path(present_path(fd), os.fstat(fd).st_ino))
    except (BlobNotFoundError, StorageError):
        return None
    # the append has only begun to write it, and the blob still has its index
    if copy.size < FOOTER_BYTES:
        return None
    footer = _decode(copy.read_range(copy.size - FOOTER_BYTES, copy.size), copy.size)
    return (copy, 0, footer) if footer and footer.region_bytes == copy.size else None


def _decode(packed: bytes, size: int) -> Footer | None:
    try:
        return Footer.decode(packed, "", size - FOOTER_BYTES)
    # the bytes of another program, or a footer that is just being written
    except FormatError:
        return None
