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
    """Open the store for a path, file://, s3:// or http(s):// URL.

    Args:
        url: Where the blob lies.
        tail: Of a blob far away, fetch the last bytes in the request that opens it: an index may be there.
        cache: Of a blob far away, keep what is read there, unless its server does not tell its versions apart.

    Raises:
        BlobNotFoundError: there is no such blob.
        StorageError: the store could not be reached, or refused.
        ValueError: a URL of another kind.
    """
    location = Location.parse(url)
    if location.is_local:
        return LocalStore(location)
    tail_bytes = TAIL_BYTES if tail else 0
    if location.is_s3:
        from blobpack.stores.s3.store import S3Store

        store: Store = S3Store(location.text, tail_bytes=tail_bytes)
        return cache.around(store) if cache else store
    from blobpack.stores.http.store import HttpStore

    found = HttpStore(location.text, tail_bytes=tail_bytes)
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
        from blobpack.stores.s3.object import S3Object

        store = S3Object(location.text, size=size, version=version)
    else:
        from blobpack.stores.http.store import HttpStore

        store = HttpStore(location.text, version=version)
    store.counters = counters
    return cache.around(store) if cache else store


def open_tar(
    url: str | os.PathLike[str], *, tail: bool = False, cache: Cache | None = None
) -> Store:
    """Open the store of a blob: of one that is seekable zstd, what it decompresses to.

    Whether it is, its last bytes say. Of a blob far away they are looked at if they come with the request that
    opens it, as the caller says, or if its name ends in .zst or .tzst.

    Args:
        url: Where the blob lies.
        tail: As of open_store.
        cache: As of open_store; what is kept is compressed if the blob is.

    Raises:
        FormatError: it is seekable zstd, and the seek table is damaged.
        The same as open_store.
    """
    location = Location.parse(url)
    tail = tail or location.text.lower().endswith(ZSTD_SUFFIXES)
    store = open_store(location, tail=tail, cache=cache)
    if not tail and store.is_remote:
        return store
    from blobpack.stores.zstd import open_seekable

    # of a file the table's own last bytes are enough to begin with
    tail_bytes = TAIL_BYTES if store.is_remote else SEEK_TABLE_BYTES_MIN
    try:
        return open_seekable(store, tail_bytes) or store
    except BaseException:
        store.close()
        raise
