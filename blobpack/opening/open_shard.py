"""Open a blob of a collection, and check that it is still the blob that was collected.

For an object in S3 this takes no request: the collection records its size and ETag, and each read sends the ETag as
If-Match (RFC 9110, 13.1.1), so that a replaced object is noticed by the read itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import StaleIndexError
from blobpack.opening.freshness import difference
from blobpack.stores.open import open_pinned, open_tar
from blobpack.stores.zstd import open_seekable

if TYPE_CHECKING:
    from blobpack.indexfile.shard_table import Shard
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Counters


def open_shard(
    location: Location, shard: Shard, where: str, *, cache: Cache | None, counters: Counters
) -> Store:
    """Open a blob of a collection.

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
