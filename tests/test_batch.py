"""What a batch asks a store for: which ranges, when, and from which thread. The stores record what is read."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

from blobpack.checksum import crc32c
from blobpack.errors import ChecksumError, MemberNotFoundError, StorageError
from blobpack.index.index import Index
from blobpack.opening import batch as batch_module
from blobpack.opening.batch import Batch, Located
from blobpack.stores.http.options import is_hedged
from blobpack.stores.memory import MemoryStore
from blobpack.stores.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.errors import BlobpackError

DATA = bytes(range(256)) * 400
NO_MEMBERS = Index()  # only the name of a row would be looked up in it


class RecordingStore(MemoryStore):
    """A store in memory that records the ranges that are read, and the threads that read them."""

    def __init__(self, *, is_remote: bool = True, data: bytes = DATA) -> None:
        super().__init__(data)
        self.is_remote = is_remote
        self.counters = Counters()
        self.read: list[tuple[int, int]] = []
        self.threads: set[threading.Thread] = set()
        self.hedged: set[bool] = set()

    def fetch(self, start: int, end: int) -> bytes:
        self.read.append((start, end))
        self.threads.add(threading.current_thread())
        self.hedged.add(is_hedged())
        return super().fetch(start, end)


def batch_of(store: MemoryStore, ranges: Sequence[tuple[int, int]]) -> Batch[int]:
    """A batch of ranges; the payload of a range beyond the blob can't be found."""

    def locate(numbers: Sequence[int]) -> tuple[list[Located], BlobpackError | None]:
        found: list[Located] = []
        for number in numbers:
            start, end = ranges[number]
            if end > store.size:
                return found, MemberNotFoundError(f"number {number}")
            found.append(
                Located(store, start, end, crc32c(DATA[start:end]), str(number), NO_MEMBERS)
            )
        return found, None

    return Batch(locate, iter(range(len(ranges))), hedge=False)


