"""A collection: many blobs read as one, whose index says of each member which blob it is in.

Names are found in the collection's own index. A blob is opened when a member of it is read, and no index of its own
is: far away not even that takes a request, because the collection knows its size and ETag.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blobpack.collection.list_blobs import folder_before, has_glob
from blobpack.collection.locations import location_from
from blobpack.collection.open_shard import open_shard
from blobpack.errors import (
    BlobNotFoundError,
    BlobpackError,
    FormatError,
    StorageError,
)
from blobpack.index.index import Index
from blobpack.indexfile.open import open_region, open_stored
from blobpack.indexfile.shard_table import Shards
from blobpack.model import Hedge, check_choice, check_number
from blobpack.reading.batch import Located
from blobpack.reading.blob import cache_in
from blobpack.reading.reader import Reader
from blobpack.stores.location import Location, location_of
from blobpack.stores.stats import Counters
from blobpack.threads import RecentlyUsed, map_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobpack.indexfile.footer import Footer
    from blobpack.indexfile.open import StoredIndex
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.stats import Stats

COLLECTION_NAME = "collection.idx"
OPEN_BLOBS_MAX = 64
BLOBS_OPENED_AT_ONCE = 16


class Collection(Reader):
    """Many blobs whose members are read by name, as if they were in one.

    A context manager. Safe to share between threads and after a fork; pickled, it is opened anew where it arrives.
    Of members with one name the last one is read, as in one blob.

    Attributes:
        index: All members, blob by blob. Offsets are those in a member's own blob.
        hedge: Whose requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = (
        "__weakref__",
        "_cache",
        "_closed",
        "_counters",
        "_location",
        "_lock",
        "_open",
        "_open_max",
        "_shards",
        "_stored",
        "hedge",
        "index",
    )

    def __init__(
        self,
        location: Location,
        stored: StoredIndex,
        shards: Shards,
        *,
        open_blobs: int = OPEN_BLOBS_MAX,
        cache: Cache | None = None,
        hedge: Hedge = "batches",
        counters: Counters | None = None,
    ) -> None:
        """Join an index and its table of blobs; open_collection reads both."""
        self._location = location
        self.hedge = hedge
        self._cache = cache
        self._counters = counters or Counters()
        self.index = Index.from_stored(stored)
        self._stored = stored
        self._shards = shards
        self._open_max = open_blobs
        # one that is evicted is not closed: another thread may be reading from it
        self._open: RecentlyUsed[int, Store] = RecentlyUsed(open_blobs)
        self._closed = False

    @property
    def url(self) -> str:
        """Where the collection's index lies."""
        return self._location.text

    @property
    def blob_urls(self) -> list[str]:
        """Where its blobs lie, in the order of their members."""
        return [self._location_of(number).text for number in range(len(self._shards))]

    def url_of(self, name: str) -> str:
        """Tell in which blob a member is.

        Raises:
            MemberNotFoundError: there is none of that name.
        """
        number = self._shards.number_of(self.index.row_of(name))
        return self._location_of(number).text

    def _location_of(self, number: int) -> Location:
        return location_from(self._location.folder, self._shards[number].name, self.url)

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: object) -> bool:
        return name in self.index

    @property
    def stats(self) -> Stats:
        """What reading its index and its blobs has cost until now; of local ones, nothing."""
        return self._counters.snapshot()

    def locate(self, names: Sequence[str]) -> tuple[list[Located], BlobpackError | None]:
        """Find names, and open their blobs, up to the first that can't be, and say why."""
        if self._closed:
            raise StorageError(f"{self.url}: the collection is closed")
        found = self.index.search(names)
        numbers = [hit and self._shards.number_of(hit.row) for hit in found]
        stores = self._opened(dict.fromkeys(number for number in numbers if number is not None))
        located: list[Located] = []
        for name, hit, number in zip(names, found, numbers, strict=True):
            if hit is None or number is None:
                return located, self._not_found(name)
            store = stores[number]
            if isinstance(store, BlobpackError):
                return located, store
            _, start, end, checksum = hit
            located.append(Located(store, name, start, end, checksum))
        return located, None

    def _opened(self, numbers: dict[int, None]) -> dict[int, Store | BlobpackError]:
        """Open blobs that are not open, side by side; in place of one that can't be, why."""
        stores: dict[int, Store | BlobpackError] = {**self._open.get_many(numbers)}
        missing = [number for number in numbers if number not in stores]
        if len(missing) < 2:
            stores |= zip(missing, map(self._open_one, missing), strict=True)
        else:
            opened = map_ahead(
                self._open_one, missing, threads=BLOBS_OPENED_AT_ONCE, name="open-blobs"
            )
            stores |= zip(missing, opened, strict=True)
        for number in missing:
            store = stores[number]
            if not isinstance(store, BlobpackError):
                stores[number] = self._open.put(number, store)
        return stores

    def _open_one(self, number: int) -> Store | BlobpackError:
        try:
            return open_shard(
                self._location_of(number),
                self._shards[number],
                self.url,
                cache=self._cache,
                counters=self._counters,
            )
        except BlobpackError as exc:
            return exc

    def close(self) -> None:
        """Close the blobs that are open; again is harmless."""
        self._closed = True
        for store in self._open.clear():
            store.close()

    def __reduce__(self) -> tuple[Callable[..., Collection], tuple[object, ...]]:
        again = (
            self._location,
            self._stored,
            self._shards,
            self._open_max,
            self._cache,
            self.hedge,
        )
        return _reopened, again

    def __repr__(self) -> str:
        return f"<Collection {self.url}: {len(self)} members of {len(self._shards)} blobs>"


