"""The collection: many blobs that are read as one.

Strategy: a collection has one index of all members, and a table of its blobs. Names are looked up
in that index, so the indexes of the blobs are never read. A blob is opened when the first of its
members is read. Opening an object in S3 takes no request, because the table holds its size and
ETag.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Unpack
from weakref import ref

from blobpack.errors import (
    BlobNotFoundError,
    BlobpackError,
    FormatError,
    StorageError,
)
from blobpack.index.index import Index
from blobpack.index.stored.picked import ROWS_IN_MEMORY_MAX
from blobpack.indexfile.open import open_table
from blobpack.look_ahead import map_ahead
from blobpack.model import Hedge, check_choice, check_number
from blobpack.opening.batch import Located
from blobpack.opening.blob_rows import BlobPart, BlobRows, BlobTable
from blobpack.opening.kind import collection_location, kind_of
from blobpack.opening.locations import allowed_places, check_allowed, location_from
from blobpack.opening.open_blob import cache_in, open_shard
from blobpack.opening.reader import Reader
from blobpack.quoting import quoted
from blobpack.recently_used import RecentlyUsed
from blobpack.stores.access.remote import Access, RemoteOptions, with_remote_options
from blobpack.stores.arguments import location_of
from blobpack.stores.stats import Counters
from blobpack.wording import counted

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobpack._native.results import FoundRow
    from blobpack.indexfile.identity import Identity
    from blobpack.indexfile.open import StoredIndex
    from blobpack.indexfile.shard_table import Shards
    from blobpack.model import CheckedWhich, Which
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Stats

# An open local blob takes a file descriptor, of which a process may have 1,024 by default on Linux. A blob in S3 takes
# none and, unless it is compressed, is opened again without a request.
OPEN_BLOBS_MAX = 64
# opening a compressed blob, or one behind HTTP, waits for a server
BLOBS_OPENED_AT_ONCE = 16


class Collection(Reader):
    """Many blobs whose members are read by name, as Members or by row, as if they were in one blob.

    A member is named by its name, which means the last member of that name; by its Member, which means the row with
    this name, these offsets and, if both are known, this CRC-32C; or by its row, negative from the end. So
    `collection[name]`, `name in collection`, `len(collection)` and iteration over names work as for a dict. If several
    blobs have a member of one name at equal offsets, and the index has no checksums, a Member means the last of them.
    Indexes that were cut from `collection.index` by slices, rows, masks, `select` or `+` are read, copied and extracted
    by their rows, so each of these members is read from its own blob.

    A context manager, also with `async with`. Safe to share between threads and after a fork. The process that
    unpickles a collection opens its file and blobs again, also if the collection was closed. If a collection has no
    file, its index is pickled, too. If several members have one name, the last one is read, as from one blob.

    Attributes:
        index: All members, blob by blob. Offsets are from the start of the blob that holds the member.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = (
        "__weakref__",
        "_allow",
        "_cache",
        "_closed",
        "_counters",
        "_folder",
        "_location",
        "_lock",
        "_open",
        "_open_max",
        "_shards",
        "_stored",
        "hedge",
        "index",
    )

    _location: Location

    def __init__(
        self,
        location: Location,
        folder: Location,
        stored: StoredIndex,
        shards: Shards,
        *,
        open_blobs: int = OPEN_BLOBS_MAX,
        cache: Cache | None = None,
        hedge: Hedge = "batches",
        counters: Counters | None = None,
        allow: Sequence[Location] = (),
    ) -> None:
        """Make a collection of an index and its table of blobs, which open_collection reads.

        Relative names of blobs are relative to the folder, which is absolute. It is the folder of the collection's
        file; or of the blobs, if the collection is in no file.
        """
        self._location = location
        self._folder = folder
        self.hedge = hedge
        self._cache = cache
        self._counters = counters or Counters()
        self._allow = allow
        self.index = Index._from_stored(stored)
        self.index._reader = ref(self)
        self._stored = stored
        self._shards = shards
        self._open_max = open_blobs
        # A blob that is evicted is not closed here, because another thread may be reading from it. It closes itself when
        # no thread holds it any more.
        self._open: RecentlyUsed[int, Store] = RecentlyUsed(open_blobs)
        self._closed = False

    @property
    def url(self) -> str:
        """Path or URL of the collection's file; or of its blobs, as it was given, if the collection is in no file."""
        return self._location.text

    @property
    def blobs(self) -> Sequence[BlobRows]:
        """The blobs, in the order of their rows: path or URL, first row, number of members and size in bytes of each."""
        return BlobTable(self._shards, self._location_of)

    def url_of(self, which: Which) -> str:
        """Return the path or URL, whole, with its query, of the blob that holds a member.

        Args:
            which: The member's name, its Member, or its row.

        Raises:
            MemberNotFoundError: there is no such member.
            IndexError: there is no such row.
        """
        number = self._shards.number_of(self.index.row_of(which))
        return self._location_of(number).whole

    def _location_of(self, number: int) -> Location:
        return location_from(self._folder, self._shards[number].name, self.url)

    @property
    def stats(self) -> Stats:
        """Requests made so far to read the index and the blobs, and what they cost; nothing for local ones."""
        return self._counters.snapshot()

    def _locate(
        self, several: Sequence[CheckedWhich]
    ) -> tuple[list[Located], BlobpackError | IndexError | None]:
        if self._closed:
            raise StorageError(f"{self.url}: the collection is closed")
        return super()._locate(several)

    def _place(
        self, several: Sequence[CheckedWhich], rows: Sequence[FoundRow]
    ) -> tuple[list[Located], BlobpackError | None]:
        """Open the blobs of members, up to the first failure; return the places of the members, and its error."""
        numbers = [self._shards.number_of(found.row) for found in rows]
        # a dict and not a set: blobs are opened in the order asked
        stores = self._open_blobs(dict.fromkeys(numbers))
        located: list[Located] = []
        for which, found, number in zip(several, rows, numbers, strict=True):
            store = stores[number]
            # a blob that can't be opened fails only the members that it holds, where they are reached
            if isinstance(store, BlobpackError):
                return located, store
            _, start, end, checksum = found
            member = Located(store, start, end, checksum, which, self.index)
            # the blob is the one that was collected, so the collection is damaged
            if end > store.size:
                return located, FormatError(
                    f"{self.url}: the collection is damaged: {quoted(member.name)} ends at byte {end} of {store.url}, "
                    f"which has {store.size} bytes"
                )
            located.append(member)
        return located, None

    def _open_blobs(self, numbers: dict[int, None]) -> dict[int, Store | BlobpackError]:
        """Return the stores of blobs, or the error of a blob that can't be opened.

        Blobs that are not open yet are opened in parallel.
        """
        stores: dict[int, Store | BlobpackError] = {**self._open.get_many(numbers)}
        missing = [number for number in numbers if number not in stores]
        # for one blob, as in a single read, threads would only cost time
        if len(missing) < 2:
            stores |= zip(missing, map(self._open_one, missing), strict=True)
        else:
            opened = map_ahead(
                self._open_one, missing, threads=BLOBS_OPENED_AT_ONCE, name="open-blobs"
            )
            stores |= zip(missing, opened, strict=True)
        for number in missing:
            store = stores[number]
            # a cache of size 0 would still hold the newest value
            if self._open_max and not isinstance(store, BlobpackError):
                # another thread may have opened the blob meanwhile: then put() returns that thread's store
                stores[number] = self._open.put(number, store)
        # another thread closed the collection meanwhile, and did not see these stores
        if self._closed:
            self.close()
        return stores

    def _open_one(self, number: int) -> Store | BlobpackError:
        try:
            location = self._location_of(number)
            check_allowed(location, (self._folder, *self._allow), self.url)
            return open_shard(
                location,
                self._shards[number],
                self.url,
                cache=self._cache,
                counters=self._counters,
            )
        except BlobpackError as exc:
            return exc

    def _each_blob(self) -> Iterator[BlobPart]:
        for number in range(len(self._shards)):
            location = self._location_of(number)
            yield BlobPart(
                location.text,
                location,
                self._shards[number].first_row,
                partial(self._index_of, number),
                partial(self._opened, number),
            )

    def _index_of(self, number: int) -> Index:
        shard = self._shards[number]
        rows = range(shard.first_row, shard.row_end)
        large = len(self.index) > ROWS_IN_MEMORY_MAX
        index = self.index._view(rows) if large else self.index._cut(rows)
        # the offsets are those in this blob
        index.identity, index._origin = shard.identity, None
        return index

    @contextmanager
    def _opened(self, number: int) -> Iterator[Store]:
        """Open a blob for a block, besides those that are kept open."""
        store = self._open_one(number)
        if isinstance(store, BlobpackError):
            raise store
        with store:
            yield store

    def _number_of(self, row: int) -> int:
        return self._shards.number_of(row)

    def _identity_of(self, number: int) -> Identity | None:
        return self._shards[number].identity

    def _open_store(self, number: int) -> Store | None:
        return self._open.get(number)

    def close(self) -> None:
        """Close the index, and the blobs that are open; closing twice is harmless."""
        self._closed = True
        self._stored.close()
        for store in self._open.clear():
            store.close()

    def __reduce__(self) -> tuple[Callable[..., Collection], tuple[object, ...]]:
        # Open stores are not pickled: the other process opens the stores that it reads, and counts
        # its own requests.
        arguments = (
            self._location,
            self._folder,
            self._stored,
            self._shards,
            self._open_max,
            self._cache,
            self.hedge,
            self._allow,
        )
        return _unpickle_collection, arguments

    def __repr__(self) -> str:
        return f"<Collection {self.url}: {counted(len(self), 'member')} of {counted(len(self._shards), 'blob')}>"


