"""A collection: many blobs read as one, whose index says of each member which blob it is in.

Names are found in the collection's own index. A blob is opened when a member of it is read, and no index of its own
is: far away not even that takes a request, because the collection knows its size and ETag.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING

from blobpack.across import Across
from blobpack.blob import Blob
from blobpack.errors import (
    BlobNotFoundError,
    FormatError,
    MemberNotFoundError,
    StorageError,
)
from blobpack.fetch import LOOKED_UP_AT_ONCE, threads
from blobpack.index import Index
from blobpack.locks import ForkLock
from blobpack.names import names_of
from blobpack.shardrows import ShardRows, open_shard
from blobpack.shards import Shards, folder_of, url_from
from blobpack.stored import open_region, open_stored
from blobpack.stores import is_local, local_name
from blobpack.stores.globs import folder_before, has_glob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from blobpack.indexfile import Footer
    from blobpack.model import Member
    from blobpack.shardrows import Located
    from blobpack.stored import StoredIndex
    from blobpack.stores.base import Store

COLLECTION_NAME = "collection.idx"
OPEN_BLOBS_MAX = 64
BATCH_BYTES_MAX = 64 << 20


class Collection:
    """Many blobs whose members are read by name, as if they were in one.

    A context manager. Safe to share between threads and after a fork; pickled, it is opened anew where it arrives.
    Of members with one name the last one is read, as in one blob.

    Attributes:
        url: Where the collection's index lies.
        index: All members, blob by blob. Offsets are those in a member's own blob.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_lock",
        "_open",
        "_open_max",
        "_shards",
        "_stored",
        "index",
        "url",
    )

    def __init__(
        self, url: str, stored: StoredIndex, shards: Shards, *, open_blobs: int = OPEN_BLOBS_MAX
    ) -> None:
        """Join an index and its table of blobs; open_collection reads both."""
        self.url = url
        self.index = Index.from_stored(stored)
        self._stored = stored
        self._shards = shards
        self._open: OrderedDict[int, Blob] = OrderedDict()
        self._open_max = open_blobs
        self._lock = ForkLock()
        self._closed = False

    @property
    def blob_urls(self) -> list[str]:
        """Where its blobs lie, in the order of their members."""
        return [self._url_of(self._shards[number].name) for number in range(len(self._shards))]

    def url_of(self, name: str) -> str:
        """Tell in which blob a member is.

        Raises:
            MemberNotFoundError: there is none of that name.
        """
        number = self._shards.number_of(self.index.row_of(name))
        return self._url_of(self._shards[number].name)

    def _url_of(self, name: str) -> str:
        return url_from(folder_of(self.url), name, self.url)

    def __len__(self) -> int:
        return len(self.index)

    def __contains__(self, name: object) -> bool:
        return name in self.index

    def read(self, name: str) -> bytes:
        """Read a member's payload: one ranged read of its blob, as it was when it was collected.

        Raises:
            MemberNotFoundError: there is none of that name; names near to it are suggested.
            BlobChangedError: its blob is no longer the one that was collected.
            BlobNotFoundError: it is not there any more.
            StorageError: the store failed.
        """
        ((row, _),) = self._located([name])
        blob = self._blob(self._shards.number_of(row))
        return blob.read(name)

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads one by one, in the order asked.

        Names are looked up some hundred at a time. Those of one blob are read together, and blobs far away side
        by side.

        Args:
            names: Names, or members, such as an index of some.

        Raises:
            TypeError: one name instead of several.
            The same as read, at the member that is reached.
        """
        return self._read_batches(names_of(names))

    async def aread(self, name: str) -> bytes:
        """Read a member's payload as read does, without blocking the event loop."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(threads(), self.read, name)

    def aread_many(self, names: Iterable[str | Member]) -> AsyncIterator[bytes]:
        """Read members' payloads as read_many does, without blocking the event loop: for `async for`."""
        return self._aread_batches(names_of(names))

    def _read_batches(self, names: Iterator[str]) -> Iterator[bytes]:
        while batch := list(islice(names, LOOKED_UP_AT_ONCE)):
            parts = self._parts(batch)
            if parts is None:
                yield from map(self.read, batch)
                continue
            for part in parts:
                if len(part.groups) == 1 or all(map(self._is_local, part.groups)):
                    yield from part.in_turn()
                else:
                    yield from part.side_by_side()

    async def _aread_batches(self, names: Iterator[str]) -> AsyncIterator[bytes]:
        import asyncio

        def take() -> tuple[list[str], list[Across] | None]:
            batch = list(islice(names, LOOKED_UP_AT_ONCE))
            return batch, self._parts(batch) if batch else []

        loop = asyncio.get_running_loop()
        while (taken := await loop.run_in_executor(threads(), take))[0]:
            batch, parts = taken
            if parts is None:
                for name in batch:
                    yield await self.aread(name)
            for part in parts or ():
                async with aclosing(part.aread()) as payloads:
                    async for payload in payloads:
                        yield payload

    def _parts(self, names: Sequence[str]) -> list[Across] | None:
        """Find names, and part them into so many bytes; None if one is not there: it is told when it is reached."""
        try:
            located = self._located(names)
        except MemberNotFoundError:
            return None
        numbers = [self._shards.number_of(row) for row, _ in located]
        return [
            Across(numbers[first:last], names[first:last], self._blob)
            for first, last in _bounded(located)
        ]

    def _is_local(self, number: int) -> bool:
        return is_local(self._url_of(self._shards[number].name))

    def _located(self, names: Sequence[str]) -> list[Located]:
        if self._closed:
            raise StorageError(f"{self.url}: the collection is closed")
        try:
            return self.index.rows_and_bounds_of(names)
        except MemberNotFoundError as exc:
            raise MemberNotFoundError(f"{self.url}: {exc}") from None

    def _blob(self, number: int) -> Blob:
        """Open a blob, or take the one that is open.

        One that is used no longer is let go, not closed: another thread may be reading from it.
        """
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        shard = self._shards[number]
        url = self._url_of(shard.name)
        store = open_shard(url, shard, self.url)
        blob = Blob(store, Index.from_stored(ShardRows(self._stored, shard)))
        with self._lock:
            blob = self._open.setdefault(number, blob)
            while len(self._open) > self._open_max:
                self._open.popitem(last=False)
        return blob

    def close(self) -> None:
        """Close the blobs that are open; again is harmless."""
        self._closed = True
        with self._lock:
            blobs = list(self._open.values())
            self._open.clear()
        for blob in blobs:
            blob.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Collection], tuple[object, ...]]:
        return _reopened, (self.url, self._stored, self._shards, self._open_max)

    def __repr__(self) -> str:
        return f"<Collection {self.url}: {len(self)} members of {len(self._shards)} blobs>"


