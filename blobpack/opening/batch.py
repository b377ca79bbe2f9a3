"""Batches: members that are asked for together are read by many fetches at once, and returned in the order asked.

Strategy: a batch is worked through window by window. For each window, names are looked up, the ranges of their
payloads are planned, and threads that all batches share fetch them. Meanwhile the payloads of the window before are
returned to the caller. So requests stay in flight, and no more than a few windows are in memory. A payload is copied
out of the body that its fetch returned, so that a small image does not keep a large buffer alive.
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
from blobpack.index.which import name_of
from blobpack.look_ahead import LookAhead
from blobpack.plan import FETCH_BYTES_MAX, GAP_BYTES_MIN, gap_bytes, plan_fetches
from blobpack.quoting import quoted
from blobpack.stores.http.options import with_options

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from blobpack.index.index import Index
    from blobpack.model import CheckedWhich
    from blobpack.plan import Fetch
    from blobpack.stores.base import Store

log = logging.getLogger(__name__)

Asked = TypeVar("Asked")

# Requests in flight in the whole process. Small GETs are bound by latency: at 25 ms each, 128 of them make 5,100
# requests a second, close to the 5,500 that S3 allows for one prefix.
FETCHES_AT_ONCE = 128
# An index in S3 fetches the pages of names that are looked up together in one turn, and their blocks in the next.
MEMBERS_LOCATED_AT_ONCE = 256
# The size and the number of windows bound the memory of a batch to 4 times 16 MiB, however many
# members it has.
BATCH_WINDOW_BYTES = 16 << 20
WINDOWS_AHEAD = 4
# Planning looks names up, and may wait for an index in S3. Each turn plans two windows, and the
# consumer takes one, so planning gets ahead of the consumer. With four windows in the first turn,
# the first payload would have to wait for all of them.
WINDOWS_PLANNED_AT_ONCE = 2


class Located(NamedTuple):
    """The place of a member's payload.

    Attributes:
        store: Delivers the bytes of the member's blob.
        start: Start of the payload in the blob.
        end: Its end.
        crc32c: The checksum that the payload must have; None if the index has no checksums.
        which: The name, Member or row that was asked for.
        members: The index that holds the member.
    """

    store: Store
    start: int
    end: int
    crc32c: int | None
    which: CheckedWhich
    members: Index

    @property
    def name(self) -> str:
        """The member's name."""
        return name_of(self.members, self.which)

    def read(self, *, hedge: bool = False) -> bytes:
        """Read this payload alone.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
            StorageError: the store failed.
        """
        if hedge:
            return self.verified(
                with_options(self.store.read_range, self.start, self.end, hedge=True)
            )
        return self.verified(self.store.read_range(self.start, self.end))

    def verified(self, payload: bytes) -> bytes:
        """Compare a payload with its checksum, if the index has one, and return it.

        If the wrong bytes came from a cache, the cache drops them, and they are read again.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
        """
        if self.crc32c is None or crc32c(payload) == self.crc32c:
            return payload
        # without this, a cache would return its damaged bytes at each later read, too
        if self.store.forget(self.start, self.end):
            payload = self.store.read_range(self.start, self.end)
        found = crc32c(payload)
        if found != self.crc32c:
            raise ChecksumError(
                f"{self.store.url}: {quoted(self.name)}: bytes {self.start} to {self.end} are not those that the index "
                f"was made from: their CRC-32C is {found:08x}, the index says {self.crc32c:08x}",
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
    """Members that were planned together, and the results of their fetches that have arrived."""

    __slots__ = ("awaited", "results")

    def __init__(self, awaited: list[Awaited]) -> None:
        self.awaited = awaited
        self.results: list[list[bytes]] = []


class Batch(Generic[Asked]):
    """Members of one or several blobs that are read together. Iterate it once, with `for` or `async for`."""

    def __init__(
        self,
        locate: Callable[
            [Sequence[Asked]], tuple[list[Located], BlobpackError | IndexError | None]
        ],
        several: Iterator[Asked],
        *,
        hedge: bool,
    ) -> None:
        """Prepare a batch; nothing is looked up or requested yet.

        Args:
            locate: Finds members. Returns those before the first that it can't find, and the error.
            several: What names the members for `locate`, in the order asked.
            hedge: Send a request a second time when its answer is late.
        """
        self._read = partial(with_options, _fetch_ranges, hedge=hedge)
        # fetches that were requested; the one whose result is needed first stands first
        self._fetches: LookAhead[list[bytes]] = LookAhead(
            FETCHES_AT_ONCE, name="batches", shared=True
        )
        self._locate = locate
        self._several = several
        self._located: deque[Located] = deque()
        self._windows: deque[Window] = deque()
        self._failure: BlobpackError | IndexError | None = None
        self._ended = False
        self._is_async = False

    def fill(self) -> bool:
        """Plan the next windows, if there is room, and request them. Return False when everything was returned.

        Raises:
            BlobpackError: the next member can't be found, and all members before it were returned.
            IndexError: the next row does not exist, and all members before it were returned.
        """
        for _ in range(WINDOWS_PLANNED_AT_ONCE):
            if len(self._windows) < WINDOWS_AHEAD and (window := self._next_window()):
                self._windows.append(self._submit(window))
        # The event loop may cancel the batch while another thread plans here. LookAhead then drops the requests of this
        # thread; the windows that it planned meanwhile are dropped here.
        if self._fetches.is_closed:
            self.cancel()
        # members before the failed one are returned first, so the error waits until no window is left
        if not self._windows and self._failure is not None:
            raise self._failure
        return bool(self._windows)

    def _next_window(self) -> list[Located]:
        """Return the next members, up to a window's bytes. Names are looked up when they are needed."""
        if not self._located and not self._ended:
            asked = list(islice(self._several, MEMBERS_LOCATED_AT_ONCE))
            try:
                found, self._failure = self._locate(asked)
            except BlobpackError as exc:
                found, self._failure = [], exc
            self._located.extend(found)
            self._ended = self._failure is not None or len(asked) < MEMBERS_LOCATED_AT_ONCE
        window: list[Located] = []
        size = 0
        # a member that is larger than a window makes a window of its own
        while self._located and (
            not window or size + self._located[0].end - self._located[0].start <= BATCH_WINDOW_BYTES
        ):
            window.append(self._located.popleft())
            size += window[-1].end - window[-1].start
        return window

    def _submit(self, window: list[Located]) -> Window:
        """Plan a window's fetches, blob by blob, and hand them to the threads in the order they are needed."""
        rows_of: dict[int, list[int]] = {}
        for row, located in enumerate(window):
            # an empty payload needs no request; HTTP has no way to ask for an empty range (RFC 9110, 14.1.1)
            if located.end > located.start and self._is_read_by_threads(located.store):
                rows_of.setdefault(id(located.store), []).append(row)
        planned = [
            (rows[fetch.places[0]], fetch, rows, ranges)
            for rows in rows_of.values()
            for ranges in [[(window[row].start, window[row].end) for row in rows]]
            for fetch in _plan(window[rows[0]].store, ranges)
        ]
        # The plans of several blobs are mixed by the first member that each fetch brings: the consumer waits for the
        # fetches in this order.
        planned.sort(key=itemgetter(0))
        awaited = [Awaited(located, -1, 0) for located in window]
        for number, (first, fetch, rows, ranges) in enumerate(planned):
            self._fetches.submit(self._read, window[first].store, fetch, ranges)
            for place, i in enumerate(fetch.places):
                awaited[rows[i]] = Awaited(window[rows[i]], number, place)
        log.debug(
            "%d members of %d blobs are read by %d fetches", len(window), len(rows_of), len(planned)
        )
        return Window(awaited)

    def _payload(self, awaited: Awaited) -> bytes:
        """Wait for the next payload of the first window, and check it.

        Raises:
            ChecksumError: the bytes are not those that the index was made from.
        """
        if awaited.fetch < 0:
            return awaited.located.read()
        results = self._windows[0].results
        # Fetches are handed over in the order of their first members. So a member whose result has not arrived
        # always waits for the fetch that is first in the queue.
        if awaited.fetch == len(results):
            results.append(self._fetches.pop())
        return awaited.located.verified(results[awaited.fetch][awaited.place])

    def _is_read_by_threads(self, store: Store) -> bool:
        """Return whether threads read from this store.

        A local read takes 2.6 microseconds (docs/speed.md), and handing it to a thread several times as long. But a
        read may wait for a disk, and an event loop must not wait.
        """
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
            # Not in the pool of the fetches: names may come from another batch. When 200 batches did so at once, all
            # 128 threads waited for names, and none was left to fetch them.
            while await asyncio.to_thread(self.fill):
                for awaited in self._windows[0].awaited:
                    if awaited.fetch == len(self._windows[0].results):
                        first = self._fetches.pending[0].future
                        if not first.done():
                            arrival = asyncio.wrap_future(first)
                            arrival.add_done_callback(_retrieve_error)
                            # wait() raises no error of the fetch: _payload raises it, as in the synchronous case
                            await asyncio.wait([arrival])
                    yield self._payload(awaited)
                self._windows.popleft()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Request nothing more. Answers that are on their way are dropped; requests that fail are not sent again."""
        self._fetches.close()
        self._windows.clear()


def _retrieve_error(arrival: asyncio.Future[list[bytes]]) -> None:
    """Retrieve a future's error, which the caller gets elsewhere: asyncio logs errors that nobody retrieved."""
    if not arrival.cancelled():
        arrival.exception()


def _plan(store: Store, ranges: Sequence[tuple[int, int]]) -> list[Fetch]:
    """Plan fetches by the latency and bandwidth that were measured for the store's server."""
    return plan_fetches(
        ranges,
        max_gap_bytes=gap_bytes(store.latency_s, store.bytes_per_s),
        max_bytes=FETCH_BYTES_MAX,
        free_gap_bytes=GAP_BYTES_MIN,
    )


def _fetch_ranges(store: Store, fetch: Fetch, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read the range of one fetch, and copy out of it the ranges that were asked for."""
    if len(fetch.places) == 1:
        return [store.read_range(fetch.start, fetch.end)]
    # a cache that holds all ranges, but not the gaps between them, would ask the server for the gaps
    if all(store.holds(*ranges[place]) for place in fetch.places):
        return [store.read_range(*ranges[place]) for place in fetch.places]
    body = store.read_range(fetch.start, fetch.end)
    # a range that was asked for twice is copied once; ranges that overlap can make the sum exceed the body
    wanted = {ranges[place] for place in fetch.places}
    gaps = max(0, len(body) - sum(end - start for start, end in wanted))
    # A store that wraps another one asks it for other ranges than these: for frames, or for what its cache lacks. The
    # gaps between these ranges say nothing about such requests, and once made bytes_wanted negative.
    if store.counters is not None and store.base is None:
        store.counters.count_merged(len(fetch.places) - 1, gaps)
    copies = {(start, end): body[start - fetch.start : end - fetch.start] for start, end in wanted}
    return [copies[ranges[place]] for place in fetch.places]
