"""Locks and thread pools that survive a fork, the number of threads to start, and work that Ctrl-C does not interrupt."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


def processor_count(most: int) -> int:
    """Return the number of processors that this process may use, but at most `most`."""
    # not os.cpu_count(): a container or taskset may allow fewer processors than the machine has. macOS has no
    # sched_getaffinity.
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, most)


# Forks

# Number of forks between the first process and this one. It tells whether this is the process that began something, for
# each result that is taken; os.getpid() would be a system call each time.
_fork_count = 0


def _count_fork() -> None:
    global _fork_count
    _fork_count += 1


os.register_at_fork(after_in_child=_count_fork)


def fork_count() -> int:
    """Return the number of forks between the first process and this one."""
    return _fork_count


def fork_safe_lock() -> threading.Lock:
    """Make a lock that is free in a forked child, even if a thread of the parent held it during the fork.

    That thread does not exist in the child, so nobody there would ever release an inherited lock.
    """
    # A plain lock, not a class around one: Python looks for signals when a function of its own begins, so Ctrl-C in a
    # Python __enter__, right after acquire(), would leave the lock held forever.
    lock = threading.Lock()
    _locks.add(lock)
    return lock


# weak, or the set would keep the lock of every closed blob and cache
_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def _renew_locks() -> None:
    for lock in list(_locks):
        # logging and threading of the standard library renew their locks by this method, too
        lock._at_fork_reinit()


os.register_at_fork(after_in_child=_renew_locks)


# Thread pools that the whole process shares

_shared_pools: dict[str, ThreadPoolExecutor] = {}


def shared_pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Return the process's thread pool of this name. Its threads are started as they are needed.

    Args:
        name: Name of the pool. Pools of different names never wait for each other.
        threads: Largest number of threads in the pool, if it does not exist yet.
    """
    pool = _shared_pools.get(name)
    if pool is None:
        # imported at the first use, because the import takes about 10 ms
        from concurrent.futures import ThreadPoolExecutor

        new = ThreadPoolExecutor(threads, thread_name_prefix=f"blobpack-{name}")
        # setdefault, because another thread may have made the pool meanwhile; an unused pool has no threads
        pool = _shared_pools.setdefault(name, new)
    return pool


# a forked child has none of its parent's threads: work that it gave to an inherited pool would wait forever
os.register_at_fork(after_in_child=_shared_pools.clear)


# Work that Ctrl-C does not interrupt


def uninterrupted(work: Callable[[], object]) -> None:
    """Call a function in another thread, and wait for it; an interruption such as Ctrl-C is raised afterwards.

    Python raises KeyboardInterrupt in the main thread only.
    """
    # Imported here, because reading local blobs does not need it.
    from concurrent.futures import Future, wait

    done: Future[None] = Future()
    taken = threading.Lock()

    def run() -> None:
        if not taken.acquire(blocking=False):
            return
        try:
            work()
        except BaseException as exc:
            done.set_exception(exc)
        else:
            done.set_result(None)

    interruption: BaseException | None = None
    while True:
        try:
            # An interruption may come before the thread has started. So after each interruption, one more thread is
            # started. Only the first thread takes the lock, and does the work.
            _begin_thread(run)
            wait([done])
            break
        except BaseException as exc:
            interruption = exc
    if interruption:
        raise interruption
    done.result()


def _begin_thread(run: Callable[[], None]) -> None:
    try:
        threading.Thread(target=run).start()
    except RuntimeError:
        # No thread can be started: the limit of threads is reached, or Python is exiting.
        run()
