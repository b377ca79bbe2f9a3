"""Compare members of an index that records nothing about its tar with the headers before them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blobpack.errors import StaleIndexError
from blobpack.tar.header import BLOCK, begins_tar, size_in
from blobpack.tar.scan import scan_store
from blobpack.wording import remedy

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.model import Member
    from blobpack.stores.base import Store


# Each header of a remote blob takes one request, so only some are read, evenly spaced from the first to the last.
HEADERS_CHECKED = 16
# a header, an extended header and three blocks of its data: names of about 1,500 bytes
HEADERS_BYTES = 5 * BLOCK


def check_headers(
    store: Store,
    index: Index,
    where: str,
    *,
    most: int = HEADERS_CHECKED,
    format: str = "",
) -> Index:
    """Check that some members of an index, the first and the last among them, lie behind their headers.

    Args:
        store: The blob.
        index: The index.
        where: Path or URL of the index, for messages.
        most: How many members are checked at most.
        format: Format of the index; empty for an offsets file.

    Raises:
        StaleIndexError: a member does not, or the header has another name.
    """
    count = len(index)
    for i in range(min(count, most)):
        member = index._member_at((count - 1) * i // max(1, min(count, most) - 1))
        start = member.offset_start
        # a member that can't lie in the blob has no header to read
        fits = member.offset_end <= store.size and start >= BLOCK
        check_header(store, member, read_before(store, start) if fits else b"", where, format)
    return index


def check_header(store: Store, member: Member, before: bytes, where: str, format: str) -> None:
    """Check that a member lies behind its header.

    Args:
        store: The blob.
        member: The member.
        before: The blocks before its payload, as read_before reads them.
        where: Path or URL of the index, for messages.
        format: Format of the index; empty for an offsets file.

    Raises:
        StaleIndexError: it does not, or the header has another name.
    """
    start, header = member.offset_start, before[-BLOCK:]
    # begins_tar accepts a block of zeros, which may begin an empty tar but is no header. size_in is None if the size is
    # in a pax record or base-256: then only the header's own checksum is compared.
    if not (begins_tar(header) and any(header) and size_in(header) in (None, member.size)):
        raise StaleIndexError(
            f"{where} does not fit {store.url} as it is now: there is no header before member {member.name!r} at "
            f"byte {start}; {remedy_for(format)}"
        )
    names = names_in(before)
    if names and not is_named(member.name, names) and not is_link(store, member):
        raise StaleIndexError(
            f"{where} does not fit {store.url} as it is now: at byte {start} it has member {member.name!r}, and the "
            f"header there names {names[-1]!r}; {remedy_for(format)}"
        )


def read_before(store: Store, start: int) -> bytes:
    """Read the header before a payload, and what may be a longer name before it."""
    return store.read_range(max(start % BLOCK, start - HEADERS_BYTES), start)


def names_in(before: bytes) -> list[str]:
    """Return the possible names of the member whose header ends some blocks; none if the name is not known.

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


def remedy_for(format: str) -> str:
    """Return what to do about an index of a foreign format, or an offsets file, that does not fit its blob."""
    return remedy("index", format) if format else remedy("offsets")
