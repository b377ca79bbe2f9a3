"""A collection: many blobs read as one, whose index says of each member which blob it is in.

Names are found in the collection's own index. A blob is opened when a member of it is read, and no index of its own
is: far away not even that takes a request, because the collection knows its size and ETag.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from blobpack.blob import Blob
from blobpack.discovery import difference
from blobpack.errors import (
    BlobNotFoundError,
    FormatError,
    MemberNotFoundError,
    StaleIndexError,
    StorageError,
)
from blobpack.fetch import LOOKED_UP_AT_ONCE
from blobpack.index import Index
from blobpack.indexfile import BLOCK_ROWS, PART_ROWS
from blobpack.locks import ForkLock
from blobpack.names import names_of
from blobpack.shards import Shards, folder_of, url_from
from blobpack.stored import open_region, open_stored
from blobpack.stores import is_local, local_name, open_pinned, open_tar
from blobpack.stores.globs import folder_before, has_glob
from blobpack.stores.zstd import open_seekable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from blobpack.columns import Columns
    from blobpack.indexfile import Footer
    from blobpack.model import Member
    from blobpack.shards import Shard
    from blobpack.stored import StoredIndex
    from blobpack.stores.base import Store

COLLECTION_NAME = "collection.idx"
OPEN_BLOBS_MAX = 64
BLOBS_AT_ONCE = 16
BATCH_BYTES_MAX = 64 << 20

Located = tuple[int, tuple[int, int]]  # row, offsets


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

    def _read_batches(self, names: Iterator[str]) -> Iterator[bytes]:
        while batch := list(islice(names, LOOKED_UP_AT_ONCE)):
            try:
                located = self._located(batch)
            except MemberNotFoundError:  # raised again where it is reached
                yield from map(self.read, batch)
                continue
            for first, last in _bounded(located):
                yield from self._read_together(batch[first:last], located[first:last])

    def _read_together(self, names: Sequence[str], located: Sequence[Located]) -> Iterator[bytes]:
        """Read a batch blob by blob, and give it in its order."""
        numbers = [self._shards.number_of(row) for row, _ in located]
        groups: dict[int, list[str]] = {}
        for number, name in zip(numbers, names, strict=True):
            groups.setdefault(number, []).append(name)
        if len(groups) == 1 or all(is_local(self._url_of(self._shards[i].name)) for i in groups):
            payloads = {number: self._read_group(number, group) for number, group in groups.items()}
            for number in numbers:
                yield next(payloads[number])
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(BLOBS_AT_ONCE, len(groups))) as threads:
            reads = {
                number: threads.submit(_all_or_error, self._read_group(number, group))
                for number, group in groups.items()
            }
            try:
                for number in numbers:
                    read, error = reads[number].result()
                    if not read and error:
                        raise error
                    yield read.popleft()
            finally:
                for waiting in reads.values():
                    waiting.cancel()

    def _read_group(self, number: int, names: list[str]) -> Iterator[bytes]:
        yield from self._blob(number).read_many(names)

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


class ShardRows:
    """The rows of one blob in a collection's index, as the index of that blob."""

    def __init__(self, stored: StoredIndex, shard: Shard) -> None:
        """Take the rows from shard.first_row to shard.row_end."""
        count = shard.row_end - shard.first_row
        self.footer: Footer = replace(
            stored.footer,
            identity=shard.identity,
            row_count=count,
            payload_bytes=shard.payload_bytes,
            last_end=min(stored.footer.last_end, shard.identity.archive_bytes),
            block_count=-(-count // BLOCK_ROWS),
            report=None,
            blobs=0,
            blobs_bytes=0,
        )
        self._stored, self._shard = stored, shard

    def __len__(self) -> int:
        return self.footer.row_count

    def find(self, name: str) -> int:
        """Return the row of that name, -1 when there is none here."""
        hit = self.search([name])[0]
        return -1 if hit is None else hit[0]

    def locate(self, name: str) -> tuple[int, int] | None:
        """Return its offsets."""
        return self.locate_many([name])[0]

    def locate_many(self, names: Sequence[str]) -> list[tuple[int, int] | None]:
        """Find the offsets of many names."""
        return [hit and hit[1] for hit in self.search(names)]

    def search(self, names: Sequence[str]) -> list[Located | None]:
        """Find row and offsets of each name; those of other blobs are not here."""
        first, end = self._shard.first_row, self._shard.row_end
        return [
            (hit[0] - first, hit[1]) if hit and first <= hit[0] < end else None
            for hit in self._stored.search(names)
        ]

    def rows(self, first: int, last: int) -> Columns:
        """Read the rows first:last of the blob."""
        if not 0 <= first <= last <= len(self):
            raise IndexError(f"rows {first} to {last} of {len(self)}")
        return self._stored.rows(self._shard.first_row + first, self._shard.first_row + last)

    def parts(self) -> Iterator[Columns]:
        """Read all rows of the blob, part by part."""
        for first in range(0, len(self), PART_ROWS):
            yield self.rows(first, min(first + PART_ROWS, len(self)))


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


def open_shard(url: str, shard: Shard, where: str) -> Store:
    """Open a blob as it was collected.

    Args:
        url: Where it lies.
        shard: What it must be.
        where: The collection, for messages.

    Raises:
        StaleIndexError: it is another one.
    """
    if shard.identity.version and not is_local(url):
        store = open_pinned(url, shard.blob_bytes, shard.identity.version)
        if not shard.is_compressed:
            return store
        seekable = open_seekable(store)
        found = "" if seekable else "it is not compressed any more"
        store = seekable or store
    else:
        store = open_tar(url, tail=True)
        try:
            found = difference(store, shard.identity)
        except BaseException:
            store.close()
            raise
    if found:
        store.close()
        raise StaleIndexError(
            f"{url} is not the blob that {where} was made of: {found}; `blobpack collect` makes it anew"
        )
    return store


def _bounded(located: Sequence[Located]) -> Iterator[tuple[int, int]]:
    """Cut a batch into runs of at most BATCH_BYTES_MAX, or of one member."""
    first = total = 0
    for place, (_, (start, end)) in enumerate(located):
        if place > first and total + end - start > BATCH_BYTES_MAX:
            yield first, place
            first, total = place, 0
        total += end - start
    yield first, len(located)


def _all_or_error(payloads: Iterator[bytes]) -> tuple[deque[bytes], Exception | None]:
    """Take payloads up to an error, which is raised where it is reached."""
    read: deque[bytes] = deque()
    try:
        read.extend(payloads)
    except Exception as exc:
        return read, exc
    return read, None


def _reopened(url: str, stored: StoredIndex, shards: Shards, open_blobs: int) -> Collection:
    return Collection(url, stored, shards, open_blobs=open_blobs)
