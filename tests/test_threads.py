"""Look-ahead keeps order and bounds, raises each error in its place, and leaves nothing running; what is kept is bounded."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from test_stores import FORKS, in_fork

from blobpack import threads
from blobpack.errors import BlobpackError
from blobpack.look_ahead import LookAhead, is_wanted, map_ahead
from blobpack.recently_used import RecentlyUsed
from blobpack.threads import processor_count, shared_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 10.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def names_of_threads(name: str) -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(f"blobpack-{name}")]


class Watched:
    """An iterable of numbers that knows how far it was iterated, and what was finished."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.taken += 1
            yield number

    def work(self, number: int) -> int:
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        time.sleep(0.0005 * (number % 3))
        with self._lock:
            self.running -= 1
        return number * 10


class TestMapAhead:
    def test_results_come_in_order_though_the_first_is_slow(self) -> None:
        others = threading.Event()

        def work(number: int) -> int:
            if number == 0:
                assert others.wait(LIMIT_S)
            elif number == 9:
                others.set()
            return number

        assert list(map_ahead(work, range(100), threads=4, most=50)) == list(range(100))

    def test_nothing_is_yielded_of_nothing(self) -> None:
        assert list(map_ahead(int, (), threads=2)) == []

    @settings(deadline=None, max_examples=50)
    @given(
        count=st.integers(0, 40),
        workers=st.integers(1, 5),
        most=st.integers(1, 9),
        size=st.integers(1, 20),
    )
    def test_bounds_are_never_exceeded(
        self, count: int, workers: int, most: int, size: int
    ) -> None:
        watched = Watched(count)
        sizes = [number % 7 for number in range(count)]
        results = map_ahead(
            watched.work,
            watched,
            threads=workers,
            most=most,
            most_size=size,
            size_of=sizes.__getitem__,
        )
        for place, result in enumerate(results):
            assert result == place * 10
            # this one is out; one more may have been looked at to learn its size
            ahead = range(place + 1, watched.taken)
            assert len(ahead) <= most
            assert sum(map(sizes.__getitem__, ahead[:-1])) <= max(size, max(sizes))
        assert watched.most_running <= workers
        assert watched.taken == count

    def test_one_item_larger_than_the_bound_goes_alone(self) -> None:
        watched = Watched(6)
        results = map_ahead(
            watched.work, watched, threads=6, most_size=1, size_of=lambda number: 100
        )
        assert list(results) == [0, 10, 20, 30, 40, 50]
        assert watched.most_running == 1

    def test_an_error_comes_in_its_place_and_what_follows_is_cancelled(self) -> None:
        begun = []
        gate = threading.Event()

        def work(number: int) -> int:
            begun.append(number)
            if number == 3:
                raise KeyError(number)
            if number > 3:
                assert gate.wait(LIMIT_S)
            return number

        results = map_ahead(work, range(100), threads=2, most=50, name="failing")
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        threading.Timer(0.1, gate.set).start()
        with pytest.raises(KeyError, match="3"):
            next(results)
        assert max(begun) < 10
        assert names_of_threads("failing") == []
        assert list(results) == []

    def test_an_error_of_the_iterable_comes_after_the_results_before_it(self) -> None:
        def items() -> Iterator[int]:
            yield from range(3)
            raise ZeroDivisionError

        results = map_ahead(str, items(), threads=2, most=10)
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ZeroDivisionError):
            next(results)

    def test_closed_early_it_begins_nothing_more_and_its_threads_are_gone(self) -> None:
        watched = Watched(1000)
        with closing(
            map_ahead(watched.work, watched, threads=3, most=100, name="early")
        ) as results:
            assert next(results) == 0
        assert watched.taken <= 101
        assert watched.running == 0
        assert names_of_threads("early") == []

    def test_results_that_nobody_takes_are_dropped_each_once(self) -> None:
        dropped: list[int] = []
        finished: list[int] = []
        gate = threading.Event()

        def work(number: int) -> int:
            if number == 6:
                raise KeyError
            if number == 5:
                assert gate.wait(LIMIT_S)
            finished.append(number)
            return number

        results = map_ahead(work, range(8), threads=2, most=8, drop=dropped.append)
        assert next(results) == 0
        until(lambda: len(finished) == 6)  # all but the one that waits, and the one that failed
        threading.Timer(0.1, gate.set).start()
        results.close()
        assert sorted(dropped) == [1, 2, 3, 4, 5, 7]

    def test_one_that_runs_learns_that_nobody_waits_any_more(self) -> None:
        seen: list[bool] = []
        begun = threading.Event()

        def work(number: int) -> int:
            if number:
                begun.set()
                seen.append(is_wanted())
                until(lambda: not is_wanted())
                seen.append(is_wanted())
            return number

        results = map_ahead(work, range(2), threads=2, most=2)
        assert next(results) == 0
        assert begun.wait(LIMIT_S)
        results.close()
        assert seen == [True, False]
        assert is_wanted()

    def test_nested_ones_do_not_wait_for_each_other_and_stop_with_the_outer_one(self) -> None:
        def inner(number: int) -> int:
            return number + 1

        def outer(number: int) -> int:
            return sum(map_ahead(inner, range(number), threads=1, most=2))

        expected = [sum(range(1, n + 1)) for n in range(20)]
        assert list(map_ahead(outer, range(20), threads=1, most=2)) == expected

        begun, ended = threading.Event(), []

        def wait(number: int) -> None:
            begun.set()
            until(lambda: not is_wanted())
            ended.append(number)

        results = map_ahead(
            lambda n: n and list(map_ahead(wait, range(1), threads=1)), range(2), threads=2, most=2
        )
        next(results)
        assert begun.wait(LIMIT_S)
        results.close()
        assert ended == [0]

    def test_ctrl_c_while_it_waits_ends_it(self) -> None:
        """In a process of its own: the interrupt must reach the main thread."""
        program = """
import signal, threading, time
from blobpack.look_ahead import map_ahead, is_wanted
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
begun = threading.Event()
def items():
    yield from range(20)
    begun.wait()
    print("waiting", flush=True)
def work(number):
    begun.set()
    while is_wanted():
        time.sleep(0.01)
    return number
try:
    list(map_ahead(work, items(), threads=1, drop=lambda number: print("dropped", number)))
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            try:
                said, _ = process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
        assert said.splitlines() == ["dropped 0", "interrupted 1"]


class TestLookAhead:
    def test_sizes_are_those_of_what_is_pending(self) -> None:
        with LookAhead[int](2) as ahead:
            for number in range(4):
                ahead.submit(abs, -number, size=10**number)
            ahead.put(99, size=10_000)
            assert (len(ahead), ahead.size) == (5, 11_111)
            assert ahead.pop() == 0
            ahead.skip()
            assert (len(ahead), ahead.size) == (3, 11_100)
            assert [ahead.pop() for _ in range(3)] == [2, 3, 99]
            assert (len(ahead), ahead.size) == (0, 0)
            with pytest.raises(IndexError):
                ahead.pop()

    def test_what_is_skipped_before_it_began_never_begins(self) -> None:
        gate, begun = threading.Event(), []
        with LookAhead[object](1) as ahead:
            ahead.submit(gate.wait, LIMIT_S)
            ahead.submit(begun.append, 1)
            ahead.submit(begun.append, 2)
            first = ahead.pending[0].future
            ahead.skip()
            ahead.skip()
            gate.set()
            first.result()
            ahead.pop()
        assert begun == [2]

    def test_closing_again_is_harmless(self) -> None:
        ahead = LookAhead[int](1)
        ahead.submit(int)
        ahead.close()
        ahead.close()
        assert len(ahead) == 0

    def test_shared_threads_outlive_it_and_are_not_waited_for(self) -> None:
        gate = threading.Event()
        try:
            with LookAhead[object](2, name="test-shared", shared=True) as one:
                one.submit(gate.wait, LIMIT_S)
            with LookAhead[int](2, name="test-shared", shared=True) as other:
                other.submit(abs, -3)
                assert other.pop() == 3
            assert names_of_threads("test-shared")
        finally:
            gate.set()
            threads._shared_pools.pop("test-shared").shutdown()

    def test_closed_by_another_thread_it_keeps_nothing_pending(self) -> None:
        """Handing over and closing may happen at once, as of a batch whose task is cancelled."""
        for _ in range(200):
            ahead = LookAhead[int](2, name="test-race", shared=True)
            ahead.submit(int)
            closer = threading.Thread(target=ahead.close)
            closer.start()
            for _ in range(20):
                ahead.submit(int)
            closer.join()
            ahead.submit(int)
            assert not ahead.pending
        threads._shared_pools.pop("test-race").shutdown()

    @FORKS
    def test_a_fork_begins_with_threads_of_its_own(self) -> None:
        with LookAhead[int](1) as ahead:
            ahead.submit(abs, -1)
            assert ahead.pop() == 1

            def in_child() -> int:
                ahead.submit(abs, -2)
                return ahead.pop()

            assert in_fork(in_child) == 2
            ahead.submit(abs, -3)
            assert ahead.pop() == 3

    @FORKS
    def test_in_a_fork_what_the_parent_waits_for_is_an_error_and_no_wait(self) -> None:
        gate = threading.Event()
        with LookAhead[object](1) as ahead:
            ahead.submit(gate.wait, LIMIT_S)

            def in_child() -> str:
                try:
                    ahead.pop()
                except BlobpackError as exc:
                    ahead.close()
                    return str(exc)
                return ""

            assert "make a new one in this process" in str(in_fork(in_child))
            gate.set()
            assert ahead.pop() is True

    @FORKS
    def test_a_fork_has_shared_pools_of_its_own(self) -> None:
        mine = shared_pool("test-fork", 1)
        try:
            assert mine.submit(os.getpid).result() == os.getpid()
            assert shared_pool("test-fork", 1) is mine

            def in_child() -> bool:
                pool = shared_pool("test-fork", 1)
                return pool is not mine and pool.submit(os.getpid).result() == os.getpid()

            assert in_fork(in_child) is True
        finally:
            threads._shared_pools.pop("test-fork").shutdown()


class TestRecentlyUsed:
    def test_the_least_recently_used_goes_first(self) -> None:
        kept: RecentlyUsed[str, int] = RecentlyUsed(3)
        for number, key in enumerate("abc"):
            kept.put(key, number)
        assert kept.get("a") == 0
        kept.put("d", 3)
        assert kept.get_many("abcd") == {"a": 0, "c": 2, "d": 3}
        kept.put("a", 7)  # used again, though the first value stays
        kept.put("e", 4)
        assert kept.get_many("acde") == {"a": 0, "d": 3, "e": 4}

    def test_bytes_are_bounded_but_for_the_last_value(self) -> None:
        kept: RecentlyUsed[int, bytes] = RecentlyUsed(100)
        for number in range(50):
            kept.put(number, bytes(number), number)
            held = kept.get_many(range(50))
            assert number in held
            assert sum(map(len, held.values())) <= 100
        kept.put(50, bytes(1000), 1000)
        assert list(kept.get_many(range(60))) == [50]
        kept.put(51, b"x", 1)
        assert list(kept.get_many(range(60))) == [51]

    def test_the_first_of_two_that_put_at_once_stays(self) -> None:
        kept: RecentlyUsed[int, object] = RecentlyUsed(10)
        first, second = object(), object()
        assert kept.put(1, first) is first
        assert kept.put(1, second) is first

    def test_cleared_it_is_empty_and_gives_what_it_kept(self) -> None:
        kept: RecentlyUsed[int, str] = RecentlyUsed(2)
        kept.put(1, "a")
        kept.put(2, "b")
        assert kept.clear() == ["a", "b"]
        assert len(kept) == 0
        kept.put(3, "c")
        kept.put(4, "d")
        assert kept.get_many((3, 4)) == {3: "c", 4: "d"}

    def test_threads_share_it(self) -> None:
        kept: RecentlyUsed[int, int] = RecentlyUsed(50)

        def use(seed: int) -> None:
            for turn in range(2000):
                key = (seed * 31 + turn * 7) % 200
                assert kept.put(key, key * 2) == key * 2
                assert kept.get(key) in (None, key * 2)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(use, range(8)))
        assert len(kept) == kept._size == 50

    @FORKS
    def test_a_fork_uses_it_though_a_thread_of_the_parent_did(self) -> None:
        kept: RecentlyUsed[int, int] = RecentlyUsed(2)
        kept.put(1, 2)
        with kept._lock:
            assert in_fork(lambda: kept.get(1)) == 2


def test_processors_are_counted_up_to_a_bound() -> None:
    assert processor_count(1) == 1
    assert processor_count(10_000) == len(os.sched_getaffinity(0))


def test_what_a_finished_map_held_is_gone_at_once() -> None:
    """Not only when the garbage collector runs: the work may hold a blob of 50 MB."""

    class Held:
        pass

    def run(failing: bool) -> weakref.ref[Held]:
        held = Held()

        def items() -> Iterator[int]:
            yield 1
            if failing:
                raise KeyError

        def work(item: int) -> int:
            assert held
            return item

        with suppress(KeyError):
            assert list(map_ahead(work, items(), threads=1)) == [1]
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        assert run(failing=False)() is None
        assert run(failing=True)() is None
    finally:
        gc.enable()


def test_nothing_runs_once_it_is_closed() -> None:
    ran = []
    ahead: LookAhead[None] = LookAhead(1, name="closed-before")
    ahead.close()
    ahead.submit(ran.append, 1)
    assert not ran
    assert not [thread for thread in threading.enumerate() if "closed-before" in thread.name]
