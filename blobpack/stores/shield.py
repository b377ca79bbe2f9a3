"""Requests that Ctrl-C does not interrupt: their responses hold what is needed to undo them, such as an upload's id.

Strategy: the request runs in another thread. Python raises KeyboardInterrupt in the main thread only.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def uninterrupted(work: Callable[[], object]) -> None:
    """Call a function in another thread, and wait for it; an interruption such as Ctrl-C is raised afterwards."""
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
        Thread(target=run).start()
    except RuntimeError:
        # No thread can be started: the limit of threads is reached, or Python is exiting.
        run()
