"""Batches: members asked for together, read by many fetches at once, and returned in the order asked.

Strategy: a batch is worked through window by window. Some names are looked up, their ranges are planned, and threads
that all batches share fetch them, while the payloads of the window before are returned. So requests stay in flight,
and no more than a few windows are in memory. A payload is copied out of the body that its fetch brought, so that a
small image does not keep a large buffer alive.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from blobpack.checksum import crc32c
from blobpack.errors import BlobpackError, ChecksumError
from blobpack.plan import FETCH_BYTES_MAX, GAP_BYTES_MIN, gap_bytes, plan_fetches
from blobpack.stores.http.options import with_options
from blobpack.threads import LookAhead

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from blobpack.plan import Fetch
    from blobpack.stores.base import Store

log = logging.getLogger(__name__)

Asked = TypeVar("Asked")

FETCHES_AT_ONCE = 128  # in the whole process
NAMES_AT_ONCE = 256  # looked up together
BATCH_WINDOW_BYTES = 16 << 20
WINDOWS_AHEAD = 4
WINDOWS_PLANNED_AT_ONCE = 2  # planned before the next answer is given out


class Located(NamedTuple):
    """Where a member's payload lies, and the checksum it must have; None if the index has no checksums."""

    store: Store
    name: str
    start: int
    end: int
    crc32c: int | None

    def read(self, *, hedge: bool = False) -> bytes:
        """Read this payload alone.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
            StorageError: the store failed.
        """
        if hedge:
            return self.checked(
                with_options(self.store.read_range, self.start, self.end, hedge=True)
            )
        return self.checked(self.store.read_range(self.start, self.end))

    def checked(self, payload: bytes) -> bytes:
        """Compare a payload with its checksum, if the index has one, and return it.

        If the wrong bytes came from a cache, the cache drops them, and they are read again.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
        """
        if self.crc32c is None or crc32c(payload) == self.crc32c:
            return payload
        if self.store.forget(self.start, self.end):
            payload = self.store.read_range(self.start, self.end)
        found = crc32c(payload)
        if found != self.crc32c:
            raise ChecksumError(
                f"{self.store.url}: {self.name}: bytes {self.start} to {self.end} are not what the index "
                f"was made of: their CRC-32C is {found:08x}, the index says {self.crc32c:08x}",
                offset=self.start,
            )
        return payload


class Awaited(NamedTuple):
    """A payload that was asked for.

    Attributes:
        located: Its member.
        fetch: The number of the fetch that brings it, counted from 0 in its window; -1 if the consumer's thread
            reads it.
        place: Its place in that fetch's result.
    """

    located: Located
    fetch: int
    place: int


class Window:
    """Members that were planned together: what is awaited, and the results of the fetches that came already."""

    __slots__ = ("awaited", "results")

    def __init__(self, awaited: list[Awaited]) -> None:
        self.awaited = awaited
        self.results: list[list[bytes]] = []


