"""A blob: one store and the index of its members."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, MemberNotFoundError
from blobpack.index.index import Index
from blobpack.model import (
    CACHE_BYTES_MIN,
    Hedge,
    Member,
    Stale,
    check_choice,
    check_local_path,
    check_number,
    check_several,
    members_of,
    names_of,
    not_a_member,
)
from blobpack.reading.batch import Batch, Located
from blobpack.reading.find_index import find_index
from blobpack.reading.reader import Reader
from blobpack.stores.location import location_of
from blobpack.stores.open import open_tar

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from blobpack.errors import BlobpackError
    from blobpack.stores.base import Store
    from blobpack.stores.cache import Cache
    from blobpack.stores.stats import Stats


class Blob(Reader):
    """One archive whose members are read by name, each with one ranged read.

    A context manager. Safe to share between threads and after a fork; pickled, it is opened anew where it
    arrives, and refused there if it is no longer the same version.

    Attributes:
        index: Its members.
        store: Where its bytes come from.
        hedge: Whose requests are sent a second time when their answers are late; see open_blob.
    """

    __slots__ = ("__weakref__", "_is_remote", "hedge", "index", "store")

    def __init__(self, store: Store, index: Index, *, hedge: Hedge = "batches") -> None:
        """Join a store and an index of it.

        Raises:
            BlobChangedError: the index has members beyond the store's end.
            TypeError: the index is no Index.
            ValueError: hedge is none of its choices.
        """
        check_choice("hedge", hedge, Hedge)
        if not isinstance(index, Index):
            raise TypeError(f"index must be an Index, not {index!r}")
        if index.last_end > store.size:
            raise BlobChangedError(
                f"{store.url}: the index is not this blob's: a member ends at byte {index.last_end}, "
                f"the blob at {store.size}"
            )
        self.store = store
        self.index = index
        self.hedge = hedge
        self._is_remote = store.is_remote

    @property
    def url(self) -> str:
        """Where the blob lies, as it was given."""
        return self.store.url

    def read(self, name: str) -> bytes:
        """Read a member's payload; see Reader."""
        if self._is_remote:
            return super().read(name)
        try:
            start, end = self.index.bounds_of(name)
        except MemberNotFoundError as exc:
            raise MemberNotFoundError(f"{self.url}: {exc}") from None
        return self.store.read_range(start, end)

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked; see Reader."""
        if self._is_remote or self.index.is_remote:
            return super().read_many(names)
        return map(self.read, names_of(names))

    def read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Read the payloads of members of this blob's index where they say they are, in the order asked.

        As read_many, but no name is looked up; and of members with one name, each is read as itself.

        Raises:
            BlobpackError: as for read, at the member that is reached.
            ValueError: a member reaches beyond the blob: it is of another one.
            TypeError: what is given are no Members.
        """
        if self._is_remote:
            asked = members_of(members)
            return iter(Batch(self._as_they_say, asked, hedge=self.hedge != "never"))
        check_several("members", members, "Members")
        return self._read_members(members)

    def _read_members(self, members: Iterable[Member]) -> Iterator[bytes]:
        read = self.store.read_range
        for member in members:
            if not isinstance(member, Member):  # here, because a call for each would take longer
                raise not_a_member(member)
            yield read(member.offset_start, member.offset_end)

    @property
    def stats(self) -> Stats:
        """What reading it has cost until now; of a local blob, nothing."""
        return self.store.stats

    def locate(self, names: Sequence[str]) -> tuple[list[Located], BlobpackError | None]:
        """Find names, up to the first that is not there, and say why it isn't found."""
        located: list[Located] = []
        for name, found in zip(names, self.index.search(names), strict=True):
            if found is None:
                return located, self._not_found(name)
            _, start, end, checksum = found
            located.append(Located(self.store, name, start, end, checksum))
        return located, None

    def _as_they_say(self, members: Sequence[Member]) -> tuple[list[Located], None]:
        return [
            Located(self.store, m.name, m.offset_start, m.offset_end, m.crc32c) for m in members
        ], None

    def close(self) -> None:
        """Let go of the store; again is harmless."""
        self.store.close()

    def __reduce__(self) -> tuple[Callable[..., Blob], tuple[Store, Index, Hedge]]:
        return _reopen, (self.store, self.index, self.hedge)

    def __repr__(self) -> str:
        return f"<Blob {self.url}: {len(self.index)} members>"


