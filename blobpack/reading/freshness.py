"""Whether an index is of the blob as it is now, seen from the archive itself, without a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import StaleIndexError
from blobpack.indexfile.identity import (
    COLLECTION_IDENTITY,
    IDENTITY_TAIL_BYTES,
    read_tail,
    samples_crc_of,
)
from blobpack.indexfile.open import read_footer
from blobpack.tar.header import BLOCK, begins_tar, size_in

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store


HEADERS_CHECKED = 16
REMEDY = "make it anew with `blobpack index`, or open the blob with stale='rescan'"


def _grown_into_padding(store: Store, index: Index, tail: bytes, archive_bytes: int) -> int | None:
    """Find where an archive ended when it was scanned, if more stands there now; None if it still ends there.

    `tar -r` writes into the zeros behind an archive, up to a whole record: neither its size nor its last bytes
    need change. The end of most is in the tail, which was read already: no request more.
    """
    end = index.report.bytes_scanned if index.report else archive_bytes
    if end >= archive_bytes:
        return None
    at = end - (archive_bytes - len(tail))
    marker = tail[at : at + BLOCK] if at >= 0 else store.peek(end, min(end + BLOCK, archive_bytes))
    return end if any(marker) else None


def _checked(store: Store, index: Index, where: str) -> Index:
    """Compare a blob with what an index file says of it.

    A file's samples are compared, too; of a blob far away only the version, or else the last bytes.
    """
    identity = index.identity
    if identity is not None and (found := difference(store, identity, index)):
        raise StaleIndexError(
            f"{where} is not the index of {store.url} as it is now: {found}; {REMEDY}"
        )
    return index


def difference(store: Store, identity: Identity, index: Index | None = None) -> str:
    """Say in what an archive differs from an identity; nothing when it does not."""
    if identity == COLLECTION_IDENTITY:
        return "it is of members of several blobs"
    size = identity.archive_bytes
    if store.size < size or (store.size > size and read_footer(store) is None):
        return f"it has {store.size} bytes, and had {size} then"
    if identity.version and identity.version == store.version:
        return ""
    tail = read_tail(store, size)
    if crc32c(tail) != identity.tail_crc:
        return f"its last {IDENTITY_TAIL_BYTES} bytes are others"
    if not store.is_remote and samples_crc_of(store, size) != identity.samples_crc:
        return "samples of its bytes are others"
    if index and (pos := _grown_into_padding(store, index, tail, size)) is not None:
        return f"it ended at byte {pos}, and goes on there now"
    return ""


def check_headers(store: Store, index: Index, where: str) -> Index:
    """Look whether some members of an offsets file, first and last among them, stand behind their headers.

    Raises:
        StaleIndexError: one does not.
    """
    count = len(index)
    for i in range(min(count, HEADERS_CHECKED)):
        row = (count - 1) * i // max(1, min(count, HEADERS_CHECKED) - 1)
        member = index.member_at(row)
        start = member.offset_start
        if member.offset_end > store.size or not (
            start >= BLOCK
            and begins_tar(header := store.read_range(start - BLOCK, start))
            and any(header)
            and size_in(header) in (None, member.size)
        ):
            raise StaleIndexError(
                f"{where} is not of {store.url} as it is now: no header before member {member.name!r} at "
                f"byte {start}; make it anew with `blobpack offsets`, or open the blob with stale='rescan'"
            )
    return index
