"""Open a blob: by its URL, or as one of a collection's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Unpack

from blobpack.errors import BlobChangedError, FormatError, StaleIndexError, StorageError
from blobpack.index.index import Index
from blobpack.model import (
    CACHE_BYTES_MIN,
    Hedge,
    Stale,
    check_choice,
    check_number,
)
from blobpack.opening.blob import made_blob
from blobpack.opening.find_index import open_index
from blobpack.opening.freshness import difference
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import local_path, location_of
from blobpack.stores.local import LocalStore
from blobpack.stores.open import open_pinned, open_tar
from blobpack.stores.zstd.store import open_seekable
from blobpack.tar.behind import warn_of_left_out

if TYPE_CHECKING:
    from blobpack.indexfile.shard_table import Shard
    from blobpack.opening.blob import Blob
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Counters


# An append writes several times, for some milliseconds each, so a few attempts always find a state that is whole.
OPENINGS_MAX = 20


@with_remote_options
def open_blob(
    url: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    *,
    stale: Stale = "refuse",
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = 10 << 30,
    hedge: Hedge = "batches",
    **remote: Unpack[RemoteOptions],
) -> Blob:
    """Open a blob to read its members.

    If no index is given, these places are tried, in this order: the index inside the blob; the index file beside it,
    `<blob>.idx`; beside a local blob, the offsets file `<stem>_offsets.pkl`. If there is none, the blob's headers are
    scanned, with a MissingIndexWarning. If the index records that there are members behind the end of the archive,
    which are not in the index, there is a LeftOutWarning. To see whether an index still fits the blob, the blob's size
    and last bytes are compared with those that the index recorded; for an index file beside a local blob also samples
    of its bytes.

    Args:
        url: Path, or file://, s3://, gs://, az:// or http(s):// URL, of a tar. It may be compressed as seekable zstd: then offsets are
            those in the uncompressed tar.
        index: An index, or the path or URL of an index file, an offsets file, or the index of another program; see
            docs/guides/foreign-indexes.md. The last two prove little about their blob, so their rows are compared with the
            headers of the blob: of a local blob all of them now, of a remote one those of the members that are read.
        stale: What to do with an index that does not fit the blob any more, or is damaged: "refuse" it with an error,
            or "rescan" the blob's headers.
        cache: A folder that keeps the bytes that are read from a remote blob, of its index and of payloads. Several
            processes may share it. To read these bytes again, only the request that opens the blob is sent; it shows
            whether the blob has changed. Local blobs are not cached.
        cache_bytes: Largest size of the folder in bytes, at least 1 MiB; the least recently used
            files are removed first.
        hedge: Which late requests are sent a second time, on another connection. A request is late if its answer takes
            longer than 95 of 100 recent answers, and more than twice their median. "batches": requests of batches,
            whose caller waits for the slowest one. "always": those of single reads, too. "never": none. At most one
            request in twenty is sent twice.
        remote: How remote blobs are reached: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no such blob, index or offsets file.
        StaleIndexError: the index does not fit the blob as it is now.
        BlobChangedError: the index has members beyond the blob's end.
        FormatError: the blob, the index or the offsets file is damaged.
        StorageError: the store could not be reached, or refused the request.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices, cache_bytes is too small, or the URL has
            an unsupported scheme.
    """
    access = Access.of("open_blob", remote)
    location = location_of("url", url, access=access)
    if index is not None and not isinstance(index, Index):
        index = location_of("index", index, access=access)
    check_choice("stale", stale, Stale)
    check_choice("hedge", hedge, Hedge)
    kept = cache_in(cache, cache_bytes)
    # The request that opens a blob can also fetch the blob's last bytes, which are the first to be
    # read of an index inside.
    for attempt in range(1, OPENINGS_MAX + 1):
        store = None
        try:
            store = open_tar(location, tail=not isinstance(index, Index), cache=kept)
            if isinstance(index, Index):
                return made_blob(store, index, hedge, opened_index=False)
            store, found = open_index(store, index, stale)
            warn_of_left_out(store.url, found.report)
            return made_blob(store, found, hedge, opened_index=True)
        except BaseException as exc:
            if store is not None:
                store.close()
            if store is None and location.is_local and os.path.isdir(location.path):  # noqa: PTH112
                what = (
                    "blobpack.open opens the blobs in it"
                    if index is None
                    else "an index belongs to one blob"
                )
                raise StorageError(f"{location} is a folder, not a blob: {what}") from exc
            # The sizes and bytes that were read may belong to different states of the blob.
            torn = isinstance(exc, FormatError | BlobChangedError) and has_changed(location, store)
            if not torn or attempt == OPENINGS_MAX:
                raise
    raise AssertionError("the last attempt returns or raises")


def open_shard(
    location: Location, shard: Shard, where: str, *, cache: Cache | None, counters: Counters
) -> Store:
    """Open a blob of a collection, and check that it is still the blob that was collected.

    For an object in S3 this takes no request: the collection records its size and ETag, and each read sends the ETag as
    If-Match (RFC 9110, 13.1.1), so that a replaced object is noticed by the read itself.

    Args:
        location: The location of the blob.
        shard: What the collection recorded about the blob.
        where: The collection, for messages.
        cache: Keeps what is read, if the blob is remote.
        counters: Count the requests for the blob.

    Raises:
        StaleIndexError: the blob is not the one that was collected.
    """
    # A collection that was made on disk and then uploaded with its blobs has no ETags: the blobs were local. Then, and
    # for local blobs, the blob's own bytes are compared.
    if shard.identity.version and not location.is_local:
        store = open_pinned(
            location, shard.blob_bytes, shard.identity.version, counters=counters, cache=cache
        )
        if not shard.is_compressed:
            return store
        seekable = open_seekable(store)
        found = "" if seekable else "it is not compressed any more"
        store = seekable or store
    else:
        # the tail comes with the request that opens a remote blob, and difference() compares it
        store = open_tar(location, tail=True, cache=cache, counters=counters)
        try:
            found = difference(store, shard.identity)
        except BaseException:
            store.close()
            raise
    if found:
        store.close()
        raise StaleIndexError(
            f"{location} is not the blob that {where} was made from: {found}; `blobpack collect` makes it again"
        )
    return store


def has_changed(location: Location, store: Store | None) -> bool:
    """Return whether a local blob was written or replaced since it was opened.

    Args:
        location: The blob.
        store: The blob as it was opened; None if it became shorter while it was opened.
    """
    if not location.is_local or store is None:
        return location.is_local
    with LocalStore(location) as now:
        return now.version != store.version


def cache_in(folder: str | os.PathLike[str] | None, most_bytes: int) -> Cache | None:
    """Return the cache in a folder; None if no folder is given.

    Raises:
        TypeError: the folder is not a path, or most_bytes not a whole number.
        ValueError: the folder is a URL, or most_bytes is less than 1 MiB.
    """
    # Also checked if there is no folder, so that a wrong number is an error for local and remote
    # blobs.
    check_number("cache_bytes", most_bytes, CACHE_BYTES_MIN)
    if folder is None:
        return None
    folder = local_path("cache", folder)
    # imported here: most callers have no cache, and importing blobpack stays light
    from blobpack.stores.cache import Cache

    return Cache(folder, most_bytes)
