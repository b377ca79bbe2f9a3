"""Bytes of a blob far away for who walks it in order: windows fetched ahead, or headers alone.

While headers lie close, all bytes are wanted: windows are fetched by several threads, ahead of the walk and in order,
so that the walk is exact and never guesses. A run of windows begins small and never reaches further ahead than four
times what it has come, so that little is fetched in vain where it ends. Where headers lie far apart each is a small
request of its own. What is far: more bytes than would arrive while a request is waited for, by the latency and the
bandwidth seen so far; 1 MiB at most, since bytes cost more than time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blobpack.errors import BlobChangedError, BlobNotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import TracebackType

    from blobpack.stores.base import Store

    Progress = Callable[[int], object]

log = logging.getLogger(__name__)

THREADS = 16
WINDOW_BYTES_MIN = 1 << 16
WINDOW_BYTES_MAX = 1 << 22
AHEAD_BYTES_MAX = THREADS * WINDOW_BYTES_MAX
AHEAD_RATIO = 4  # times as far ahead as the run has come
WINDOWS_AHEAD_MIN = 4

HOP_BYTES_MIN = 512
HOP_BYTES_MAX = 1 << 14
HOP_SHARE = 256  # of the bytes, one part in so many is read for headers

GAP_BYTES = 1 << 19  # until latency and bandwidth are known
GAP_BYTES_MIN = 1 << 16
GAP_BYTES_MAX = 1 << 20
MEASURED_BYTES_MIN = 1 << 20  # of a run, before it tells the bandwidth

ATTEMPTS = 5  # each of them a read of the store, which tries again by itself
BACKOFF_S = 1.0
BACKOFF_MAX_S = 15.0


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes that are on their way, or here."""

    start: int
    end: int
    content: Future[bytes]


class Readahead:
    """Reads a store for a walk from its first byte to its last; closed, it has let go of its threads.

    Attributes:
        requests: Reads of the store.
        bytes_read: Their bytes.
        retried: Reads that were made again after a fault.
        position: How far the walk has come.
    """

    def __init__(self, store: Store, *, progress: Progress | None = None) -> None:
        """Read from a store.

        Args:
            store: The blob.
            progress: progress(position), called now and then from the walking thread.
        """
        self.requests = 0
        self.bytes_read = 0
        self.retried = 0
        self.position = 0
        self._store = store
        self._progress = progress
        self._windows: deque[Window] = deque()
        self._ahead_bytes = 0  # of the windows
        self._next_start = 0  # of the window after the last
        self._run_start: int | None = None
        self._given_end = 0  # of the bytes that were given last
        self._run_began = 0.0
        self._latency_s = 0.0
        self._bandwidth = 0.0  # bytes a second
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def read(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read the bytes from start on, to end at least.

        Args:
            start: Where the walk is; not before the last one.
            end: How far the header reaches that it reads.
            stride: The mean distance between the headers before; 0 where it is not known.

        Raises:
            BlobChangedError: the blob is no longer the version that was opened.
            StorageError: the store failed, again and again; the message says how far the walk came.
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
        if not self._latency_s or not self._bandwidth:
            return GAP_BYTES
        return min(max(int(self._latency_s * self._bandwidth), GAP_BYTES_MIN), GAP_BYTES_MAX)

    def _hop(self, start: int, end: int, stride: int) -> bytes | memoryview:
        """Read a header alone, unless it is in a window, or comes in one."""
        self._drop_before(start)
        if self._windows and self._windows[0].start <= start and end <= self._next_start:
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
        if jumped > self.gap_bytes():  # what is jumped over is not what the run has come
            self._run_start += jumped
        if not self._windows:
            self._next_start = start
        come = start - self._run_start
        if come >= MEASURED_BYTES_MIN:
            self._bandwidth = come / (time.monotonic() - self._run_began)
        allowed = min(max(AHEAD_RATIO * come, WINDOW_BYTES_MIN), AHEAD_BYTES_MAX)
        window = allowed // WINDOWS_AHEAD_MIN // WINDOW_BYTES_MIN * WINDOW_BYTES_MIN
        window = min(max(window, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX)
        while self._next_start < self._store.size and (
            self._ahead_bytes + window <= allowed or self._next_start < end
        ):
            self._send_for(window)
        return self._from_windows(start, end)

    def _begin_run(self, start: int, end: int) -> bytes | memoryview:
        """Read a first window, which waits in its place like those that follow."""
        end = min(max(end, start + WINDOW_BYTES_MIN), self._store.size)
        self._run_start = start
        self._run_began = time.monotonic()
        from concurrent.futures import Future

        content: Future[bytes] = Future()
        content.set_result(self._timed(start, end))
        self._append(Window(start, end, content))
        return content.result()

    def _append(self, window: Window) -> None:
        self._windows.append(window)
        self._ahead_bytes += window.end - window.start
        self._next_start = window.end

    def _send_for(self, window_bytes: int) -> None:
        """Have one more window fetched."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(THREADS, "blobpack-readahead")
        start = self._next_start
        end = min(start + window_bytes, self._store.size)
        self._append(Window(start, end, self._pool.submit(self._fetch, start, end)))

    def _from_windows(self, start: int, end: int) -> bytes | memoryview:
        """Take the rest of the first window, or what is wanted of several."""
        first = self._windows[0]
        rest = memoryview(first.content.result())[start - first.start :]
        if end <= first.end:
            return rest
        parts = [rest]
        for window in list(self._windows)[1:]:
            parts.append(memoryview(window.content.result())[: end - window.start])
            if end <= window.end:
                break
        return b"".join(parts)

    def _drop_before(self, start: int) -> None:
        """Let go of the windows that end before a byte, or there."""
        while self._windows and self._windows[0].end <= start:
            window = self._windows.popleft()
            window.content.cancel()
            self._ahead_bytes -= window.end - window.start

    def _timed(self, start: int, end: int) -> bytes:
        """Fetch a little at once, and learn how long a request takes."""
        began = time.monotonic()
        content = self._fetch(start, end)
        took = time.monotonic() - began
        self._latency_s += (took - self._latency_s) * (0.2 if self._latency_s else 1)
        return content

    def _fetch(self, start: int, end: int) -> bytes:
        """Read a range of the store, again after a fault that may pass."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                content = self._store.read_range(start, end)
            except (BlobChangedError, BlobNotFoundError):
                raise
            except StorageError as exc:
                # a store that has given nothing yet is not there, or refuses us
                if attempt == ATTEMPTS or not self.bytes_read:
                    raise
                log.debug("%s: attempt %d: %s", self._store.url, attempt, exc)
                longest = min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_MAX_S)
                if self._closing.wait(random.uniform(longest / 2, longest)):
                    raise
                with self._lock:
                    self.retried += 1
            else:
                break
        with self._lock:
            self.requests += 1
            self.bytes_read += end - start
        return content

    def close(self) -> None:
        """Wait for what is on its way, and drop it; again is harmless."""
        self._closing.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        self._windows.clear()

    def __enter__(self) -> Readahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
