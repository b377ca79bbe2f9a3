"""Requests that Ctrl-C does not cut off: it waits for the answer, which says what there is to undo."""

from __future__ import annotations

from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def uninterrupted(work: Callable[[], object]) -> None:
    """Call a function in another thread, and wait for it. An interruption, Ctrl-C for example, is raised after it."""
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
            # after an interruption, which may have come before the thread began, another one is begun:
            # whichever takes the lock does the work
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
        Thread(target=run).start()
    except RuntimeError:  # Python is exiting, and begins no more threads
        run()
