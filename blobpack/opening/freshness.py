"""Check that an index still fits its blob.

Strategy: no scan. An index records its archive's size and checksums of a few of its bytes (`Identity`); these are
compared with the archive as it is now. An offsets file records nothing, so the sizes and names of some of its members
are compared with the headers before them; see foreign/headers.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import StaleIndexError
from blobpack.foreign.headers import check_headers
from blobpack.indexfile.identity import (
    COLLECTION_IDENTITY,
    IDENTITY_TAIL_BYTES,
    samples_crc_of,
)
from blobpack.indexfile.open import read_footer
from blobpack.stores.http.etag import differ
from blobpack.tar.header import BLOCK
from blobpack.wording import remedy

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.stores.base import Store


def find_growth(store: Store, index: Index, tail_start: int) -> int | None:
    """Return where an archive ended when it was scanned, if it has grown since; None if it still ends there.

    Args:
        store: The blob.
        index: The archive's index.
        tail_start: Start of the archive's last bytes, which are as they were when the index was made.
    """
    # `tar -r` writes new members over the zeros that fill an archive's last record (GNU tar: 20 blocks of 512 bytes by
    # default). If these zeros suffice, neither the size nor the last 4,096 bytes need to change.
    end = index.report.bytes_scanned if index.report else tail_start
    # Most archives end in the tail. For these, no request is needed.
    return end if end < tail_start and any(store.peek(end, end + BLOCK)) else None


def check_identity(store: Store, index: Index, where: str) -> Index:
    """Compare a blob with the identity that its index file records, and return the index.

    Raises:
        StaleIndexError: the blob differs.
    """
    identity = index.identity
    if identity is not None and (found := difference(store, identity, index)):
        raise StaleIndexError(
            f"{where} is not the index of {store.url} as it is now: {found}; {remedy('index')}"
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
    if store.size != size and not _is_index_behind(store, size):
        return (
            f"the blob has {store.size} bytes, and its archive had {size} when the index was made"
        )
    # an equal ETag proves that the object is the same; the tail need not be read
    if identity.version and store.version and not differ(identity.version, store.version):
        return ""
    start = max(0, size - IDENTITY_TAIL_BYTES)
    tail = store.peek_right(start, size, lambda found: crc32c(found) == identity.tail_crc)
    if crc32c(tail) != identity.tail_crc:
        return f"the last {IDENTITY_TAIL_BYTES} bytes of the archive have changed"
    # Up to 32 samples. From S3, each would take a request, so for a remote blob only the last bytes
    # are compared.
    if not store.is_remote and samples_crc_of(store, size) != identity.samples_crc:
        return "samples of the archive's bytes have changed"
    if index and (pos := find_growth(store, index, start)) is not None:
        return f"the archive ended at byte {pos}, and now has more bytes there"
    return ""


def _is_index_behind(store: Store, archive_bytes: int) -> bool:
    """Return whether an archive of that size is followed by its index alone; not if another blob was joined to it."""
    footer = read_footer(store) if store.size > archive_bytes else None
    return footer is not None and archive_bytes + footer.bytes_inside == store.size


def check_fits(store: Store, index: Index, where: str) -> Index:
    """Check that an index fits a blob, by its identity, or by the headers of some members if it has none.

    Raises:
        StaleIndexError: it does not.
    """
    check = check_headers if index.identity is None else check_identity
    return check(store, index, where)
