"""The contract of stores: they read ranges of one blob, always of the version that was opened."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn, TypeVar

from blobpack.closing import Closing
from blobpack.errors import FormatError, StorageError
from blobpack.stores.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from blobpack._native.local_reads import LocalFile
    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Counters

T = TypeVar("T")

# Last bytes that the opening request fetches: they hold footer, guide and directory of an index of a million members.
OPENING_TAIL_BYTES = 128 << 10


class Store(Closing, ABC):
    """The contract of every store. A store reads the bytes of one blob.

    Code outside `blobpack.stores` uses only these members, and never asks which store it has. A new store defines
    `fetch`, and sets `url`, `location`, `size` and `version`. The other members have defaults for a blob that is not
    remote, not compressed and not in a file.

    Safe to share between threads. Can be pickled unless the class says otherwise.

    Attributes:
        url: Path or URL of the blob, for messages.
        location: Path or URL of the blob, from which the path of its index file is derived; None for a blob in memory.
        size: Size of the blob in bytes when it was opened. For a compressed blob: size of the decompressed tar and of
            the index.
        version: Distinguishes this version of the blob from others; an ETag, for example.
        tail: The last bytes of the blob, if the opening request fetched them.
        closed: The store was closed; reads raise StorageError.
        is_remote: Reads send requests to a server.
        is_compressed: The blob is stored as seekable zstd; offsets are those of the decompressed tar.
        base: The store that this one reads from, if it wraps another one.
        counters: Counts the requests of this store, or of the store that it wraps; None if it sends none.
        cache: The cache of this store, or of the store that it wraps; None if there is none.
        native_file: The open file that holds the blob's bytes as they are, for native code; None if there is none.
    """

    url: str
    location: Location | None
    size: int
    version: str
    tail: bytes = b""
    closed: bool = False
    is_remote: bool = False
    is_compressed: bool = False
    base: Store | None = None
    counters: Counters | None = None
    cache: Cache | None = None
    native_file: LocalFile | None = None

    @abstractmethod
    def fetch(self, start: int, end: int) -> bytes:
        """Read a range; read_range has checked that it is not empty and lies within the blob."""

    def read_range(self, start: int, end: int) -> bytes:
        """Read the bytes start to end, half-open, of the version that was opened.

        Raises:
            BlobChangedError: the blob is no longer the version that was opened.
            StorageError: the store failed, or is closed.
            ValueError: not 0 ≤ start ≤ end ≤ size.
        """
        # One condition for both errors, because this runs at each read. _raise_unreadable finds out
        # which one it is.
        if self.closed or not 0 <= start <= end <= self.size:
            self._raise_unreadable(start, end)
        return self.fetch(start, end) if end > start else b""

    def read_if_ready(self, start: int, end: int) -> bytes | None:
        """Read a range like read_range if its bytes are in memory; return None if a disk or server would be waited for.

        An event loop calls this before it hands a read to a thread. None is always right; read_range then raises what is
        to be raised.
        """
        return None

    @property
    def is_replaced(self) -> bool:
        """Whether the blob's path leads to another version by now. False for a store whose reads raise an error then."""
        return False

    @property
    def is_grown(self) -> bool:
        """Whether a file that was written since it was opened may only have been appended to: it is not shorter."""
        return False

    def peek(self, start: int, end: int) -> bytes:
        """Read like read_range, but take bytes that the opening request fetched from memory.

        Use it only for an index, which has checksums of its own: peek does not notice if the blob
        has changed since it was opened.
        """
        tail_start = self.size - len(self.tail)
        if not self.closed and tail_start <= start <= end <= self.size:
            return self.tail[start - tail_start : end - tail_start]
        return self.read_range(start, end)

    def holds(self, start: int, end: int) -> bool:
        """Return whether these bytes are in a cache, so that reading them takes no request."""
        return False

    def forget(self, start: int, end: int) -> bool:
        """Drop these bytes from caches and the tail, because their checksum is wrong.

        Returns:
            True if another read may return other bytes: something was dropped, or they came from a server and may have
            been damaged on their way.
        """
        has_them = start < end and end > self.size - len(self.tail)
        if has_them:
            self.tail = b""
        return has_them

    def decode(self, start: int, end: int, decode: Callable[[bytes], T]) -> T:
        """Read bytes like peek and decode them; if they are damaged, read them once more where that may help.

        Args:
            start: First byte.
            end: End of the bytes.
            decode: Decodes the bytes, and raises FormatError if they are damaged.

        Raises:
            FormatError: `decode` raised it, also after another read.
            StorageError: see read_range.
        """
        return self.decode_again(self.peek(start, end), start, end, decode)

    def decode_again(self, found: bytes, start: int, end: int, decode: Callable[[bytes], T]) -> T:
        """Decode bytes that were read already; see decode."""
        try:
            return decode(found)
        except FormatError:
            if not self.forget(start, end):
                raise
        return decode(self.read_range(start, end))

    def peek_right(self, start: int, end: int, is_right: Callable[[bytes], bool]) -> bytes:
        """Read bytes like peek; if they are not right, read them once more where that may help, and return those."""
        found = self.peek(start, end)
        if is_right(found) or not self.forget(start, end):
            return found
        return self.read_range(start, end)

    def uncompressed(self, offset: int) -> tuple[Store, int]:
        """Return the store and the offset where a byte of the blob is stored uncompressed.

        The index behind a compressed tar is not compressed, so it can be mapped or read in place.
        """
        return self, offset

    @property
    def stored_bytes(self) -> int:
        """Size of the stored blob in bytes; for a compressed blob its compressed size."""
        return self.size

    @property
    def fd(self) -> int | None:
        """File descriptor from which the blob's bytes can be read directly; None if there is none."""
        return None

    @property
    def latency_s(self) -> float:
        """Recent time from a small request to its response; 0 before the first one, and if the blob is not remote."""
        return self.base.latency_s if self.base else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Recent speed of long responses on one connection; 0 before the first one, and if the blob is not remote."""
        return self.base.bytes_per_s if self.base else 0.0

    @property
    def stats(self) -> Stats:
        """Counters of the requests so far; all 0 if the blob is not remote."""
        return self.counters.snapshot() if self.counters else Stats()

    def _raise_unreadable(self, start: int, end: int) -> NoReturn:
        """Raise the error that describes why a range can't be read."""
        if self.closed:
            raise StorageError(f"{self.url}: the store is closed")
        raise ValueError(f"{self.url}: bytes {start} to {end} are not within its {self.size} bytes")

    def close(self) -> None:
        """Close files and connections; closing twice is harmless."""
        self.closed = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}, {self.size} bytes>"


class StoreFile(io.RawIOBase):
    """A file that reads a store, for packages that read files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pos = 0

    def readable(self) -> bool:
        """Return True; io.BufferedReader asks."""
        return True

    def seekable(self) -> bool:
        """Return True; io.BufferedReader asks."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position of the next read, and return it."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._pos, io.SEEK_END: self._store.size}[whence]
        self._pos = min(max(begin + offset, 0), self._store.size)
        return self._pos

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._pos

    def readinto(self, buffer: Buffer, /) -> int:
        """Read the next bytes into a buffer, and return their number; 0 at the end of the store."""
        room = memoryview(buffer).cast("B")
        end = min(self._pos + len(room), self._store.size)
        read = self._store.read_range(self._pos, end)
        room[: len(read)] = read
        self._pos = end
        return len(read)


def to_http_range(start: int, end: int) -> str:
    """Return the value of a Range header, which includes both ends, for the half-open range start to end.

    Source: RFC 9110, 14.1.2, "Byte Ranges".
    """
    return f"bytes={start}-{end - 1}"
