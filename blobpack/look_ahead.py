"""Ordered look-ahead over threads.

Strategy: the consumer hands work over at one end of a queue, and takes results from the other end, in the same order.
Only the consumer's thread changes the queue, so a bound is plain code: take a result before handing over more. An error
is raised where the result would have been taken. If the consumer stops early, work that has not begun is cancelled, and
running work can ask `is_wanted` whether anybody still waits for it.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from blobpack.closing import Closing
from blobpack.errors import BlobpackError
from blobpack.threads import fork_count, shared_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


class _ThreadState(threading.local):
    """The look-ahead whose work the current thread runs."""

    look_ahead: LookAhead[Any] | None = None


_thread_state = _ThreadState()


def is_wanted() -> bool:
    """Return whether anybody still waits for the work that this thread does.

    False only in a thread of a `LookAhead` that was closed, or whose enclosing look-ahead was closed. Then a failed request,
    for example, need not be sent again.
    """
    look_ahead = _thread_state.look_ahead
    return look_ahead is None or look_ahead.is_wanted()


class Pending(NamedTuple, Generic[Result]):
    """Work that was handed over, and whose result was not taken yet."""

    future: Future[Result]
    size: int


class LookAhead(Closing, Generic[Result]):
    """Runs work in threads, and returns the results in the order in which the work was handed over.

    It is a context manager. One thread hands over work and takes results; any thread may close it. In a forked child, an
    empty look-ahead starts threads of its own. One that has pending work from the parent raises an error there, instead of
    waiting forever.

    Attributes:
        pending: Work whose result was not taken yet, in order. Only the methods change it.
        size: Sum of the sizes of all pending work.
        is_closed: Whether it was closed, so that no result is wanted any more.
    """

    def __init__(
        self,
        threads: int,
        *,
        name: str = "ahead",
        shared: bool = False,
        drop: Callable[[Result], object] | None = None,
    ) -> None:
        """Make an empty queue. No thread is started yet.

        Args:
            threads: Largest number of threads that work at the same time.
            name: Last part of the names of the threads; see also `shared`.
            shared: Use the process's `shared_pool` of this name. Then `close` does not wait for running work. Work must not
                hand over to the pool that runs it and wait for the result: it could wait forever.
            drop: Called with each result that is never taken, for example to close it.
        """
        self.pending: deque[Pending[Result]] = deque()
        self.size = 0
        self._threads = threads
        self._name = name
        self._is_shared = shared
        self._drop = drop
        # the look-ahead's own pool, unless it uses a shared one
        self._pool: ThreadPoolExecutor | None = None
        self._begun_at_fork = fork_count()
        self.is_closed = False
        # the enclosing look-ahead, if this one was made by work that it runs
        self._outer = _thread_state.look_ahead

    def __len__(self) -> int:
        return len(self.pending)

    def submit(self, work: Callable[..., Result], /, *args: object, size: int = 1) -> None:
        """Hand work(*args) over to the threads.

        Args:
            work: Function that runs in one of the threads.
            args: Its arguments.
            size: Size of the work, which is added to `size`, for a bound in bytes.
        """
        self._check_process()
        # another thread closed it: nobody wants the result, and nobody would shut down a new pool
        if self.is_closed:
            return
        future = self._own_or_shared_pool().submit(self._run, work, *args)
        self.pending.append(Pending(future, size))
        self.size += size
        # another thread may have closed it just before, and did not see this work
        if self.is_closed:
            self._cancel_pending()

    def put(self, result: Result, size: int = 1) -> None:
        """Append a result that exists already, to be taken in its turn."""
        from concurrent.futures import Future

        future: Future[Result] = Future()
        future.set_result(result)
        self.pending.append(Pending(future, size))
        self.size += size

    def pop(self) -> Result:
        """Wait for the first result, remove it, and return it.

        Raises:
            BaseException: the error that the work raised. The work stays first in the queue.
            IndexError: nothing is pending.
            BlobpackError: the work was handed over in another process, before a fork.
        """
        self._check_process()
        # Remove it only after the wait: Ctrl-C may interrupt the wait, and close() must still find the work to drop
        # its result.
        result = self.pending[0].future.result()
        self.size -= self.pending.popleft().size
        return result

    def skip(self) -> None:
        """Remove the first pending work without waiting. If it has not begun, it never runs."""
        first = self.pending.popleft()
        self.size -= first.size
        self._cancel(first.future)

    def is_wanted(self) -> bool:
        """Return False if this look-ahead or an enclosing one was closed."""
        return not self.is_closed and (self._outer is None or self._outer.is_wanted())

    def close(self) -> None:
        """Cancel work that has not begun, and wait for the threads, unless they are shared.

        Closing again does nothing.
        """
        self.is_closed = True
        # in a forked child there are no threads to wait for, and a Future's lock may be held forever
        if self._begun_at_fork != fork_count():
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
        if self._begun_at_fork == fork_count():
            return
        if self.pending:
            raise BlobpackError(
                "this iterator belongs to the process that this one was forked from, and can't be used here: "
                "make a new one in this process"
            )
        self._begun_at_fork, self._pool = fork_count(), None

    def _cancel_pending(self) -> None:
        # popleft until it is empty, because two threads may do so at the same time
        with suppress(IndexError):
            while True:
                self._cancel(self.pending.popleft().future)

    def _cancel(self, future: Future[Result]) -> None:
        # work that runs or has ended can't be cancelled; a callback is called at once if it has ended
        if not future.cancel() and self._drop is not None:
            future.add_done_callback(self._drop_result)

    def _drop_result(self, future: Future[Result]) -> None:
        if self._drop is not None and not future.cancelled() and future.exception() is None:
            self._drop(future.result())


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

    The error of an item is raised where its result would have been yielded. An error of the iterable is raised after all
    results before it. Nothing runs before the first result is asked for. When the generator ends or is closed, its threads
    have ended.

    Args:
        work: Function that runs in one of the threads.
        items: Iterable; the consumer's thread iterates it.
        threads: Largest number of threads that work at the same time.
        most: Largest number of items that were taken from the iterable and not yielded yet.
        most_size: Largest sum of the sizes of those items, usually in bytes; a larger item goes alone.
        size_of: Returns the size of an item; None: each item has size 1.
        name: Last part of the names of the threads.
        drop: Called with each result that is never yielded, because the consumer stops or an item fails.
    """
    source = iter(items)
    failure: Exception | None = None
    with LookAhead[Result](threads, name=name, drop=drop) as results:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as exc:
                failure = exc
                break
            size = 1 if size_of is None else size_of(item)
            while results and results.size + size > most_size:
                yield results.pop()
            results.submit(work, item, size=size)
            # it may be a large payload: without this, the loop would hold it until the next item arrives
            del item
            while len(results) >= most:
                yield results.pop()
        while results:
            yield results.pop()
    if failure is not None:
        # The traceback refers to this frame. Without `del`, both and all that the items hold would stay in memory until
        # the garbage collector runs.
        try:
            raise failure
        finally:
            del failure
