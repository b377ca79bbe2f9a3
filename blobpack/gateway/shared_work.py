"""Work that many clients wait for, done once, by threads.

Strategy: the first client that wants something starts the work, and those that come before it ends wait for the same
result. It is a concurrent.futures.Future and no asyncio task, so event loops of several threads may share it. A client
that goes away ends nobody's work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future, ThreadPoolExecutor

Result = TypeVar("Result")


class SharedWork(Generic[Result]):
    """Work in progress, by what it makes.

    Attributes:
        begun: How often work was begun, for metrics and tests.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, Future[Result]] = {}
        self.begun = 0

    async def run(
        self, key: Hashable, pool: ThreadPoolExecutor, work: Callable[..., Result], *args: object
    ) -> Result:
        """Return work(*args), or the result of equal work that runs already.

        Args:
            key: What the work makes.
            pool: Its threads do the work.
            work: The function.
            args: Its arguments.
        """
        future = self._running.get(key)
        if future is None:
            self.begun += 1
            future = self._running[key] = pool.submit(work, *args)
            future.add_done_callback(lambda _: self._running.pop(key, None))
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_retrieve_error)
        return await asyncio.shield(waiting)


def _retrieve_error(waiting: asyncio.Future[Result]) -> None:
    """Retrieve a future's error: asyncio logs errors that nobody retrieved, as of clients that went away."""
    if not waiting.cancelled():
        waiting.exception()
