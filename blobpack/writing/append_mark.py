"""The mark that an append leaves behind an archive while it is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from blobpack.errors import StorageError
from blobpack.indexfile.footer import INDEX_MAGIC
from blobpack.indexfile.open import read_footer
from blobpack.model import IndexPlace
from blobpack.tar.header import BLOCK, END_OF_ARCHIVE

if TYPE_CHECKING:
    from blobpack.index.index import Index
    from blobpack.stores.base import Store


WINDOW_BYTES = 1 << 20
UNDER_WAY = b"blobpack: an append is at work here, or was interrupted; index: "


def archive_end(store: Store, scanned: Index) -> tuple[int, bytes]:
    """Find where an index goes behind an archive that was scanned, and which zeros are missing before it.

    Raises:
        StorageError: something that is no index of ours stands behind the archive's end.
    """
    report = scanned.report
    end = report.bytes_scanned if report else 0
    marked = end + len(END_OF_ARCHIVE)
    if store.size <= marked:
        return marked, bytes(marked - end)
    footer = read_footer(store)
    if footer is None:
        if place_left_behind(store, marked):
            return marked, END_OF_ARCHIVE
        if trailing_zeros(store, marked) < store.size - marked:
            raise StorageError(
                f"{store.url}: something other than zeros stands behind the archive's end at byte {marked}, "
                f"so an index can't go there: make one beside it"
            )
        return store.size + -store.size % BLOCK, bytes(-store.size % BLOCK)
    kept = footer.identity.archive_bytes if footer.identity else 0
    whole = kept == store.size - footer.region_bytes and kept >= marked
    return (kept, b"") if whole else (marked, END_OF_ARCHIVE)


def mark_of(place: IndexPlace) -> bytes:
    """Make the block that says an append is under way, and where the blob's index goes after it."""
    return (UNDER_WAY + place.encode() + b"\n").ljust(BLOCK, b"\0")


def place_marked(block: bytes) -> IndexPlace | None:
    """Read what such a block says; None when it is none."""
    places: tuple[IndexPlace, ...] = get_args(IndexPlace)
    return next((place for place in places if block == mark_of(place)), None)


def place_left_behind(store: Store, marked: int) -> IndexPlace | None:
    """Find what an index, or an append or embedding that was interrupted, left behind an archive's end.

    Args:
        store: The blob.
        marked: Where its end-of-archive marker ends.

    Returns:
        Where the blob's index was; None when what is there, if anything, is not ours.
    """
    if store.size <= marked:
        return None
    last = store.read_range(max(store.size - BLOCK, 0), store.size)
    pos = marked + trailing_zeros(store, marked) // BLOCK * BLOCK
    first = store.read_range(pos, min(pos + BLOCK, store.size))
    if first.startswith(INDEX_MAGIC) or last.endswith(INDEX_MAGIC):
        return "embed"
    return place_marked(first) or place_marked(last)


def trailing_zeros(store: Store, start: int) -> int:
    """Count the zeros from a place on, up to the store's end."""
    pos = start
    while pos < store.size:
        window = store.read_range(pos, min(pos + WINDOW_BYTES, store.size))
        if window.strip(b"\0"):
            return pos - start + len(window) - len(window.lstrip(b"\0"))
        pos += len(window)
    return pos - start
