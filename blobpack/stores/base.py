"""What a store promises: the bytes of one blob, by range, always of the same version."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol, runtime_checkable

from blobpack.errors import StorageError
from blobpack.stores.stats import Stats

if TYPE_CHECKING:
    from types import TracebackType

TAIL_BYTES = 128 << 10  # holds the footer, the guide and the directory of a million members


@runtime_checkable
class Store(Protocol):
    """One blob, wherever it lies. Safe to share between threads; can be pickled unless it says otherwise.

    Attributes:
        url: Where the blob lies, as it was given.
        size: Its bytes, when it was opened.
        version: What tells this version of it from another (an ETag, say).
        is_remote: Reading it asks a server.
    """

    url: str
    size: int
    version: str
    is_remote: bool

    @property
    def stats(self) -> Stats:
        """What reading it has cost in requests."""
        ...

    def read_range(self, start: int, end: int) -> bytes:
        """Read the bytes start to end, half-open: all of them, of the version that was opened.

        Raises:
            BlobChangedError: the blob is no longer that version.
            StorageError: the store failed, or is closed.
            ValueError: not 0 ≤ start ≤ end ≤ size.
        """
        ...

    def peek(self, start: int, end: int) -> bytes:
        """Read as read_range does, but without a request where the bytes came when the store was opened.

        For an index, whose bytes have checksums of their own: a blob that changed since is not noticed.
        """
        ...

    def holds(self, start: int, end: int) -> bool:
        """Tell whether these bytes are kept at hand, so that reading them asks nobody."""
        ...

    def forget(self, start: int, end: int) -> bool:
        """Drop what is kept of these bytes, which were found to be wrong; false if nothing was.

        Where something was, reading them again may give others.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections; again is harmless."""
        ...

    def __enter__(self) -> Store: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class StoreBase:
    """What every store does alike."""

    url: str
    size: int
    version: str
    tail = b""  # the blob's last bytes, if they came when it was opened
    closed = False
    is_remote = False

    @property
    def stats(self) -> Stats:
        """What reading it has cost in requests: nothing, here."""
        return Stats()

    def read_range(self, start: int, end: int) -> bytes:
        """Read the bytes start to end; see Store."""
        if self.closed or not 0 <= start <= end <= self.size:
            self.refuse(start, end)
        return self.fetch(start, end) if end > start else b""

    def peek(self, start: int, end: int) -> bytes:
        """Read the bytes start to end, from the tail where they are in it; see Store."""
        tail_start = self.size - len(self.tail)
        if tail_start <= start <= end <= self.size:
            return self.tail[start - tail_start : end - tail_start]
        return self.read_range(start, end)

    def holds(self, start: int, end: int) -> bool:
        """Tell whether these bytes are kept at hand; see Store."""
        return False

    def forget(self, start: int, end: int) -> bool:
        """Drop the tail if these bytes reach into it; see Store."""
        has_them = start < end and end > self.size - len(self.tail)
        if has_them:
            self.tail = b""
        return has_them

    def fetch(self, start: int, end: int) -> bytes:
        """Read a range that is not empty and lies within the blob."""
        raise NotImplementedError

    def refuse(self, start: int, end: int) -> NoReturn:
        """Say why a range can't be read."""
        if self.closed:
            raise StorageError(f"{self.url}: the store is closed")
        raise ValueError(f"{self.url}: bytes {start} to {end} are not within its {self.size}")

    def close(self) -> None:
        """Let go of files and connections; again is harmless."""
        self.closed = True

    def __enter__(self) -> StoreBase:
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
