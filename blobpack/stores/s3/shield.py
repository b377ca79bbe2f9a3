"""Requests that are not left half way: Ctrl-C waits for the answer, which says what there is to undo."""

from __future__ import annotations

from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def uninterrupted(work: Callable[[], None]) -> None:
    """Do something to its end, by another thread: Ctrl-C, say, is raised when it has come."""
    done: Future[None] = Future()
    taken = Lock()

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
            _begin_thread(run)  # again after an interruption, which may have come before it began
            wait([done])
            break
        except BaseException as exc:
            interruption = exc
    if interruption:
        raise interruption
    done.result()


def _begin_thread(run: Callable[[], None]) -> None:
    try:
        Thread(target=run).start()
    except RuntimeError:  # Python is exiting, and begins no more threads
        run()