@with_remote_options
def open_collection(
    url: str | os.PathLike[str],
    *,
    allow: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    open_blobs: int = OPEN_BLOBS_MAX,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = 10 << 30,
    hedge: Hedge = "batches",
    **remote: Unpack[RemoteOptions],
) -> Collection:
    """Open a collection that `collect`, or `pack` with a shard size, has made.

    A collection may come from somebody else, so it must not choose which files, buckets and hosts are read. Reading a
    member of a blob that lies elsewhere raises UnsafeNameError, unless `allow` names the place.

    Args:
        url: Path, or s3://, gs://, az:// or http(s):// URL, of the collection's file, `<name>.idx`; or a folder, prefix or glob of
            its blobs, which holds the file `collection.idx`.
        allow: Folders, s3:// buckets or prefixes, and http(s):// hosts or prefixes, from which blobs may be read, too.
            Otherwise only blobs below the collection's own folder or prefix are read.
        open_blobs: Largest number of blobs that are kept open.
        cache: A folder that keeps the bytes that are read from remote blobs; see open_blob.
        cache_bytes: Largest size of that folder, in bytes.
        hedge: Which requests are sent a second time when their answers are late; see open_blob.
        remote: How remote blobs are reached: see RemoteOptions.

    Raises:
        BlobNotFoundError: there is no collection.
        FormatError: the file is damaged, or is the index of one blob.
        StorageError: the file could not be reached.
        TypeError: an argument has a wrong type.
        ValueError: an argument is not one of its choices, or a number is out of range.
    """
    access = Access.of("open_collection", remote)
    given = location_of("url", url, access=access)
    check_choice("hedge", hedge, Hedge)
    check_number("open_blobs", open_blobs, 0)
    allowed = allowed_places(allow, access)
    location = collection_location(given, kind_of(given))
    kept = cache_in(cache, cache_bytes)
    try:
        store, stored, shards = open_table(location, kept)
    except BlobNotFoundError as exc:
        raise no_collection(given, location) from exc
    return Collection(
        location,
        location.folder,
        stored,
        shards,
        open_blobs=open_blobs,
        cache=kept,
        hedge=hedge,
        counters=store.counters,
        allow=allowed,
    )


def no_collection(given: Location, location: Location) -> BlobNotFoundError:
    """Return the error for a file, or a folder, prefix or glob of blobs, without a collection.

    Args:
        given: What the caller named.
        location: Where the collection would be.
    """
    message = f"{location}: there is no collection"
    # a web server can't list its blobs
    if location.whole != given.whole and given.kind != "http":
        message += f"; `blobpack collect {given}` makes one of the blobs there"
    return BlobNotFoundError(message)


def _unpickle_collection(
    location: Location,
    folder: Location,
    stored: StoredIndex,
    shards: Shards,
    open_blobs: int,
    cache: Cache | None,
    hedge: Hedge,
    allow: Sequence[Location],
) -> Collection:
    return Collection(
        location,
        folder,
        stored,
        shards,
        open_blobs=open_blobs,
        cache=cache,
        hedge=hedge,
        allow=allow,
    )
