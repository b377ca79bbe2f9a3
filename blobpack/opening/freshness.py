"""Check that an index still fits its blob.

Strategy: no scan. An index records its archive's size and checksums of a few of its bytes (`Identity`); these are
compared with the archive as it is now. An offsets file records nothing, so the sizes and names of some of its members
are compared with the headers before them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import StaleIndexError
from blobpack.indexfile.identity import (
    COLLECTION_IDENTITY,
    IDENTITY_TAIL_BYTES,
    samples_crc_of,
)
from blobpack.indexfile.open import read_footer
from blobpack.stores.http.etag import differ
from blobpack.tar.header import BLOCK, begins_tar, size_in
from blobpack.tar.scan import scan_store
from blobpack.wording import setting

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.identity import Identity
    from blobpack.model import Member
    from blobpack.stores.base import Store


# Each header of a remote blob takes one request, so only some are read, evenly spaced from the first to the last.
HEADERS_CHECKED = 16
# a header, an extended header and three blocks of its data: names of about 1,500 bytes
HEADERS_BYTES = 5 * BLOCK


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
        return f"the blob has {store.size} bytes, and had {size} when the index was made"
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


def check_headers(store: Store, index: Index, where: str) -> Index:
    """Check that some members of an offsets file, the first and the last among them, lie behind their headers.

    Raises:
        StaleIndexError: a member does not, or the header has another name.
    """
    count = len(index)
    for i in range(min(count, HEADERS_CHECKED)):
        row = (count - 1) * i // max(1, min(count, HEADERS_CHECKED) - 1)
        member = index._member_at(row)
        start = member.offset_start
        # begins_tar accepts a block of zeros, which may begin an empty tar but is no header. size_in is None if the
        # size is in a pax record or base-256: then only the header's own checksum is compared.
        if member.offset_end > store.size or not (
            start >= BLOCK
            and begins_tar((before := read_before(store, start))[-BLOCK:])
            and any(before[-BLOCK:])
            and size_in(before[-BLOCK:]) in (None, member.size)
        ):
            raise StaleIndexError(
                f"{where} does not fit {store.url} as it is now: there is no header before member {member.name!r} at "
                f"byte {start}; {remedy('offsets')}"
            )
        names = names_in(before)
        if names and not is_named(member.name, names) and not is_link(store, member):
            raise StaleIndexError(
                f"{where} does not fit {store.url} as it is now: at byte {start} it has member {member.name!r}, and the "
                f"header there names {names[-1]!r}; {remedy('offsets')}"
            )
    return index


def read_before(store: Store, start: int) -> bytes:
    """Read the header before a payload, and what may be a longer name before it."""
    return store.read_range(max(start % BLOCK, start - HEADERS_BYTES), start)


def names_in(before: bytes) -> list[str]:
    """Return the names that the header at the end of some blocks may give to its member; none if they are not known.

    Args:
        before: The blocks that end with the header. An extended header may come before it.
    """
    header = before[-BLOCK:]
    name, prefix = (header[a:b].split(b"\0")[0] for a, b in ((0, 100), (345, 500)))
    ustar = header[257:263] == b"ustar\0"
    names = [b"/".join([prefix, name]) if prefix and ustar else name]
    # its own header, and one to three blocks of data
    for blocks in range(2, len(before) // BLOCK):
        first = before[-BLOCK * (blocks + 1) :][:BLOCK]
        data = before[-BLOCK * blocks : -BLOCK]
        kind, size = first[156:157], size_in(first)
        if kind in (b"x", b"L") and size and begins_tar(first) and -(-size // BLOCK) == blocks - 1:
            found = data[:size].rstrip(b"\0") if kind == b"L" else pax_path(data[:size])
            names += [found] if found else []
    # the name is cut, and the extended header with the whole name is longer than what was read
    if len(names) == 1 and len(name) == 100:
        return []
    return [name.decode("utf-8", "surrogateescape") for name in names]


def pax_path(records: bytes) -> bytes | None:
    """Find the path in the records of a pax header."""
    # a record is its own length in decimal, a space, keyword=value, and a newline (POSIX.1-2017, pax)
    found = re.search(rb"(?:^|\n)\d+ path=([^\n]*)\n", records)
    return found and found[1]


def is_named(name: str, names: list[str]) -> bool:
    """Return whether a name in an index can stand for one of the names in a blob: it is equal, or its last part."""
    # Supervisely's importer expects basenames
    return any(name in (other, other.rpartition("/")[2]) for other in names)


def is_link(store: Store, member: Member) -> bool:
    """Return whether a member is a hard link, whose payload lies behind the header of another member."""
    # Only a scan finds the header of the link. It takes many requests for a remote blob, so there a selection without
    # the other member is refused.
    return not store.is_remote and any(
        other.offset_start == member.offset_start and is_named(member.name, [other.name])
        for other in scan_store(store)
    )


def remedy(command: str) -> str:
    """Return what to do about an index that does not fit its blob, which a command makes."""
    again = f"make it again with `blobpack {command}`"
    # commands such as merge can't rescan
    rescan = setting("stale", "rescan")
    return f"{again}, or open the blob with {rescan}" if rescan else again
