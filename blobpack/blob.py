"""A blob: one store and the index of its members."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from os import PathLike
from typing import TYPE_CHECKING, Protocol

from blobpack.discovery import find_index
from blobpack.errors import BlobChangedError, MemberNotFoundError
from blobpack.index import Index
from blobpack.stores import open_tar

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from blobpack.discovery import Stale
    from blobpack.model import Member
    from blobpack.stores.base import Store

LOOKED_UP_AT_ONCE = 256


class Readable(Protocol):
    """What members are read from: a blob, or a collection of them."""

    @property
    def url(self) -> str:
        """Where it lies."""
        ...

    def read(self, name: str) -> bytes:
        """Read a member's payload."""
        ...

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads, in the order asked."""
        ...


class Blob:
    """One archive whose members are read by name, each with one ranged read.

    A context manager. Safe to share between threads and after a fork; pickled, it is opened anew where it
    arrives, and refused there if it is no longer the same version.

    Attributes:
        index: Its members.
        store: Where its bytes come from.
    """

    __slots__ = ("__weakref__", "index", "store")

    def __init__(self, store: Store, index: Index) -> None:
        """Join a store and an index of it.

        Raises:
            BlobChangedError: the index has members beyond the store's end.
        """
        if index.last_end > store.size:
            raise BlobChangedError(
                f"{store.url}: the index is not this blob's: a member ends at byte {index.last_end}, "
                f"the blob at {store.size}"
            )
        self.store = store
        self.index = index

    @property
    def url(self) -> str:
        """Where the blob lies, as it was given."""
        return self.store.url

    def read(self, name: str) -> bytes:
        """Read a member's payload: one ranged read, of the version that was opened.

        Raises:
            MemberNotFoundError: there is none of that name; names near to it are suggested.
            BlobChangedError: the blob is no longer the one that was opened.
            StorageError: the store failed.
        """
        try:
            start, end = self.index.bounds_of(name)
        except MemberNotFoundError as exc:
            raise MemberNotFoundError(f"{self.url}: {exc}") from None
        return self.store.read_range(start, end)

    def read_many(self, names: Iterable[str | Member]) -> Iterator[bytes]:
        """Read members' payloads one by one, in the order asked.

        Where the index is far away, names are looked up some hundred at a time, with few requests.

        Args:
            names: Names, or members, such as an index of some.

        Raises:
            TypeError: one name instead of several.
            The same as read, at the member that is reached.
        """
        wanted = names_of(names)
        return self._read_batches(wanted) if self.index.is_remote else map(self.read, wanted)

    def _read_batches(self, names: Iterator[str]) -> Iterator[bytes]:
        while batch := list(islice(names, LOOKED_UP_AT_ONCE)):
            try:
                located = self.index.bounds_of_many(batch)
            except MemberNotFoundError:  # raised again where it is reached
                yield from map(self.read, batch)
                continue
            for start, end in located:
                yield self.store.read_range(start, end)

    def close(self) -> None:
        """Let go of the store; again is harmless."""
        self.store.close()

    def __enter__(self) -> Blob:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Blob], tuple[Store, Index]]:
        return Blob, (self.store, self.index)

    def __repr__(self) -> str:
        return f"<Blob {self.url}: {len(self.index)} members>"


def open_blob(
    url: str | os.PathLike[str],
    index: Index | str | os.PathLike[str] | None = None,
    *,
    stale: Stale = "refuse",
) -> Blob:
    """Open a blob to read its members.

    Its index is the one given; else the one inside the blob; else the index file beside it, `<blob>.idx`; else
    the offsets file beside a local blob, `<stem>_offsets.pkl`; else its headers are scanned, with a
    MissingIndexWarning. Whether an index is of the blob as it is now is seen from the blob itself: its size,
    its last bytes, and of an index file also samples of it.

    Args:
        url: A path, file:// or s3://bucket/key; a tar, or one compressed as seekable zstd, whose offsets are
            those in the tar that it decompresses to.
        index: Its members, or the path or URL of an index or offsets file. An offsets file says nothing of
            the blob it was made from: it is noticed when some members do not stand behind headers.
        stale: What to do with an index of another state of the blob, or a damaged one: refuse it, or scan
            the blob's headers.

    Raises:
        BlobNotFoundError: there is no such blob, index or offsets file.
        StaleIndexError: the index is not of the blob as it is now.
        BlobChangedError: the index reaches beyond the blob's end.
        FormatError: the blob, the index or the offsets file is damaged.
        StorageError: the store could not be reached, or refused.
    """
    store = open_tar(url, tail=not isinstance(index, Index))
    try:
        if not isinstance(index, Index):
            index = find_index(store, index, stale)
        return Blob(store, index)
    except BaseException:
        store.close()
        raise


def names_of(names: Iterable[str | Member]) -> Iterator[str]:
    """Take names, or the names of members.

    Raises:
        TypeError: one name instead of several: its letters are not meant.
    """
    if isinstance(names, str):
        raise TypeError(f"several names are wanted, not one: [{names!r}]")
    return (name if isinstance(name, str) else name.name for name in names)


@contextmanager
def opened(blob: Blob | str | os.PathLike[str]) -> Iterator[Blob]:
    """Take a blob as it is, or open a path or URL for as long as the block lasts."""
    if isinstance(blob, Blob):
        yield blob
        return
    with open_blob(blob) as fresh:
        yield fresh


@contextmanager
def reading(source: Readable | str | os.PathLike[str]) -> Iterator[Readable]:
    """Take what is open as it is, or open a blob's path or URL for as long as the block lasts."""
    if not isinstance(source, (str, PathLike)):
        yield source
        return
    with open_blob(source) as blob:
        yield blob
