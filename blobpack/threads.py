"""Threads: ordered look-ahead, locks and recently used values that survive a fork, and how many threads to start.

Strategy of the look-ahead: whoever wants the results hands work over at one end of a queue and takes results from
the other end, in the same order. Only that thread changes the queue. So a bound is plain code: take a result
before handing over more. Errors are raised where the result would have been taken. When the consumer stops early,
work that has not begun is cancelled, and work that runs is told through `is_wanted` that nobody waits for it.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import OrderedDict, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from blobpack.errors import BlobpackError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


def processor_count(most: int) -> int:
    """Count the processors that this process may use, and return at most `most`."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, most)


# Forks

_fork_count = (
    0  # of forks between the first process and this one: cheaper to compare than os.getpid()
)


def _count_fork() -> None:
    global _fork_count
    _fork_count += 1


os.register_at_fork(after_in_child=_count_fork)


class ForkSafeLock:
    """A lock that is free in a forked child, even if a thread of the parent held it at the fork.

    That thread does not exist in the child, so nobody there would ever release an inherited lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def renew(self) -> None:
        """Replace the lock by a new one, which is free."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()


def _renew_locks() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_renew_locks)


# Thread pools that the whole process shares

_shared_pools: dict[str, ThreadPoolExecutor] = {}


def shared_pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Return the process's thread pool of that name; its threads start as they are needed.

    Args:
        name: Pools of different names never wait for each other.
        threads: Most threads of the pool, if it does not exist yet.
    """
    pool = _shared_pools.get(name)
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        new = ThreadPoolExecutor(threads, thread_name_prefix=f"blobpack-{name}")
        pool = _shared_pools.setdefault(name, new)  # another thread may have been faster
    return pool


# a forked child has none of its parent's threads, so it needs pools of its own
os.register_at_fork(after_in_child=_shared_pools.clear)


# Look-ahead


class _ThreadState(threading.local):
    """The look-ahead whose work a thread runs now."""

    look_ahead: LookAhead[Any] | None = None


_thread_state = _ThreadState()


def is_wanted() -> bool:
    """Return whether somebody still waits for the work that this thread does.

    It is False only in a thread of a `LookAhead` that was closed, or of one nested in that: its requests, say,
    need not be sent again after a failure.
    """
    look_ahead = _thread_state.look_ahead
    return look_ahead is None or look_ahead.is_wanted()


class Pending(NamedTuple, Generic[Result]):
    """Work that was handed over and not taken yet."""

    future: Future[Result]
    size: int


class LookAhead(Generic[Result]):
    """Runs work in threads, and returns the results in the order in which the work was handed over.

    A context manager. One thread hands over and takes; any thread may close it. In a forked child, an empty one
    starts threads of its own; one that was begun in the parent raises an error instead of waiting forever.

    Attributes:
        pending: Work that was handed over and not taken yet, in order; changed by the methods only.
        size: The sizes of all pending work together.
        is_closed: No result is wanted any more.
    """

    def __init__(
        self,
        threads: int,
        *,
        name: str = "ahead",
        shared: bool = False,
        drop: Callable[[Result], object] | None = None,
    ) -> None:
        """Make an empty queue; no thread is started yet.

        Args:
            threads: Most threads that work at once.
            name: Ends the names of the threads; see also `shared`.
            shared: Use the process's `shared_pool` of that name. Then `close` does not wait for work that runs.
                Work must not hand over to the pool that runs it and wait for that: it could wait forever.
            drop: Called with each result that was never taken, for results that must be closed, say.
        """
        self.pending: deque[Pending[Result]] = deque()
        self.size = 0
        self._threads = threads
        self._name = name
        self._is_shared = shared
        self._drop = drop
        self._pool: ThreadPoolExecutor | None = None  # of its own
        self._begun_at_fork = _fork_count
        self.is_closed = False
        self._outer = _thread_state.look_ahead  # whose work made this one, if any did

    def __len__(self) -> int:
        return len(self.pending)

    def submit(self, work: Callable[..., Result], /, *args: object, size: int = 1) -> None:
        """Hand work(*args) over to the threads.

        Args:
            work: Runs in one of the threads.
            args: What it is called with.
            size: What the work adds to `size`: bytes, for a bound in bytes.
        """
        self._check_process()
        future = self._own_or_shared_pool().submit(self._run, work, *args)
        self.pending.append(Pending(future, size))
        self.size += size
        if self.is_closed:  # another thread closed it, perhaps before it could see this work
            self._cancel_pending()

    def put(self, result: Result, size: int = 1) -> None:
        """Append a result that is there already, to be taken in its turn."""
        from concurrent.futures import Future

        future: Future[Result] = Future()
        future.set_result(result)
        self.pending.append(Pending(future, size))
        self.size += size

    def pop(self) -> Result:
        """Wait for the first result, and take it.

        Raises:
            BaseException: what the work raised. It stays first in the queue.
            IndexError: nothing is pending.
        """
        self._check_process()
        # an interrupt may come while we wait: what is still pending then will be dropped by close()
        result = self.pending[0].future.result()
        self.size -= self.pending.popleft().size
        return result

    def skip(self) -> None:
        """Remove the first pending work without waiting; if it has not begun, it never will."""
        first = self.pending.popleft()
        self.size -= first.size
        self._cancel(first.future)

    def is_wanted(self) -> bool:
        """Return False once this look-ahead is closed, or the one whose work made it."""
        return not self.is_closed and (self._outer is None or self._outer.is_wanted())

    def close(self) -> None:
        """Cancel work that has not begun, and wait for the threads, unless they are shared; again is harmless."""
        self.is_closed = True
        if self._begun_at_fork != _fork_count:  # neither the threads nor what they ran came along
            self.pending.clear()
            return
        self._cancel_pending()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _run(self, work: Callable[..., Result], *args: object) -> Result:
        _thread_state.look_ahead = self
        try:
            return work(*args)
        finally:
            _thread_state.look_ahead = None

    def _own_or_shared_pool(self) -> ThreadPoolExecutor:
        if self._is_shared:
            return shared_pool(self._name, self._threads)
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(
                self._threads, thread_name_prefix=f"blobpack-{self._name}"
            )
        return self._pool

    def _check_process(self) -> None:
        if self._begun_at_fork == _fork_count:
            return
        if self.pending:
            raise BlobpackError(
                "results are on their way to the process that this one was forked from, and can't be taken here: "
                "begin again in this process"
            )
        self._begun_at_fork, self._pool = _fork_count, None

    def _cancel_pending(self) -> None:
        with suppress(IndexError):  # two threads may be at it
            while True:
                self._cancel(self.pending.popleft().future)

    def _cancel(self, future: Future[Result]) -> None:
        if not future.cancel() and self._drop is not None:
            future.add_done_callback(self._drop_result)

    def _drop_result(self, future: Future[Result]) -> None:
        if self._drop is not None and not future.cancelled() and future.exception() is None:
            self._drop(future.result())

    def __enter__(self) -> LookAhead[Result]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    most: int = sys.maxsize,
    most_size: int = sys.maxsize,
    size_of: Callable[[Item], int] | None = None,
    name: str = "ahead",
    drop: Callable[[Result], object] | None = None,
) -> Generator[Result, None, None]:
    """Yield work(item) for each item, in order, while threads work on the items that follow.

    An error of an item is raised when its result would have been yielded, and so is an error of the iterable: after
    all results before it. Nothing happens before the first result is asked for. When the generator ends or is
    closed, its threads have ended, too.

    Args:
        work: Runs in one of the threads.
        items: Iterated by the consumer's thread.
        threads: Most threads that work at once.
        most: Most items that are taken from the iterable and not yielded yet.
        most_size: Most bytes, say, of those items together; a larger item goes alone.
        size_of: What an item adds to that; None for 1.
        name: Ends the names of the threads.
        drop: Called with each result that is never yielded because the consumer stops or an item fails.
    """
    source = iter(items)
    with LookAhead[Result](threads, name=name, drop=drop) as results:
        while True:
            try:
                item = next(source)
            except Exception as exc:  # the end is one, too
                failure = exc
                break
            size = 1 if size_of is None else size_of(item)
            while results and results.size + size > most_size:
                yield results.pop()
            results.submit(work, item, size=size)
            del item  # it may be large, and a thread has it now
            while len(results) >= most:
                yield results.pop()
        while results:
            yield results.pop()
    if not isinstance(failure, StopIteration):
        raise failure


# Values that are kept


class RecentlyUsed(Generic[Key, Value]):
    """Values by key, up to a total size; the least recently used ones are evicted first.

    The value that was put last stays, even if it alone is larger. Threads may share it, and a forked child may
    go on with it.
    """

    def __init__(self, max_size: int) -> None:
        """Keep nothing yet.

        Args:
            max_size: Most of the sizes of all values together: bytes, or their number.
        """
        self._max_size = max_size
        self._size = 0
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, which becomes the most recently used one; None if there is none."""
        return self.get_many((key,)).get(key)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the values of those keys that have one."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key][0]
        return found

    def put(self, key: Key, value: Value, size: int = 1) -> Value:
        """Keep a value, and evict others if all are too large together.

        Returns:
            The value that is kept: if another thread has put one for this key already, that one.
        """
        with self._lock:
            if key not in self._values:
                self._values[key] = (value, size)
                self._size += size
            self._values.move_to_end(key)
            kept = self._values[key][0]
            while self._size > self._max_size and len(self._values) > 1:
                self._size -= self._values.popitem(last=False)[1][1]
        return kept

    def clear(self) -> list[Value]:
        """Remove all values, and return them."""
        with self._lock:
            values = [value for value, _ in self._values.values()]
            self._values.clear()
            self._size = 0
        return values
