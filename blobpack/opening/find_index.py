"""Find a blob's index, and check that it still fits the blob.

Strategy: an index inside the blob is tried first, because it travels with the blob and can't be mixed up; then the
index file beside it; then the offsets file, which may hold only some members, and says nothing about its blob. An index
that does not fit is an error and not skipped: its offsets would return other members' bytes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack._native.scan import index_header
from blobpack.checksum import crc32c
from blobpack.errors import (
    FormatError,
    MissingIndexWarning,
    StaleIndexError,
    StorageError,
    warn_caller,
)
from blobpack.index.index import Index
from blobpack.index.tables.offsets import offsets_path, read_offsets, void_path
from blobpack.indexfile.footer import INDEX_MAGIC, MEMBER_HEADER_BYTES, sidecar_of
from blobpack.indexfile.identity import IDENTITY_TAIL_BYTES
from blobpack.indexfile.open import load_stored, open_stored, read_footer
from blobpack.opening.freshness import check_fits, find_growth
from blobpack.stores.location import Location
from blobpack.stores.open import may_be_missing
from blobpack.tar.scan import scan_store
from blobpack.wording import remedy

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.identity import Identity
    from blobpack.model import Stale
    from blobpack.stores.base import Store


def find_index(store: Store, index: str | os.PathLike[str] | None, stale: Stale) -> Index:
    """Return the index that open_index opens."""
    return open_index(store, index, stale)[1]


def open_index(
    store: Store, index: str | os.PathLike[str] | None, stale: Stale
) -> tuple[Store, Index]:
    """Open the given index, or the first one inside or beside the blob, or else scan the blob.

    Args:
        store: The blob.
        index: Path or URL of an index, an offsets file or a foreign index; None to look for one.
        stale: What to do with an index that does not fit the blob any more: "refuse" it, or "rescan" the blob.

    Returns:
        The store to read the blob from, and its index; see given_index.

    Raises:
        StaleIndexError: the index does not fit the blob as it is now.
        FormatError: the index or the blob is damaged.
    """
    try:
        if index is not None:
            return given_index(store, index)
        found = first_found(store, embedded_index, sidecar_index, offsets_index)
    except (StaleIndexError, FormatError):
        if stale != "rescan":
            raise
        return store, scan_store(store)
    if found is not None:
        return store, found
    # A scan of a remote blob may take minutes, so the warning comes first. A local file is scanned before the warning: if it
    # is not a tar, the only message is the error.
    scanned = None if store.is_remote else scan_store(store)
    # imported here, because most blobs have an index
    from blobpack.foreign.index_command import how_to_index

    warn_caller(
        f"{store.url} has no index, so its headers are scanned; {how_to_index(store)}",
        MissingIndexWarning,
    )
    return store, scan_store(store) if scanned is None else scanned


def whole_index(store: Store) -> Index:
    """Open the index inside or beside a blob, else scan it. An offsets file is not used: it may hold only some members.

    Raises:
        StaleIndexError: the index does not fit the blob as it is now.
        FormatError: the index or the blob is damaged.
    """
    found = first_found(store, embedded_index, sidecar_index)
    return scan_store(store) if found is None else found


def first_found(store: Store, *places: Callable[[Store], Index | None]) -> Index | None:
    """Return the first index that one of these functions finds in a blob; None if none of them finds one."""
    for look in places:
        found = look(store)
        if found is not None:
            return found
    return None


def given_index(store: Store, path: str | os.PathLike[str]) -> tuple[Store, Index]:
    """Open the index file, offsets file or foreign index at a path or URL.

    Returns:
        store: The store of the blob; one that compares headers as it reads if the index is foreign, and was not compared
            with the whole blob.
        index: The index.

    Raises:
        BlobNotFoundError: there is no such file.
        StaleIndexError: it is the index of another blob, or of this blob before it changed.
        FormatError: the file is damaged, or no index.
    """
    # imported here and below, because most blobs are opened by their own index
    from blobpack.foreign.any_index import opened_index
    from blobpack.foreign.guard import HeaderGuard
    from blobpack.foreign.table import read_foreign

    location = Location.parse(path)
    with opened_index(location, store.cache) as file:
        if isinstance(file, Index):
            return store, check_fits(store, file, location.text)
        index = read_foreign(file, store)
    # an index with a report comes from a scan
    if store.fd is None and index.report is None:
        store = HeaderGuard(store, index, file.url, file.format)
    return store, index


def embedded_index(store: Store, *, believe: bool = False) -> Index | None:
    """Open the index behind the archive; None if there is none.

    Args:
        store: The blob.
        believe: Check only the sizes. For a caller that compares the whole archive with the index
            anyway.

    Raises:
        StaleIndexError: the archive before the index has changed.
        FormatError: the index's footer is damaged, or the file is an index or a collection itself.
    """
    footer = read_footer(store)
    if footer is None:
        return None
    start = store.size - footer.bytes_inside
    identity = _identity_at(store, footer, start)
    # a compressed blob's frames, index and seek table were written together: nothing to compare
    region = start + MEMBER_HEADER_BYTES
    if believe or store.is_compressed:
        return Index._from_stored(open_stored(*store.uncompressed(region), footer))
    cut = _check_bytes(store, footer, start, identity)
    index = Index._from_stored(open_stored(store, region, footer))
    if (pos := find_growth(store, index, cut)) is not None:
        raise StaleIndexError(
            f"{store.url}: the archive has changed since the index at its end was made: it ended at byte {pos} "
            f"then, and now has more bytes there; {remedy('index')}"
        )
    return index


def _identity_at(store: Store, footer: Footer, start: int) -> Identity:
    """Return the identity of the archive that a footer belongs to, if that may be the archive that ends at `start`.

    Raises:
        StaleIndexError: it is another archive, or several.
        FormatError: the file is an index or a collection itself.
    """
    identity = footer.identity
    if footer.region_bytes == store.size:
        what = "a collection of several blobs" if footer.blobs_bytes else "the index of one blob"
        raise FormatError(f"{store.url}: not a blob: this is {what}", offset=0)
    if footer.blobs_bytes:
        raise StaleIndexError(
            f"{store.url}: the index at its end is a collection of several blobs; {remedy('index')}"
        )
    # `cat` and `tar -A` can put another archive before an index, or a whole blob behind one
    if identity is None or start != identity.archive_bytes:
        raise StaleIndexError(
            f"{store.url}: the index at its end is for an archive of "
            f"{identity.archive_bytes if identity else 0} bytes, but there are {start} before it: the archive was "
            f"changed or joined with another; {remedy('index')}"
        )
    return identity


def _check_bytes(store: Store, footer: Footer, start: int, identity: Identity) -> int:
    """Compare the last bytes of an archive, and the first ones of the index behind it; return where those bytes start.

    Raises:
        StaleIndexError: they have changed.
    """
    # one read brings all: the archive's last bytes, the header of the index's member, and the index's first bytes
    cut = min(start, IDENTITY_TAIL_BYTES)
    begins = index_header(footer.region_bytes) + INDEX_MAGIC
    tail = store.peek_right(
        start - cut,
        start + MEMBER_HEADER_BYTES + len(INDEX_MAGIC),
        lambda found: crc32c(found[:cut]) == identity.tail_crc and found[cut:] == begins,
    )
    archive = tail[:cut]
    if crc32c(archive) != identity.tail_crc:
        raise StaleIndexError(
            f"{store.url}: the archive has changed since the index at its end was made: its last "
            f"{len(archive)} bytes before byte {start} have changed; {remedy('index')}"
        )
    # a tool that appends to the tar writes over the header first
    if tail[cut:] != begins:
        raise StaleIndexError(
            f"{store.url}: the beginning of the index was overwritten at byte {start}; {remedy('index')}"
        )
    return start - cut


def sidecar_index(store: Store) -> Index | None:
    """Open the index file beside the blob; None if there is none, or one of Megatron-Energon.

    Raises:
        StaleIndexError: it is the index of another blob, or of this blob before it changed.
    """
    if store.location is None:
        return None
    sidecar = sidecar_of(store.location)
    try:
        index = Index._from_stored(load_stored(sidecar, store.cache, store.counters))
    except StorageError as exc:
        if may_be_missing(exc):
            return None
        raise
    except FormatError:
        from blobpack.foreign.any_index import is_energons

        if is_energons(sidecar):
            return None
        raise
    return check_fits(store, index, sidecar.text)


def offsets_index(store: Store) -> Index | None:
    """Read the offsets file beside a local blob; None if there is none.

    Raises:
        StaleIndexError: its members do not lie behind headers that state their sizes.
    """
    if store.fd is None or store.location is None:
        return None
    path = offsets_path(store.location)
    # If an append was killed, the note is still there, and the offsets file may lack new members,
    # which could not be found. The old rows of the file still fit the blob, so only the note shows
    # that the file is out of date.
    if not path.exists() or void_path(store.location).exists():
        return None
    return check_fits(store, read_offsets(path), os.fspath(path))
