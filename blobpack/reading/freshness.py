"""Check that an index still fits its blob.

Strategy: no scan. An index records its archive's size and checksums of a few of its bytes (`Identity`); these are
compared with the archive as it is now. An offsets file records nothing, so some of its members are compared with the
headers before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import StaleIndexError
from blobpack.indexfile.identity import (
    COLLECTION_IDENTITY,
    IDENTITY_TAIL_BYTES,
    samples_crc_of,
)
from blobpack.indexfile.open import read_footer
from blobpack.tar.header import BLOCK, begins_tar, size_in

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store


# Each header of a remote blob takes one request, so only some are read, evenly spaced from the first to the last.
HEADERS_CHECKED = 16
REMEDY = "make it again with `blobpack index`, or open the blob with stale='rescan'"


def find_growth(store: Store, index: Index, tail: bytes, archive_bytes: int) -> int | None:
    """Return where an archive ended when it was scanned, if it has grown since; None if it still ends there.

    Args:
        store: The blob.
        index: The archive's index.
        tail: The archive's last bytes.
        archive_bytes: Size of the archive.
    """
    # `tar -r` writes new members over the zeros that fill an archive's last record (GNU tar: 20 blocks of 512 bytes by
    # default). If these zeros suffice, neither the size nor the last 4,096 bytes need to change.
    end = index.report.bytes_scanned if index.report else archive_bytes
    if end >= archive_bytes:
        return None
    # Most archives end within the tail, which was read already. For these, no request is needed.
    at = end - (archive_bytes - len(tail))
    marker = tail[at : at + BLOCK] if at >= 0 else store.peek(end, min(end + BLOCK, archive_bytes))
    return end if any(marker) else None


def check_identity(store: Store, index: Index, where: str) -> Index:
    """Compare a blob with the identity that its index file records, and return the index.

    Raises:
        StaleIndexError: the blob differs.
    """
    identity = index.identity
    if identity is not None and (found := difference(store, identity, index)):
        raise StaleIndexError(
            f"{where} is not the index of {store.url} as it is now: {found}; {REMEDY}"
        )
    return index


def difference(store: Store, identity: Identity, index: Index | None = None) -> str:
    """Describe how an archive differs from an identity; empty if no difference is found.

    Args:
        store: The blob.
        identity: What the index recorded of the archive when it was made.
        index: The archive's index, if there is one to compare, too.
    """
    if identity == COLLECTION_IDENTITY:
        return "it is the index of a collection, whose members are in several blobs"
    size = identity.archive_bytes
    # a blob that is larger than the archive is fine only if an index was put behind the archive since
    if store.size < size or (store.size > size and read_footer(store) is None):
        return f"the blob has {store.size} bytes, and had {size} when the index was made"
    # an equal ETag proves that the object is the same; the tail need not be read
    if identity.version and identity.version == store.version:
        return ""
    start = max(0, size - IDENTITY_TAIL_BYTES)
    tail = store.peek_right(start, size, lambda found: crc32c(found) == identity.tail_crc)
    if crc32c(tail) != identity.tail_crc:
        return f"the last {IDENTITY_TAIL_BYTES} bytes of the archive have changed"
    # Up to 32 samples. From S3, each would take a request, so for a remote blob only the last bytes
    # are compared.
    if not store.is_remote and samples_crc_of(store, size) != identity.samples_crc:
        return "samples of the archive's bytes have changed"
    if index and (pos := find_growth(store, index, tail, size)) is not None:
        return f"the archive ended at byte {pos}, and now has more bytes there"
    return ""


def check_headers(store: Store, index: Index, where: str) -> Index:
    """Check that some members of an offsets file, the first and the last among them, lie behind their headers.

    Raises:
        StaleIndexError: a member does not.
    """
    count = len(index)
    for i in range(min(count, HEADERS_CHECKED)):
        row = (count - 1) * i // max(1, min(count, HEADERS_CHECKED) - 1)
        member = index.member_at(row)
        start = member.offset_start
        # begins_tar accepts a block of zeros, which may begin an empty tar but is no header. size_in is None if the
        # size is in a pax record or base-256: then only the header's own checksum is compared.
        if member.offset_end > store.size or not (
            start >= BLOCK
            and begins_tar(header := store.read_range(start - BLOCK, start))
            and any(header)
            and size_in(header) in (None, member.size)
        ):
            raise StaleIndexError(
                f"{where} does not fit {store.url} as it is now: there is no header before member {member.name!r} at "
                f"byte {start}; make it again with `blobpack offsets`, or open the blob with stale='rescan'"
            )
    return index
