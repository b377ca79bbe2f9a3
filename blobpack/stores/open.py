"""Opens the store for a path or URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import BlobNotFoundError
from blobpack.stores.access.objects import open_object
from blobpack.stores.base import OPENING_TAIL_BYTES
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.zstd.format import SEEK_TABLE_BYTES_MIN

if TYPE_CHECKING:
    import os

    from blobpack.errors import StorageError
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.http.store import HttpStore
    from blobpack.stores.stats import Counters

ZSTD_SUFFIXES = (".zst", ".tzst")
FORBIDDEN = 403


def open_store(
    url: str | os.PathLike[str],
    *,
    tail: bool = False,
    cache: Cache | None = None,
    counters: Counters | None = None,
) -> Store:
    """Open the store of a blob without decompressing it.

    Args:
        url: A path or URL.
        tail: If the blob is remote, fetch its last bytes in the opening request: they may hold an index.
        cache: Caches what is read, if the blob is remote and its server names versions of it.
        counters: Count the requests, if the blob is remote; None: new counters.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the blob can't be opened, or the server refused or could not be reached.
        ValueError: the URL is of another kind, or names no object.
    """
    location = Location.parse(url)
    if location.is_local:
        return LocalStore(location)
    tail_bytes = OPENING_TAIL_BYTES if tail else 0
    if location.has_key:
        store = open_object(location, tail_bytes=tail_bytes, counters=counters)
        # Without an ETag, a changed object of the same size would be read from the cache as it was.
        return cache.around(store) if cache and store.version else store
    from blobpack.stores.http.store import HttpStore

    return _cached_if_pinned(HttpStore(location, tail_bytes=tail_bytes, counters=counters), cache)


def _cached_if_pinned(store: HttpStore, cache: Cache | None) -> Store:
    # Without ETag and Last-Modified the version is only the size: a changed file of the same size would be read from
    # the cache as it was.
    return cache.around(store) if cache and store.is_pinned else store


def open_pinned(
    location: Location, size: int, version: str, *, counters: Counters, cache: Cache | None = None
) -> Store:
    """Open the store of a remote blob whose size and version are known.

    For an object this sends no request: a read will notice if the object is no longer this version.

    Args:
        location: The blob, which is remote.
        size: Size in bytes.
        version: Version that the blob must have.
        counters: Count the requests for the blob's bytes.
        cache: Caches what is read.

    Raises:
        BlobChangedError: the blob behind HTTP has another version.
        StorageError: the server refused or could not be reached.
    """
    if location.has_key:
        store = open_object(location, size=size, version=version, counters=counters)
        return cache.around(store) if cache else store
    from blobpack.stores.http.store import HttpStore

    return _cached_if_pinned(HttpStore(location, version=version, counters=counters), cache)


def open_tar(
    url: str | os.PathLike[str],
    *,
    tail: bool = False,
    cache: Cache | None = None,
    counters: Counters | None = None,
) -> Store:
    """Open the store of a blob; if the blob is seekable zstd, the store reads the decompressed tar.

    Seekable zstd is recognised by the last bytes. For a remote blob they are checked only if `tail` fetches them or if
    the name ends in .zst or .tzst, so that other blobs cost no second request.

    Args:
        url: See open_store.
        tail: See open_store.
        cache: See open_store; it holds the compressed bytes.
        counters: See open_store.

    Raises:
        FormatError: the blob is seekable zstd, and its seek table is damaged.
        StorageError: see open_store.
        ValueError: see open_store.
    """
    location = Location.parse(url)
    tail = tail or location.address.lower().endswith(ZSTD_SUFFIXES)
    store = open_store(location, tail=tail, cache=cache, counters=counters)
    if not tail and store.is_remote:
        return store
    from blobpack.stores.zstd.store import open_seekable

    # A second read of a local file costs little, so only the footer of the seek table is read at first.
    tail_bytes = OPENING_TAIL_BYTES if store.is_remote else SEEK_TABLE_BYTES_MIN
    try:
        return open_seekable(store, tail_bytes) or store
    except BaseException:
        store.close()
        raise


def is_denied(exc: StorageError) -> bool:
    """Return whether S3 has refused a request because the caller lacks a right, and not because of a wrong key."""
    return exc.status == FORBIDDEN and "AccessDenied" in str(exc)


def may_be_missing(exc: StorageError) -> bool:
    """Return whether an error means that there is no such object, or none that the caller may know of."""
    # S3 answers 403 and not 404 for a missing object, if the caller may not list the bucket
    return isinstance(exc, BlobNotFoundError) or exc.status == FORBIDDEN
