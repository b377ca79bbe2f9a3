"""A blob: one store and the index of its members."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, MemberNotFoundError
from blobpack.index import Index
from blobpack.offsets import read_offsets
from blobpack.scan import scan_store
from blobpack.stores import open_tar

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from blobpack.model import Member
    from blobpack.stores.base import Store


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

        Args:
            names: Names, or members, such as an index of some.

        Raises:
            TypeError: one name instead of several.
            The same as read, at the member that is reached.
        """
        return map(self.read, names_of(names))

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
    url: str | os.PathLike[str], index: Index | str | os.PathLike[str] | None = None
) -> Blob:
    """Open a blob to read its members.

    Args:
        url: A path, file:// or s3://bucket/key; a tar, or one compressed as seekable zstd, whose offsets are
            those in the tar that it decompresses to.
        index: Its members, or the path of its offsets file; None scans the blob's headers. An offsets file
            says nothing of the blob it was made from: only offsets beyond the blob's end are noticed.

    Raises:
        BlobNotFoundError: there is no such blob or offsets file.
        BlobChangedError: the index reaches beyond the blob's end.
        FormatError: the blob or the offsets file is damaged.
        StorageError: the store could not be reached, or refused.
    """
    store = open_tar(url)
    try:
        if index is None:
            index = scan_store(store)
        elif not isinstance(index, Index):
            index = read_offsets(index)
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
