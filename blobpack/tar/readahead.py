"""Bytes of a remote blob for a walk from its first header to its last: windows fetched ahead, or headers alone.

Strategy: while headers lie close together, all bytes are wanted. Windows are then fetched by several threads, ahead
of the walk and in order, so that the walk is exact and never guesses. A run of windows begins small and never reaches
further ahead than four times the bytes it has covered, so that little is fetched in vain where it ends. Where headers
lie far apart, each is a small request of its own. Far apart means: more bytes lie between them than would arrive
while a request is waited for. That is computed from the latency and the bandwidth seen so far, and is 1 MiB at most,
since bytes cost more than time.

A read that fails is not tried again here: the store does that.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from blobpack.errors import StorageError
from blobpack.plan import SpeedEstimate, gap_bytes
from blobpack.threads import LookAhead

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from blobpack.stores.base import Store

    PositionProgress = Callable[[int], object]

WINDOWS_AT_ONCE = 16
WINDOW_BYTES_MIN = 1 << 16
WINDOW_BYTES_MAX = 1 << 22
AHEAD_BYTES_MAX = WINDOWS_AT_ONCE * WINDOW_BYTES_MAX
AHEAD_RATIO = 4  # times as far ahead as the run has come
WINDOWS_AHEAD_MIN = 4

HOP_BYTES_MIN = 512
HOP_BYTES_MAX = 1 << 14
HOP_SHARE = 256  # of the bytes, one part in so many is read for headers

HOP_GAP_BYTES = 1 << 19  # until latency and bandwidth are known
HOP_GAP_BYTES_MIN = 1 << 16
HOP_GAP_BYTES_MAX = 1 << 20
MEASURED_BYTES_MIN = 1 << 20  # a run has a bandwidth when it has covered so many


class Readahead:
    """Reads a store for a walk from its first byte to its last. A context manager; its threads end on close.

    Attributes:
        requests: Reads of the store.
        bytes_read: Their bytes.
        position: How far the walk has come.
    """

    def __init__(self, store: Store, *, progress: PositionProgress | None = None) -> None:
        """Read from a store.

        Args:
            store: The blob.
            progress: progress(position), called now and then from the walking thread.
        """
        self.requests = 0
        self.bytes_read = 0
        self.position = 0
        self._store = store
        self._progress = progress
        # windows lie one behind the other; sizes are bytes, and the last window ends at _next_start
        self._windows: LookAhead[bytes] = LookAhead(WINDOWS_AT_ONCE, name="readahead")
        self._next_start = 0
        self._run_start: int | None = None
        self._given_end = 0  # of the bytes that were returned last
        self._run_began = 0.0
        # the store's own estimate is of one connection, and below decompression
        self._speed = SpeedEstimate()
        self._lock = threading.Lock()

    def read(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read the bytes from start on, to end at least.

        Args:
            start: Where the walk is; not before the last one.
            end: How far the header reaches that it reads.
            stride: The mean distance between the headers before; 0 where it is not known.

        Raises:
            BlobChangedError: the blob is no longer the version that was opened.
            StorageError: the store failed; the message says how far the walk came.
        """
        self.position = start
        if self._progress:
            self._progress(start)
        try:
            far = stride > self.gap_bytes()
            content = self._hop(start, end, stride) if far else self._stream(start, end)
        except StorageError as exc:
            raise type(exc)(f"{exc}; the scan came to byte {start} of {self._store.size}") from exc
        self._given_end = start + len(content)
        return content

    def gap_bytes(self) -> int:
        """Compute how far headers may lie apart to be read with what is between them."""
        latency_s, bytes_per_s = self._speed.latency_s, self._speed.bytes_per_s
        if not latency_s or not bytes_per_s:
            return HOP_GAP_BYTES
        return gap_bytes(latency_s, bytes_per_s, least=HOP_GAP_BYTES_MIN, most=HOP_GAP_BYTES_MAX)

    def _hop(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read a header alone, unless it is in a window, or comes in one."""
        self._drop_before(start)
        if self._windows and self._windows_start() <= start and end <= self._next_start:
            return self._from_windows(start, end)
        self._drop_before(self._store.size)
        wanted = min(max(stride // HOP_SHARE, HOP_BYTES_MIN), HOP_BYTES_MAX)
        self._run_start = None
        return self._timed(start, min(max(end, start + wanted), self._store.size))

    def _stream(self, start: int, end: int) -> bytes | memoryview:
        """Read from windows, and have more of them fetched."""
        self._drop_before(start)
        jumped = start - self._given_end
        if self._run_start is None or (
            not self._windows and start - self._next_start > self.gap_bytes()
        ):
            return self._begin_run(start, end)
        if jumped > self.gap_bytes():  # a run does not cover what the walk jumped over
            self._run_start += jumped
        if not self._windows:
            self._next_start = start
        covered = start - self._run_start
        if covered >= MEASURED_BYTES_MIN:
            # of all threads together: a gap between headers is fetched by all of them, too
            self._speed.bytes_per_s = covered / (time.monotonic() - self._run_began)
        allowed = min(max(AHEAD_RATIO * covered, WINDOW_BYTES_MIN), AHEAD_BYTES_MAX)
        window = allowed // WINDOWS_AHEAD_MIN // WINDOW_BYTES_MIN * WINDOW_BYTES_MIN
        window = min(max(window, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX)
        while self._next_start < self._store.size and (
            self._windows.size + window <= allowed or self._next_start < end
        ):
            self._send_for(window)
        return self._from_windows(start, end)

    def _begin_run(self, start: int, end: int) -> bytes | memoryview:
        """Read a first window at once; it waits in its place like those that follow."""
        end = min(max(end, start + WINDOW_BYTES_MIN), self._store.size)
        self._run_start = start
        self._run_began = time.monotonic()
        content = self._timed(start, end)
        self._windows.put(content, end - start)
        self._next_start = end
        return content

    def _send_for(self, window_bytes: int) -> None:
        """Have one more window fetched."""
        start = self._next_start
        end = min(start + window_bytes, self._store.size)
        self._windows.submit(self._fetch, start, end, size=end - start)
        self._next_start = end

    def _windows_start(self) -> int:
        return self._next_start - self._windows.size

    def _from_windows(self, start: int, end: int) -> bytes | memoryview:
        """Return the rest of the first window, or what is wanted of several. The walk may come back to each."""
        parts: list[memoryview] = []
        at = self._windows_start()
        for window in self._windows.pending:
            content = memoryview(window.future.result())
            window_end = at + window.size
            if not parts:
                parts.append(content[start - at :])
                if end <= window_end:
                    return parts[0]
            else:
                parts.append(content[: end - at])
            at = window_end
            if end <= at:
                break
        return b"".join(parts)

    def _drop_before(self, start: int) -> None:
        """Drop the windows that end at a byte or before."""
        while self._windows and self._windows_start() + self._windows.pending[0].size <= start:
            self._windows.skip()

    def _timed(self, start: int, end: int) -> bytes:
        """Fetch a little at once, and learn how long a request takes."""
        began = time.monotonic()
        content = self._fetch(start, end)
        self._speed.note(end - start, time.monotonic() - began)
        return content

    def _fetch(self, start: int, end: int) -> bytes:
        """Read a range of the store, and count it."""
        content = self._store.read_range(start, end)
        with self._lock:
            self.requests += 1
            self.bytes_read += end - start
        return content

    def close(self) -> None:
        """Wait for what is on its way, and drop it; again is harmless."""
        self._windows.close()

    def __enter__(self) -> Readahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