def open_collection(url: str | os.PathLike[str], *, open_blobs: int = OPEN_BLOBS_MAX) -> Collection:
    """Open a collection that `collect`, or `pack` with a shard size, has made.

    Args:
        url: The collection's file, `<name>.idx`, at a path or s3:// URL; or a folder, a prefix or a glob of its
            blobs, where it is `collection.idx`.
        open_blobs: At most so many blobs are kept open.

    Raises:
        BlobNotFoundError: there is no collection.
        FormatError: it is damaged, or the index of one blob.
        StorageError: it could not be reached.
    """
    path = collection_path(url)
    try:
        store, footer = open_region(path)
    except BlobNotFoundError as exc:
        raise BlobNotFoundError(
            f"{path}: there is no collection; `blobpack collect {os.fspath(url)}` makes one of the blobs there"
        ) from exc
    try:
        if not footer.blobs_bytes:
            raise FormatError(
                f"{path}: the index of one blob, and not a collection: open_blob opens it", offset=0
            )
        stored = open_stored(store, 0, footer)
        shards = read_shards(store, footer)
    except BaseException:
        store.close()
        raise
    return Collection(path, stored, shards, open_blobs=open_blobs)


def read_shards(store: Store, footer: Footer) -> Shards:
    """Read the section of blobs.

    Raises:
        FormatError: it is damaged.
    """
    packed = store.peek(footer.blobs, footer.blobs + footer.blobs_bytes)
    return Shards(packed, footer.row_count, store.url, footer.blobs)


def collection_path(url: str | os.PathLike[str]) -> str:
    """Name the collection of a folder, a prefix or a glob; a file's own name stays."""
    path = os.fspath(local_name(url) if is_local(url) else url)
    if has_glob(path):
        return folder_before(path) + COLLECTION_NAME
    if path.endswith(".idx") or (is_local(path) and os.path.isfile(path)):  # noqa: PTH113
        return path
    return f"{path.rstrip('/')}/{COLLECTION_NAME}"


def _bounded(located: Sequence[Located]) -> Iterator[tuple[int, int]]:
    """Cut a batch into runs of at most BATCH_BYTES_MAX, or of one member."""
    first = total = 0
    for place, (_, (start, end)) in enumerate(located):
        if place > first and total + end - start > BATCH_BYTES_MAX:
            yield first, place
            first, total = place, 0
        total += end - start
    yield first, len(located)


def _reopened(url: str, stored: StoredIndex, shards: Shards, open_blobs: int) -> Collection:
    return Collection(url, stored, shards, open_blobs=open_blobs)
