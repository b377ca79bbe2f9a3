"""The end of an archive before something is written there, and the mark that stands there during a change.

The mark says that blobpack left the bytes behind the archive, and that they may be overwritten. `append_local` and
`embed` explain when they write it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from blobpack._native.scan import index_size_in
from blobpack.errors import FormatError, StorageError
from blobpack.indexfile.open import read_footer
from blobpack.model import IndexPlace
from blobpack.tar.behind import UNDER_WAY
from blobpack.tar.header import BLOCK, END_OF_ARCHIVE

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.indexfile.footer import Footer
    from blobpack.stores.base import Store


ZEROS_READ_BYTES = 1 << 20


def archive_end(store: Store, scanned: Index) -> tuple[int, bytes]:
    """Find where an index can be written behind an archive, and the zeros that must be written before it.

    Args:
        store: The blob.
        scanned: Its members, from a scan; the report says where the last one ends.

    Returns:
        archive_bytes: Where the index goes; the archive ends there.
        marker: The bytes to write just before it: those that are missing of the end-of-archive marker, or of the last
            block.

    Raises:
        StorageError: something other than zeros or an index follows the end of the archive.
    """
    report = scanned.report
    end = report.bytes_scanned if report else 0
    marked = end + len(END_OF_ARCHIVE)
    if store.size <= marked:
        return marked, bytes(marked - end)
    # The bytes behind the marker may be another tar, appended with cat, or the user's own data. They are overwritten
    # only if they are recognised as an index, or as what an interrupted append or embedding left.
    if place_left_behind(store, marked) is None:
        if trailing_zeros(store, marked) < store.size - marked:
            raise StorageError(
                f"{store.url}: something other than zeros follows the archive's end at byte {marked}, "
                f"so an index can't go there: make one beside it"
            )
        # GNU tar fills up its last record of 10,240 bytes with zeros. They are kept as part of the archive.
        return store.size + -store.size % BLOCK, bytes(-store.size % BLOCK)
    # The identity says how long the archive was, zeros behind the marker included. If it ends behind that now, the
    # index is stale: tar -r has written over it, say. Then the scan decides.
    footer = own_footer(store)
    kept = footer.identity.archive_bytes if footer and footer.identity else 0
    return (kept, b"") if kept >= marked else (marked, END_OF_ARCHIVE)


def own_footer(store: Store) -> Footer | None:
    """Read the footer of the index that was written into this blob.

    Returns:
        The footer. None if there is none, if it is damaged, or if it came with another blob that was joined to this one:
        then the index is for an archive that ends elsewhere.
    """
    try:
        footer = read_footer(store)
    except FormatError:
        return None
    if footer is None or footer.identity is None:
        return None
    is_own = footer.identity.archive_bytes == store.size - footer.bytes_inside
    return footer if is_own else None


def mark_of(place: IndexPlace) -> bytes:
    """Make the block that says that an append is at work, and where the index of the blob was before."""
    return (UNDER_WAY + place.encode() + b"\n").ljust(BLOCK, b"\0")


def read_mark(block: bytes) -> IndexPlace | None:
    """Read where the index was from a block that mark_of made; return None for any other block."""
    places: tuple[IndexPlace, ...] = get_args(IndexPlace)
    return next((place for place in places if block == mark_of(place)), None)


def place_left_behind(store: Store, marked: int) -> IndexPlace | None:
    """Recognise what an index, or an interrupted append or embedding, has left behind the end of an archive.

    Args:
        store: The blob.
        marked: Where the end-of-archive marker ends.

    Returns:
        Where the index of the blob was; None if the bytes behind the marker are not blobpack's, or there are none.
    """
    if store.size <= marked:
        return None
    # A mark or an index may begin at any block behind the marker, since zeros of the archive can come first. Both ends
    # of an index are looked for: an interrupted embedding leaves an index without its footer, and a tar tool that wrote
    # over the start of an index leaves the footer.
    pos = marked + trailing_zeros(store, marked) // BLOCK * BLOCK
    first = store.read_range(pos, min(pos + BLOCK, store.size))
    last = store.read_range(max(store.size - BLOCK, 0), store.size)
    if (place := read_mark(first) or read_mark(last)) is not None:
        return place
    size = index_size_in(first)
    if size is not None:
        # The index of the first of several joined blobs is not the last thing in the file: members follow.
        end = pos + BLOCK + size
        return "embed" if end + trailing_zeros(store, end) >= store.size else None
    return "embed" if own_footer(store) else None


def trailing_zeros(store: Store, start: int) -> int:
    """Count the zeros from an offset on, up to the first other byte or the end of the store."""
    pos = start
    while pos < store.size:
        window = store.read_range(pos, min(pos + ZEROS_READ_BYTES, store.size))
        if window.strip(b"\0"):
            return pos - start + len(window) - len(window.lstrip(b"\0"))
        pos += len(window)
    return pos - start
