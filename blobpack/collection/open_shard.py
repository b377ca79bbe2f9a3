"""A blob of a collection, opened as it was collected: far away even without a request, for its size and ETag are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.errors import StaleIndexError
from blobpack.reading.freshness import difference
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
    """Open a blob as it was collected.

    Args:
        location: Where it lies.
        shard: What it must be.
        where: The collection, for messages.
        cache: Keeps what is read of it, if it is far away.
        counters: Count what reading it costs.

    Raises:
        StaleIndexError: it is another one.
    """
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
        store = open_tar(location, tail=True, cache=cache)
        try:
            found = difference(store, shard.identity)
        except BaseException:
            store.close()
            raise
    if found:
        store.close()
        raise StaleIndexError(
            f"{location} is not the blob that {where} was made of: {found}; `blobpack collect` makes it anew"
        )
    return store
