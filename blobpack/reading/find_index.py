"""Where a blob's index is, and whether it is of the blob as it is now: seen from the archive itself, without a scan."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from blobpack.checksum import crc32c
from blobpack.errors import (
    BlobNotFoundError,
    FormatError,
    MissingIndexWarning,
    StaleIndexError,
    StorageError,
)
from blobpack.index.index import Index
from blobpack.index.offsets import offsets_path, read_offsets
from blobpack.indexfile.footer import INDEX_MAGIC, REGION_HEADER, sidecar_of
from blobpack.indexfile.identity import IDENTITY_TAIL_BYTES
from blobpack.indexfile.open import load_stored, open_stored, read_footer
from blobpack.reading.freshness import REMEDY, _checked, _grown_into_padding, check_headers
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.tar.scan import scan_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.model import Stale
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache

FORBIDDEN = 403


def find_index(store: Store, index: str | os.PathLike[str] | None, stale: Stale) -> Index:
    """Open the index of a blob: one given, else the one inside, beside, the offsets file, else scan.

    Args:
        store: The blob.
        index: Path or URL of an index or offsets file.
        stale: What to do with an index of another state of the blob: refuse it, or scan the blob anew.

    Raises:
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the index or the blob is damaged.
    """
    try:
        if index is not None:
            return given_index(store, index)
        found = first_found(store, embedded_index, sidecar_index, offsets_index)
    except (StaleIndexError, FormatError):
        if stale != "rescan":
            raise
        return scan_store(store)
    if found is not None:
        return found
    scanned = scan_store(store)
    place = f" -o {sidecar_of(store.location)}" if store.is_remote and store.location else ""
    warnings.warn(
        f"{store.url} has no index, so its headers were scanned; `blobpack index {store.url}{place}` makes one "
        f"that opens at once",
        MissingIndexWarning,
        stacklevel=4,
    )
    return scanned


def whole_index(store: Store) -> Index:
    """Open the index inside or beside a blob, else scan: an offsets file may hold but a part of the members.

    Raises:
        StaleIndexError: the index is not of the blob as it is now.
        FormatError: the index or the blob is damaged.
    """
    found = first_found(store, embedded_index, sidecar_index)
    return scan_store(store) if found is None else found


def first_found(store: Store, *places: Callable[[Store], Index | None]) -> Index | None:
    """Look for an index in one place after the other."""
    for look in places:
        found = look(store)
        if found is not None:
            return found
    return None


def given_index(store: Store, path: str | os.PathLike[str]) -> Index:
    """Open the index or offsets file at a path or URL.

    Raises:
        BlobNotFoundError: there is none.
        StaleIndexError: it is of another blob, or another state of it.
    """
    location = Location.parse(path)
    index = read_any_index(location, store.cache)
    check = check_headers if index.identity is None else _checked
    return check(store, index, location.text)


def read_any_index(path: str | os.PathLike[str], cache: Cache | None = None) -> Index:
    """Open an index file, or read an offsets file, whichever is there.

    Raises:
        BlobNotFoundError: there is none.
        FormatError: it is damaged, or neither.
    """
    location = Location.parse(path)
    if location.is_local:
        with LocalStore(location) as file:
            begins = file.read_range(0, min(len(INDEX_MAGIC), file.size))
        if begins != INDEX_MAGIC:
            return read_offsets(location)
    return Index.from_stored(load_stored(location, cache))


def embedded_index(store: Store, *, believe: bool = False) -> Index | None:
    """Open the index behind the archive; None when there is none.

    Args:
        store: The blob.
        believe: Only the sizes must fit: for who compares the whole archive with the index anyway.

    Raises:
        StaleIndexError: the archive before it has changed.
        FormatError: its footer is damaged.
    """
    footer = read_footer(store)
    if footer is None:
        return None
    start = store.size - footer.region_bytes
    identity = footer.identity
    if identity is None or start != identity.archive_bytes or start < 0:
        raise StaleIndexError(
            f"{store.url}: the index at its end is of an archive of "
            f"{identity.archive_bytes if identity else 0} bytes, and {start} are before it: the archive was "
            f"changed or joined with another; {REMEDY}"
        )
    # a compressed blob's frames, index and seek table were written together: nothing to compare
    if believe or store.is_compressed:
        return Index.from_stored(open_stored(*store.uncompressed(start), footer))
    tail = store.peek(
        max(0, start - IDENTITY_TAIL_BYTES), min(start + REGION_HEADER.size, store.size)
    )
    archive, header = (
        tail[: min(start, IDENTITY_TAIL_BYTES)],
        tail[min(start, IDENTITY_TAIL_BYTES) :],
    )
    if crc32c(archive) != identity.tail_crc or not header.startswith(INDEX_MAGIC):
        raise StaleIndexError(
            f"{store.url}: the archive has changed since the index at its end was made: its last "
            f"{len(archive)} bytes before byte {start} are others; {REMEDY}"
        )
    index = Index.from_stored(open_stored(store, start, footer))
    if (pos := _grown_into_padding(store, index, archive, start)) is not None:
        raise StaleIndexError(
            f"{store.url}: the archive has changed since the index at its end was made: it ended at byte {pos} "
            f"then, and goes on there now; {REMEDY}"
        )
    return index


def void_path(blob: str | os.PathLike[str]) -> Path:
    """Return the path of the note beside a local blob that an append leaves while the files beside it lag behind."""
    path = Path(blob)
    return path.with_name(f".{path.name}.idx.void")


def sidecar_index(store: Store) -> Index | None:
    """Open the index file beside the blob; None when there is none.

    Raises:
        StaleIndexError: it is of another blob, or another state of it.
    """
    if store.location is None:
        return None
    sidecar = sidecar_of(store.location)
    try:
        index = Index.from_stored(load_stored(sidecar, store.cache))
    except BlobNotFoundError:
        return None
    except StorageError as exc:
        if exc.status == FORBIDDEN:  # S3 says so of what isn't there, to who may not list
            return None
        raise
    return _checked(store, index, sidecar.text)


def offsets_index(store: Store) -> Index | None:
    """Read the offsets file beside a local blob; None when there is none.

    Raises:
        StaleIndexError: its rows do not stand behind headers of their size.
    """
    if store.fd is None or store.location is None:
        return None
    path = offsets_path(store.location)
    if not path.exists() or void_path(store.location).exists():
        return None
    return check_headers(store, read_offsets(path), os.fspath(path))
