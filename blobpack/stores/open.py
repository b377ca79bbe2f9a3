"""A path or URL → the store that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.stores.base import TAIL_BYTES
from blobpack.stores.local import LocalStore
from blobpack.stores.location import Location
from blobpack.stores.zstd_format import SEEK_TABLE_BYTES_MIN

if TYPE_CHECKING:
    import os

    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.http.ranged import RangedStore
    from blobpack.stores.stats import Counters

ZSTD_SUFFIXES = (".zst", ".tzst")


def open_store(
    url: str | os.PathLike[str], *, tail: bool = False, cache: Cache | None = None
) -> Store:
    """Open the store of a blob as it is stored: of a compressed one, the compressed bytes.

    Args:
        url: A path, or a file://, s3:// or http(s):// URL.
        tail: If the blob is remote, fetch its last bytes in the request that opens it: an index may be there.
        cache: Keeps what is read, if the blob is remote and its server tells versions of it apart.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the store could not be reached, or refused.
        ValueError: the URL is of another kind, or names no object.
    """
    location = Location.parse(url)
    if location.is_local:
        return LocalStore(location)
    tail_bytes = TAIL_BYTES if tail else 0
    if location.is_s3:
        from blobpack.stores.s3.store import S3Store

        store: Store = S3Store(location, tail_bytes=tail_bytes)
        return cache.around(store) if cache else store
    from blobpack.stores.http.store import HttpStore

    found = HttpStore(location, tail_bytes=tail_bytes)
    return cache.around(found) if cache and found.is_pinned else found


def open_pinned(
    location: Location, size: int, version: str, *, counters: Counters, cache: Cache | None = None
) -> Store:
    """Open the store of a remote blob whose size and version are known.

    In S3 that takes no request: a read finds out whether the object is still that version.

    Args:
        location: The blob in S3 or behind HTTP.
        size: Its bytes.
        version: Its version.
        counters: Count the requests for its bytes.
        cache: Keeps what is read.

    Raises:
        BlobChangedError: a blob behind HTTP is another version.
        StorageError: the server could not be reached, or refused.
    """
    store: RangedStore
    if location.is_s3:
        from blobpack.stores.s3.store import S3Store

        store = S3Store(location, size=size, version=version, counters=counters)
    else:
        from blobpack.stores.http.store import HttpStore

        store = HttpStore(location, version=version)
        store.counters = counters
    return cache.around(store) if cache else store


def open_tar(
    url: str | os.PathLike[str], *, tail: bool = False, cache: Cache | None = None
) -> Store:
    """Open the store of a blob: of one that is seekable zstd, the tar that it decompresses to.

    The last bytes of a blob tell whether it is seekable zstd. For a remote blob they are looked at only if `tail`
    fetches them, or if the name ends in .zst or .tzst, so that no other blob costs a second request.

    Args:
        url: As open_store.
        tail: As open_store.
        cache: As open_store; compressed bytes stay compressed in it.

    Raises:
        FormatError: the blob is seekable zstd, and its seek table is damaged.
        The same as open_store.
    """
    location = Location.parse(url)
    tail = tail or location.text.lower().endswith(ZSTD_SUFFIXES)
    store = open_store(location, tail=tail, cache=cache)
    if not tail and store.is_remote:
        return store
    from blobpack.stores.zstd import open_seekable

    # a second read of a file costs little, so only the seek table's footer is read at first
    tail_bytes = TAIL_BYTES if store.is_remote else SEEK_TABLE_BYTES_MIN
    try:
        return open_seekable(store, tail_bytes) or store
    except BaseException:
        store.close()
        raise