def open_blob(
    url: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    *,
    stale: Stale = "refuse",
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = 10 << 30,
    hedge: Hedge = "batches",
) -> Blob:
    """Open a blob to read its members.

    Its index is the one given; else the one inside the blob; else the index file beside it, `<blob>.idx`; else
    the offsets file beside a local blob, `<stem>_offsets.pkl`; else its headers are scanned, with a
    MissingIndexWarning. Whether an index is of the blob as it is now is seen from the blob itself: its size,
    its last bytes, and of an index file also samples of it.

    Args:
        url: A path, file://, s3://bucket/key or http(s)://; a tar, or one compressed as seekable zstd, whose offsets are
            those in the tar that it decompresses to.
        index: Its members, or the path or URL of an index or offsets file. An offsets file says nothing of
            the blob it was made from: it is noticed when some members do not stand behind headers.
        stale: What to do with an index of another state of the blob, or a damaged one: refuse it, or scan
            the blob's headers.
        cache: A folder that keeps what is read of a blob far away, index and payloads, for this process and
            others: read again, it takes no request but the one that opens the blob, which tells whether it
            has changed. A local blob needs none, and goes without.
        cache_bytes: How much the folder may take; what was not used for longest goes first. 1 MiB at least.
        hedge: Which requests are sent a second time, by another connection, when the answer to the first is
            later than 95 in 100 lately were; at most one in twenty, those that are late by far. Those of "batches", where the
            slowest is what is waited for; "always" those of single reads, too; or "never".

    Raises:
        BlobNotFoundError: there is no such blob, index or offsets file.
        StaleIndexError: the index is not of the blob as it is now.
        BlobChangedError: the index reaches beyond the blob's end.
        FormatError: the blob, the index or the offsets file is damaged.
        StorageError: the store could not be reached, or refused.
        TypeError: an argument has another type.
        ValueError: a choice that there is not, too few cache_bytes, or a URL of another kind.
    """
    location_of("url", url)
    if index is not None and not isinstance(index, Index):
        location_of("index", index)
    check_choice("stale", stale, Stale)
    check_choice("hedge", hedge, Hedge)
    kept = kept_in(cache, cache_bytes)
    store = open_tar(url, tail=not isinstance(index, Index), cache=kept)
    try:
        if not isinstance(index, Index):
            index = find_index(store, index, stale)
        return Blob(store, index, hedge=hedge)
    except BaseException:
        store.close()
        raise


def _reopen(store: Store, index: Index, hedge: Hedge) -> Blob:
    return Blob(store, index, hedge=hedge)


def kept_in(folder: str | os.PathLike[str] | None, most_bytes: int) -> Cache | None:
    """Describe a cache; None without a folder.

    Raises:
        TypeError: the folder is no path, or the bytes no whole number.
        ValueError: the folder is a URL, or may take less than 1 MiB.
    """
    check_number("cache_bytes", most_bytes, CACHE_BYTES_MIN)
    if folder is not None:
        check_local_path("cache", folder)
    if folder is None:
        return None
    from blobpack.stores.cache import Cache

    return Cache(folder, most_bytes)


def check_blob(name: str, blob: object) -> None:
    """Check that a value is an open blob, or a path or URL of one.

    Raises:
        TypeError: it is neither.
        ValueError: it is an empty path.
    """
    if isinstance(blob, Reader) and not isinstance(blob, Blob):
        raise TypeError(f"{name} must be one blob, not the collection {blob.url}")
    if not isinstance(blob, Blob):
        location_of(name, blob)


@contextmanager
def opened(blob: Blob | str | os.PathLike[str]) -> Iterator[Blob]:
    """Take a blob as it is, or open a path or URL for as long as the block lasts."""
    if isinstance(blob, Blob):
        yield blob
        return
    with open_blob(blob) as fresh:
        yield fresh


@contextmanager
def reading(source: Reader | str | os.PathLike[str]) -> Iterator[Reader]:
    """Take what is open as it is, or open a blob's path or URL for as long as the block lasts."""
    if isinstance(source, Reader):
        yield source
        return
    with open_blob(source) as blob:
        yield blob


def check_reader(name: str, source: object) -> None:
    """Check that a value is an open blob or collection, or a path or URL of a blob.

    Raises:
        TypeError: it is neither.
        ValueError: it is an empty path.
    """
    if not isinstance(source, Reader):
        location_of(name, source)
