"""The store contract: the bytes of one blob, read by range, always of the version that was opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn, Self

from blobpack.errors import StorageError
from blobpack.stores.stats import Stats

if TYPE_CHECKING:
    from types import TracebackType

    from blobpack.stores.cache import Cache
    from blobpack.stores.location import Location
    from blobpack.stores.stats import Counters

TAIL_BYTES = 128 << 10  # holds the footer, the guide and the directory of a million members


class Store(ABC):
    """The contract of every store: the bytes of one blob, wherever it lies.

    Code outside `blobpack.stores` uses nothing but these members, and never asks which store it has. A new store
    defines `fetch`, and sets `url`, `location`, `size` and `version`; the rest has defaults that are right for a blob which
    is neither remote nor compressed nor in a file.

    Safe to share between threads. Can be pickled unless the class says otherwise.

    Attributes:
        url: Path or URL of the blob, for messages.
        location: Where the blob lies, to find its index file beside it; None for a blob in memory.
        size: Bytes of the blob when it was opened. For a compressed blob: bytes of the tar inside, and the index.
        version: Tells this version of the blob from others: an ETag, for example.
        tail: The blob's last bytes, if they came with the request that opened it.
        closed: The store was closed; reads raise StorageError.
        is_remote: Reads ask a server.
        is_compressed: The blob is stored as seekable zstd; offsets are those in the tar that it decompresses to.
        base: The store that this one reads from, if it wraps another one.
        counters: What this store, or the one it wraps, counts its requests in; None if it makes none.
        cache: The cache that keeps what is read, if there is one.
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

    @abstractmethod
    def fetch(self, start: int, end: int) -> bytes:
        """Read a range that is not empty and lies within the blob; read_range has checked both."""

    def read_range(self, start: int, end: int) -> bytes:
        """Read the bytes start to end, half-open: all of them, of the version that was opened.

        Raises:
            BlobChangedError: the blob is no longer that version.
            StorageError: the store failed, or is closed.
            ValueError: not 0 ≤ start ≤ end ≤ size.
        """
        if self.closed or not 0 <= start <= end <= self.size:
            self._refuse(start, end)
        return self.fetch(start, end) if end > start else b""

    def peek(self, start: int, end: int) -> bytes:
        """Read as read_range does, but without a request for bytes that came when the store was opened.

        For an index, whose bytes have checksums of their own: peek does not notice a blob that changed since.
        """
        tail_start = self.size - len(self.tail)
        if tail_start <= start <= end <= self.size:
            return self.tail[start - tail_start : end - tail_start]
        return self.read_range(start, end)

    def holds(self, start: int, end: int) -> bool:
        """Return whether these bytes are in a cache, so that reading them takes no request."""
        return False

    def forget(self, start: int, end: int) -> bool:
        """Drop what caches and the tail hold of these bytes, because a checksum found them wrong.

        Returns:
            Whether anything was dropped: then another read may return other bytes.
        """
        has_them = start < end and end > self.size - len(self.tail)
        if has_them:
            self.tail = b""
        return has_them

    def uncompressed(self, offset: int) -> tuple[Store, int]:
        """Return the store, and the offset in it, that hold an uncompressed byte of the blob as it is.

        The index behind a compressed tar is not compressed: it is mapped, or read, where it lies in the file.
        """
        return self, offset

    @property
    def stored_bytes(self) -> int:
        """Bytes that the blob takes where it lies; for a compressed blob not those of the tar inside."""
        return self.size

    @property
    def fd(self) -> int | None:
        """File descriptor from which these bytes can be read without this store; None if there is none."""
        return None

    @property
    def latency_s(self) -> float:
        """Recent time from a small request to its answer; 0 before the first, and for a blob that is not remote."""
        return self.base.latency_s if self.base else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Recent speed of long answers on one connection; 0 before the first, and for a blob that is not remote."""
        return self.base.bytes_per_s if self.base else 0.0

    @property
    def stats(self) -> Stats:
        """Requests made so far, and what they cost; nothing for a blob that is not remote."""
        return self.counters.snapshot() if self.counters else Stats()

    def _refuse(self, start: int, end: int) -> NoReturn:
        """Raise the reason why a range can't be read."""
        if self.closed:
            raise StorageError(f"{self.url}: the store is closed")
        raise ValueError(f"{self.url}: bytes {start} to {end} are not within its {self.size}")

    def close(self) -> None:
        """Close files and connections; closing twice is harmless."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}, {self.size} bytes>"


def to_http_range(start: int, end: int) -> str:
    """Spell the bytes start to end, half-open and not empty, as HTTP does: both ends included.

    Source: RFC 9110, 14.1.2, "Byte Ranges".
    """
    return f"bytes={start}-{end - 1}"
