"""The bytes of a remote blob for a walk over its headers: windows that are fetched ahead, or headers alone.

Strategy: while headers lie close together, all bytes are wanted. Windows are then fetched by several threads, ahead
of the walk and in order, so that the walk is exact and never guesses. A run of windows begins small and never reaches
further ahead than four times the bytes it has covered, so that little is fetched in vain where it ends. Where headers
lie far apart, each is a small request of its own. Far apart means: more bytes lie between them than would arrive
while a request is waited for. That is computed from the latency and the bandwidth seen so far, and is 1 MiB at most,
since bytes cost more than time.

A read that fails is not repeated here, because the store has done that already.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from blobpack.closing import Closing
from blobpack.errors import StorageError
from blobpack.look_ahead import LookAhead
from blobpack.plan import SpeedEstimate, gap_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.base import Store

    PositionProgress = Callable[[int], object]

WINDOWS_AT_ONCE = 16
WINDOW_BYTES_MIN = 1 << 16
WINDOW_BYTES_MAX = 1 << 22
# 64 MiB, the most that a scan keeps in memory
AHEAD_BYTES_MAX = WINDOWS_AT_ONCE * WINDOW_BYTES_MAX
# A run fetches ahead up to this many times the bytes that it has covered. So where large members follow small ones, at
# most four fifths of the run's bytes were fetched in vain.
AHEAD_RATIO = 4
# A window is at most this part of the bytes ahead (but never smaller than WINDOW_BYTES_MIN), so that a short run uses
# several connections, not one.
WINDOWS_AHEAD_MIN = 4

HOP_BYTES_MIN = 512
HOP_BYTES_MAX = 1 << 14
# A hop reads one 256th of the distance between headers, so that extended headers mostly come with the same request.
# From a distance of 128 KiB on, hops read less than 0.4 % of the blob.
HOP_SHARE = 256

# used until latency and bandwidth are known
HOP_GAP_BYTES = 1 << 19
HOP_GAP_BYTES_MIN = 1 << 16
HOP_GAP_BYTES_MAX = 1 << 20
# A run that has covered fewer bytes says nothing about bandwidth: it was mostly waiting for its first answers.
MEASURED_BYTES_MIN = 1 << 20


class Readahead(Closing):
    """Reads a store for a walk from its first byte to its last. A context manager; its threads end on close.

    Attributes:
        requests: Number of reads of the store.
        bytes_read: Bytes of these reads.
        position: Offset that the walk has reached.
    """

    def __init__(self, store: Store, *, progress: PositionProgress | None = None) -> None:
        """Prepare to read a store; nothing is read yet.

        Args:
            store: The blob.
            progress: progress(position), called at each read, in the thread that walks.
        """
        self.requests = 0
        self.bytes_read = 0
        self.position = 0
        self._store = store
        self._progress = progress
        # Windows follow each other without a gap. The size of each is its bytes, and the last one ends at _next_start.
        self._windows: LookAhead[bytes] = LookAhead(WINDOWS_AT_ONCE, name="readahead")
        self._next_start = 0
        self._run_start: int | None = None
        # end of the bytes that were returned last
        self._given_end = 0
        self._run_began = 0.0
        # The store has an estimate, too, but of one connection, and of compressed bytes if the blob is compressed.
        self._speed = SpeedEstimate()
        self._lock = threading.Lock()

    def read(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read the bytes from start on, at least to end.

        Args:
            start: Offset that the walk has reached; not less than at the last call.
            end: End of the header that the walk needs.
            stride: Mean distance between the last headers; 0 if it is not known.

        Returns:
            The bytes from start on: end - start of them, or more.

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

    def read_once(self, start: int, end: int) -> bytes | memoryview:
        """Read like `read`, but nothing ahead: from the windows that are there, or by one request."""
        return self.read(start, end, self._store.size + HOP_GAP_BYTES_MAX)

    def gap_bytes(self) -> int:
        """Compute the largest distance between headers at which the bytes between them are read, too."""
        latency_s, bytes_per_s = self._speed.latency_s, self._speed.bytes_per_s
        if not latency_s or not bytes_per_s:
            return HOP_GAP_BYTES
        return gap_bytes(latency_s, bytes_per_s, least=HOP_GAP_BYTES_MIN, most=HOP_GAP_BYTES_MAX)

    def _hop(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read a header by a request of its own, unless a window holds it already."""
        self._drop_before(start)
        if self._windows and self._windows_start() <= start and end <= self._next_start:
            return self._from_windows(start, end)
        # The run of windows ends here. Requests that have not begun are cancelled.
        self._drop_before(self._store.size)
        wanted = min(max(stride // HOP_SHARE, HOP_BYTES_MIN), HOP_BYTES_MAX)
        self._run_start = None
        return self._timed(start, min(max(end, start + wanted), self._store.size))

    def _stream(self, start: int, end: int) -> bytes | memoryview:
        """Read from the windows, and request more of them."""
        self._drop_before(start)
        jumped = start - self._given_end
        if self._run_start is None or (
            not self._windows and start - self._next_start > self.gap_bytes()
        ):
            return self._begin_run(start, end)
        # A large member, over which the walk jumped, says nothing about how long the run of small ones is.
        if jumped > self.gap_bytes():
            self._run_start += jumped
        if not self._windows:
            self._next_start = start
        covered = start - self._run_start
        if covered >= MEASURED_BYTES_MIN:
            # The bandwidth of all threads together, because the bytes between two headers are fetched by all of them.
            self._speed.bytes_per_s = covered / (time.monotonic() - self._run_began)
        allowed = min(max(AHEAD_RATIO * covered, WINDOW_BYTES_MIN), AHEAD_BYTES_MAX)
        window = allowed // WINDOWS_AHEAD_MIN // WINDOW_BYTES_MIN * WINDOW_BYTES_MIN
        window = min(max(window, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX)
        while self._next_start < self._store.size and (
            self._windows.size + window <= allowed or self._next_start < end
        ):
            self._request(window)
        return self._from_windows(start, end)

    def _begin_run(self, start: int, end: int) -> bytes | memoryview:
        """Read the first window of a run, and put it into the queue, where the walk may come back to it.

        No other request runs meanwhile, so that `_timed` measures the latency of one request.
        """
        end = min(max(end, start + WINDOW_BYTES_MIN), self._store.size)
        self._run_start = start
        self._run_began = time.monotonic()
        content = self._timed(start, end)
        self._windows.put(content, end - start)
        self._next_start = end
        return content

    def _request(self, window_bytes: int) -> None:
        """Request one more window."""
        start = self._next_start
        end = min(start + window_bytes, self._store.size)
        self._windows.submit(self._fetch, start, end, size=end - start)
        self._next_start = end

    def _windows_start(self) -> int:
        return self._next_start - self._windows.size

    def _from_windows(self, start: int, end: int) -> bytes | memoryview:
        """Return the rest of the first window, or the bytes start to end of several.

        No window leaves the queue here: the walk may need the last bytes of a window again, together with the next one.
        """
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
        """Drop the windows that end at or before an offset."""
        while self._windows and self._windows_start() + self._windows.pending[0].size <= start:
            self._windows.skip()

    def _timed(self, start: int, end: int) -> bytes:
        """Read a small range in this thread, and measure how long the request takes."""
        began = time.monotonic()
        content = self._fetch(start, end)
        self._speed.note(end - start, time.monotonic() - began)
        return content

    def _fetch(self, start: int, end: int) -> bytes:
        """Read a range of the store, and count the request and its bytes."""
        content = self._store.read_range(start, end)
        with self._lock:
            self.requests += 1
            self.bytes_read += end - start
        return content

    def close(self) -> None:
        """Cancel requests that have not begun, and wait for the others; a second call does nothing."""
        self._windows.close()
