"""The open blobs that file systems of one process share.

Strategy: fsspec makes a file system for each thread. If each of them opened its blob, ten threads of Dask would read the
index of a remote blob ten times. So a blob is opened once, at the first use of it, and shared while a file system uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from blobpack.integrations.fsspec.paths import Paths
from blobpack.threads import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blobpack.opening.reader import Reader

# Weak, so that a blob is freed with the last file system that uses it.
_shared: WeakValueDictionary[str, SharedBlob] = WeakValueDictionary()
_shared_lock = fork_safe_lock()


class OpenedBlob:
    """An open blob or collection, with its files and folders.

    Attributes:
        reader: The blob or collection.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._lock = fork_safe_lock()
        self._paths: Paths | None = None

    @property
    def paths(self) -> Paths:
        """The files and folders; at the first use, all names are read."""
        with self._lock:
            if self._paths is None:
                self._paths = Paths(self.reader.index)
            return self._paths

    def row_of(self, path: str) -> int:
        """Return the row of a file, or -1. The names are read only if no member has exactly this name."""
        row = self.reader.index._find(path) if path else -1
        return row if row >= 0 else self.paths.row_of(path)

    def rows_of(self, paths: Sequence[str]) -> list[int]:
        """Return the rows of several files, which are looked up together; -1 where there is none."""
        # an index in S3 would send requests for each name by itself
        found = self.reader.index._search(paths)
        return [
            self.paths.row_of(path) if each is None else each.row
            for path, each in zip(paths, found, strict=True)
        ]


class SharedBlob:
    """A blob or collection that is opened at its first use."""

    def __init__(self, open_reader: Callable[[], Reader]) -> None:
        self._open = open_reader
        self._lock = fork_safe_lock()
        self._opened: OpenedBlob | None = None

    def opened(self) -> OpenedBlob:
        """Open the blob, unless it is open."""
        with self._lock:
            if self._opened is None:
                self._opened = OpenedBlob(self._open())
            return self._opened

    def forget(self) -> None:
        """Open the blob again at its next use. Reads that are under way go on, so it is not closed here."""
        with self._lock:
            self._opened = None


def shared_blob(key: str, open_reader: Callable[[], Reader]) -> SharedBlob:
    """Return the blob that file systems of one key share.

    Args:
        key: Describes the blob and all options.
        open_reader: Opens the blob.
    """
    with _shared_lock:
        shared = _shared.get(key)
        if shared is None:
            shared = _shared[key] = SharedBlob(open_reader)
        return shared