class Batch(Generic[Asked]):
    """Members of one blob or of several that are read together. Iterate it once, with `for` or `async for`."""

    def __init__(
        self,
        locate: Callable[[Sequence[Asked]], tuple[list[Located], BlobpackError | None]],
        names: Iterator[Asked],
        *,
        hedge: bool = True,
    ) -> None:
        """Prepare; nothing is looked up or requested yet.

        Args:
            locate: Finds members by their names. Returns those before the first that it can't find, and the error.
            names: In the order asked; or whatever else `locate` takes.
            hedge: Send a request a second time when its answer is late.
        """
        self._read = partial(with_options, _run, hedge=hedge)
        # in the order in which their results are needed first
        self._fetches: LookAhead[list[bytes]] = LookAhead(
            FETCHES_AT_ONCE, name="batches", shared=True
        )
        self._locate = locate
        self._names = names
        self._located: deque[Located] = deque()
        self._windows: deque[Window] = deque()
        self._failure: BlobpackError | None = None
        self._ended = False
        self._is_async = False

    def fill(self) -> bool:
        """Plan the next windows, if there is room, and request them. Return False when everything was returned.

        Raises:
            BlobpackError: the next member can't be found, and all members before it were returned.
        """
        for _ in range(WINDOWS_PLANNED_AT_ONCE):
            if len(self._windows) < WINDOWS_AHEAD and (window := self._next_window()):
                self._windows.append(self._ask(window))
        if self._fetches.is_closed:  # the event loop cancelled this batch while this thread planned
            self.cancel()
        if not self._windows and self._failure is not None:
            raise self._failure
        return bool(self._windows)

    def _next_window(self) -> list[Located]:
        """Return the next members, up to a window's bytes. Names are looked up when they are needed."""
        if not self._located and not self._ended:
            names = list(islice(self._names, NAMES_AT_ONCE))
            try:
                found, self._failure = self._locate(names)
            except BlobpackError as exc:
                found, self._failure = [], exc
            self._located.extend(found)
            self._ended = self._failure is not None or len(names) < NAMES_AT_ONCE
        window: list[Located] = []
        size = 0
        while self._located and (
            not window or size + self._located[0].end - self._located[0].start <= BATCH_WINDOW_BYTES
        ):
            window.append(self._located.popleft())
            size += window[-1].end - window[-1].start
        return window

    def _ask(self, window: list[Located]) -> Window:
        """Plan a window's fetches, blob by blob, and hand them to the threads in the order they are needed."""
        rows_of: dict[int, list[int]] = {}
        for row, located in enumerate(window):
            if located.end > located.start and self._is_handed_on(located.store):
                rows_of.setdefault(id(located.store), []).append(row)
        planned = [
            (rows[fetch.places[0]], fetch, rows, ranges)
            for rows in rows_of.values()
            for ranges in [[window[row][2:4] for row in rows]]
            for fetch in _plan(window[rows[0]].store, ranges)
        ]
        planned.sort(key=itemgetter(0))
        awaited = [Awaited(located, -1, 0) for located in window]
        for number, (first, fetch, rows, ranges) in enumerate(planned):
            self._fetches.submit(self._read, window[first].store, fetch, ranges)
            for place, i in enumerate(fetch.places):
                awaited[rows[i]] = Awaited(window[rows[i]], number, place)
        log.debug("%d members of %d blobs by %d fetches", len(window), len(rows_of), len(planned))
        return Window(awaited)

    def _payload(self, awaited: Awaited) -> bytes:
        """Wait for the next payload of the first window, and check it.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
        """
        if awaited.fetch < 0:
            return awaited.located.read()
        results = self._windows[0].results
        # fetches were handed over in the order of their first members, so the next one is the one needed
        if awaited.fetch == len(results):
            results.append(self._fetches.pop())
        return awaited.located.checked(results[awaited.fetch][awaited.place])

    def _is_handed_on(self, store: Store) -> bool:
        """Return whether threads read from this store. From a local file, the consumer reads sooner by itself."""
        return self._is_async or store.is_remote

    def __iter__(self) -> Iterator[bytes]:
        try:
            while self.fill():
                for awaited in self._windows[0].awaited:
                    yield self._payload(awaited)
                self._windows.popleft()
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import asyncio

        self._is_async = True
        try:
            # not in the shared pool: names may come from another batch, whose fetches need those threads
            while await asyncio.to_thread(self.fill):
                for awaited in self._windows[0].awaited:
                    if awaited.fetch == len(self._windows[0].results):
                        first = self._fetches.pending[0].future
                        if not first.done():
                            arrival = asyncio.wrap_future(first)
                            arrival.add_done_callback(_look_at_failure)
                            await asyncio.wait([arrival])
                    yield self._payload(awaited)
                self._windows.popleft()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Request nothing more. Answers that are on their way are dropped; requests that fail are not sent again."""
        self._fetches.close()
        self._windows.clear()


def _look_at_failure(arrival: asyncio.Future[list[bytes]]) -> None:
    """Mark an error as seen, so that asyncio does not log it: it is raised to the caller, or nobody waits for it."""
    if not arrival.cancelled():
        arrival.exception()


def _plan(store: Store, ranges: Sequence[tuple[int, int]]) -> list[Fetch]:
    """Merge what costs less together, by what is known of the store's server."""
    return plan_fetches(
        ranges,
        max_gap_bytes=gap_bytes(store.latency_s, store.bytes_per_s),
        max_bytes=FETCH_BYTES_MAX,
        free_gap_bytes=GAP_BYTES_MIN,
    )


def _run(store: Store, fetch: Fetch, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Fetch, and copy out each range."""
    if len(fetch.places) > 1 and all(store.holds(*ranges[place]) for place in fetch.places):
        return [store.read_range(*ranges[place]) for place in fetch.places]
    body = store.read_range(fetch.start, fetch.end)
    if len(fetch.places) == 1:
        return [body]
    wanted = {ranges[place] for place in fetch.places}
    gaps = max(0, len(body) - sum(end - start for start, end in wanted))
    # a store that wraps another one asks it for other ranges than these: frames, or what its cache lacks
    if store.counters is not None and store.base is None:
        store.counters.count_merged(len(fetch.places) - 1, gaps)
    copies = {(start, end): body[start - fetch.start : end - fetch.start] for start, end in wanted}
    return [copies[ranges[place]] for place in fetch.places]
