"""Work that threads do once for all clients that wait for it.

Strategy: the first client that asks starts the work. Clients that ask before the work ends wait for its result. The work
is a concurrent.futures.Future and not an asyncio task, so event loops of several threads can share it. If a client goes
away, the work continues for the others.
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
        begun: Number of times that work was begun, for metrics and tests.
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
    """Retrieve a future's error. Otherwise asyncio logs it if the clients that waited have gone away."""
    if not waiting.cancelled():
        waiting.exception()