def payloads(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    return [DATA[start:end] for start, end in ranges]


def test_an_empty_payload_needs_no_request() -> None:
    store = RecordingStore()
    ranges = [(512, 512), (1024, 1030), (600, 600), (0, 0)]
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert [bounds for bounds in store.read if bounds[0] < bounds[1]] == [(1024, 1030)]


def test_a_local_store_is_read_by_the_thread_that_asks() -> None:
    """To hand a read of some microseconds to another thread takes longer than the read."""
    store = RecordingStore(is_remote=False)
    ranges = [(i * 1000, i * 1000 + 10) for i in range(20)]
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert store.threads == {threading.current_thread()}
    assert store.read == ranges


def test_a_remote_store_is_read_by_other_threads() -> None:
    store = RecordingStore()
    assert list(batch_of(store, [(0, 5), (90_000, 90_005)])) == payloads([(0, 5), (90_000, 90_005)])
    assert threading.current_thread() not in store.threads
    # the next batch need not start threads
    assert all(thread.is_alive() for thread in store.threads)


def test_a_window_holds_payloads_up_to_its_size_wherever_they_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Payloads of one window that are neighbours come by one request."""
    monkeypatch.setattr(batch_module, "BATCH_WINDOW_BYTES", 200)
    for away in (0, 70_000):
        store = RecordingStore()
        ranges = [(away + i * 100, away + i * 100 + 100) for i in range(6)]
        assert list(batch_of(store, ranges)) == payloads(ranges)
        assert sorted(store.read) == [
            (start, start + 200) for start in (away, away + 200, away + 400)
        ]
        # the third one does not fit into the window any more by one byte
        store = RecordingStore()
        ranges = [(away, away + 100), (away + 100, away + 201)]
        assert list(batch_of(store, ranges)) == payloads(ranges)
        assert sorted(store.read) == ranges
        # one that is larger than a window makes a window of its own
        store = RecordingStore()
        ranges = [(away, away + 10), (away + 10, away + 500), (away + 500, away + 510)]
        assert list(batch_of(store, ranges)) == payloads(ranges)
        assert sorted(store.read) == ranges


def test_payloads_of_several_blobs_come_in_the_order_asked() -> None:
    """The requests of the blobs are mixed, and those of one blob need not be in its order."""
    contents = DATA * 30, (DATA * 30)[::-1]
    stores = [RecordingStore(data=data) for data in contents]
    # too far apart to be merged
    asked = [(i % 2, (7 - i) * 400_000, (7 - i) * 400_000 + 5) for i in range(8)]

    def locate(wanted: Sequence[tuple[int, int, int]]) -> tuple[list[Located], None]:
        return [
            Located(stores[i], start, end, None, "a", NO_MEMBERS) for i, start, end in wanted
        ], None

    with_gaps = Batch(locate, iter(asked), hedge=False)
    assert list(with_gaps) == [contents[i][start:end] for i, start, end in asked]
    assert [len(store.read) for store in stores] == [4, 4]


def test_no_more_windows_are_ahead_than_memory_is_promised_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_module, "BATCH_WINDOW_BYTES", 10)
    store = RecordingStore()
    ranges = [(i * 10, i * 10 + 10) for i in range(50)]
    batch = batch_of(store, ranges)
    for turn in range(10):
        assert batch.fill()
        planned = min(2 * (turn + 1), 4)
        assert len(batch._windows) == planned
    batch.cancel()


def test_after_the_end_of_a_cancelled_batch_nothing_is_planned() -> None:
    store = RecordingStore()
    batch = batch_of(store, [(0, 10), (20, 30)])
    batch.cancel()
    assert not batch.fill()
    assert store.read == []


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_a_payload_that_is_not_found_ends_the_batch_behind_those_before_it(count: int) -> None:
    """Names are looked up 256 at a time: names of later turns are not read."""
    ranges = [(i, i + 1) for i in range(count)]
    for bad in {0, count // 2, count - 1}:
        broken = [*ranges]
        broken[bad] = (0, len(DATA) + 1)
        came = []
        with pytest.raises(MemberNotFoundError, match=f"number {bad}$"):
            came.extend(batch_of(RecordingStore(), broken))
        # extend keeps what came before the error
        assert came == payloads(ranges[:bad])
    assert list(batch_of(RecordingStore(), ranges)) == payloads(ranges)


def test_merged_requests_are_counted_with_the_bytes_that_nobody_wanted() -> None:
    store = RecordingStore()
    ranges = [(1000, 1100), (1150, 1200), (1000, 1100), (1050, 1120)]
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert store.read == [(1000, 1200)]
    assert store.stats.merged == 3
    # these overlap, and sum up to more than what was read
    assert store.stats.bytes_wanted == 0
    store = RecordingStore()
    assert list(batch_of(store, ranges[:2])) == payloads(ranges[:2])
    # this store does not count its requests, so only the correction is seen
    assert (store.stats.merged, store.stats.bytes_wanted) == (1, -50)


class CachingStore(RecordingStore):
    """A store with a cache that holds its even hundreds of bytes."""

    def holds(self, start: int, end: int) -> bool:
        return start // 100 % 2 == (end - 1) // 100 % 2 == 0 and end - start <= 100


def test_gaps_between_ranges_that_a_cache_holds_are_not_read() -> None:
    store = CachingStore()
    ranges = [(200, 300), (0, 90), (410, 480)]
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert store.read == ranges
    # one request is needed anyway, and brings all
    store = CachingStore()
    ranges = [(200, 300), (0, 90), (310, 480)]
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert store.read == [(0, 480)]


def test_a_store_that_wraps_another_counts_no_gaps_and_one_without_counters_none() -> None:
    """The store below counts its own requests, which are for other ranges."""
    ranges = [(1000, 1100), (1150, 1200)]
    store = RecordingStore()
    store.base = MemoryStore(DATA)
    assert list(batch_of(store, ranges)) == payloads(ranges)
    assert (store.stats.merged, store.stats.bytes_wanted) == (0, 0)
    store = RecordingStore()
    store.counters = None
    assert list(batch_of(store, ranges)) == payloads(ranges)


def test_a_batch_that_is_left_early_requests_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "BATCH_WINDOW_BYTES", 10)
    ranges = [(i * 10, i * 10 + 10) for i in range(50)]

    async def leave(batch: Batch[int]) -> bytes:
        reading = aiter(batch)
        first = await anext(reading)
        await reading.aclose()
        return first

    batch = batch_of(RecordingStore(), ranges)
    reading = iter(batch)
    assert next(reading) == DATA[:10]
    reading.close()
    assert not batch.fill()
    batch = batch_of(RecordingStore(), ranges)
    assert asyncio.run(leave(batch)) == DATA[:10]
    assert not batch.fill()


@pytest.mark.parametrize("is_remote", [True, False])
def test_an_event_loop_goes_on_while_a_batch_waits(is_remote: bool) -> None:
    """A local read may wait for a disk."""
    goes_on = threading.Event()

    class WaitingStore(RecordingStore):
        def fetch(self, start: int, end: int) -> bytes:
            assert goes_on.wait(120)
            return super().fetch(start, end)

    async def read() -> list[bytes]:
        asyncio.get_running_loop().call_later(0.05, goes_on.set)
        return [payload async for payload in batch_of(store, ranges)]

    store, ranges = WaitingStore(is_remote=is_remote), [(0, 10), (90_000, 90_010)]
    assert asyncio.run(read()) == payloads(ranges)
    assert threading.current_thread() not in store.threads


def test_an_error_of_a_fetch_is_raised_once_and_not_logged() -> None:
    """asyncio logs the errors of futures that nobody retrieved."""
    is_waiting = threading.Event()
    logged: list[object] = []

    class FailingStore(RecordingStore):
        def fetch(self, start: int, end: int) -> bytes:
            assert is_waiting.wait(120)
            raise StorageError("no bytes")

    async def read() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: logged.append(context))
        loop.call_later(0.05, is_waiting.set)
        with pytest.raises(StorageError, match="no bytes"):
            async for _ in batch_of(FailingStore(), [(0, 10)]):
                pass

    asyncio.run(read())
    gc.collect()
    assert logged == []


@pytest.mark.parametrize("hedge", [True, False])
def test_a_payload_that_is_read_alone_is_hedged_as_asked(hedge: bool) -> None:
    store = RecordingStore()
    assert Located(store, 5, 9, None, "a", NO_MEMBERS).read(hedge=hedge) == DATA[5:9]
    assert store.hedged == {hedge}
    # the thread's next read is another one
    store.read_range(5, 9)
    assert False in store.hedged


class ForgettingStore(RecordingStore):
    """A store whose first answer is damaged, and which has a cache that can drop it or not."""

    def __init__(self, *, forgets: bool) -> None:
        super().__init__()
        self.forgets = forgets
        self.forgotten: list[tuple[int, int]] = []

    def forget(self, start: int, end: int) -> bool:
        self.forgotten.append((start, end))
        return self.forgets

    def fetch(self, start: int, end: int) -> bytes:
        payload = super().fetch(start, end)
        return b"?" * len(payload) if len(self.read) == 1 else payload


def test_a_damaged_payload_is_read_once_more_if_that_may_help() -> None:
    store = ForgettingStore(forgets=True)
    located = Located(store, 100, 200, crc32c(DATA[100:200]), "a", NO_MEMBERS)
    assert located.read() == DATA[100:200]
    assert store.forgotten == [(100, 200)]
    assert len(store.read) == 2
    store = ForgettingStore(forgets=False)
    with pytest.raises(ChecksumError, match="a: bytes 100 to 200 are not those") as caught:
        Located(store, 100, 200, crc32c(DATA[100:200]), "a", NO_MEMBERS).read()
    assert caught.value.offset == 100
    assert len(store.read) == 1
    # without a checksum nothing can be compared
    store = ForgettingStore(forgets=True)
    assert Located(store, 100, 200, None, "a", NO_MEMBERS).read() == b"?" * 100
    assert store.forgotten == []