def open_collection(
    url: str | os.PathLike[str],
    *,
    open_blobs: int = OPEN_BLOBS_MAX,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = 10 << 30,
    hedge: Hedge = "batches",
) -> Collection:
    """Open a collection that `collect`, or `pack` with a shard size, has made.

    Args:
        url: The collection's file, `<name>.idx`, at a path or s3:// URL; or a folder, a prefix or a glob of its
            blobs, where it is `collection.idx`.
        open_blobs: At most so many blobs are kept open.
        cache: A folder that keeps what is read, as of open_blob.
        cache_bytes: How much the folder may take.
        hedge: Which requests are sent a second time when their answers are late, as of open_blob.

    Raises:
        BlobNotFoundError: there is no collection.
        FormatError: it is damaged, or the index of one blob.
        StorageError: it could not be reached.
        TypeError: an argument has another type.
        ValueError: a choice that there is not, or a number out of range.
    """
    given = location_of("url", url)
    check_choice("hedge", hedge, Hedge)
    check_number("open_blobs", open_blobs, 0)
    location = collection_of(given)
    kept = cache_in(cache, cache_bytes)
    try:
        store, footer = open_region(location, kept)
    except BlobNotFoundError as exc:
        raise BlobNotFoundError(
            f"{location}: there is no collection; `blobpack collect {given}` makes one of the blobs there"
        ) from exc
    try:
        if not footer.blobs_bytes:
            raise FormatError(
                f"{location}: the index of one blob, and not a collection: open_blob opens it",
                offset=0,
            )
        stored = open_stored(store, 0, footer)
        shards = read_shards(store, footer)
    except BaseException:
        store.close()
        raise
    return Collection(
        location,
        stored,
        shards,
        open_blobs=open_blobs,
        cache=kept,
        hedge=hedge,
        counters=store.counters,
    )


def read_shards(store: Store, footer: Footer) -> Shards:
    """Read the section of blobs.

    Raises:
        FormatError: it is damaged.
    """
    packed = store.peek(footer.blobs, footer.blobs + footer.blobs_bytes)
    return Shards(packed, footer.row_count, store.url, footer.blobs)


def collection_of(location: Location) -> Location:
    """Return the location of the collection of a folder, a prefix or a glob; a file is the collection itself."""
    if has_glob(location):
        return folder_before(location).below(COLLECTION_NAME)
    if location.text.endswith(".idx"):
        return location
    if location.is_local and os.path.isfile(location.path):  # noqa: PTH113
        return location
    return location.as_folder.below(COLLECTION_NAME)


def _reopened(
    location: Location,
    stored: StoredIndex,
    shards: Shards,
    open_blobs: int,
    cache: Cache | None,
    hedge: Hedge,
) -> Collection:
    return Collection(location, stored, shards, open_blobs=open_blobs, cache=cache, hedge=hedge)
