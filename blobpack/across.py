"""Members of many blobs, read together: those of one blob as one batch, the answers in the order asked.

Blobs far away are read side by side, some at a time.
"""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from blobpack.fetch import threads

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from blobpack.blob import Blob

    Read = tuple[deque[bytes], Exception | None]  # what came, and why no more did

BLOBS_AT_ONCE = 16


class Across:
    """Some members, and which blob each is in."""

    def __init__(
        self, numbers: Sequence[int], names: Sequence[str], blob_of: Callable[[int], Blob]
    ) -> None:
        """Sort names by blob.

        Args:
            numbers: Of each name, the blob's.
            names: In the order asked.
            blob_of: Opens a blob, or gives the one that is open; may block.
        """
        self.groups: dict[int, list[str]] = {}
        for number, name in zip(numbers, names, strict=True):
            self.groups.setdefault(number, []).append(name)
        self._numbers, self._blob_of = numbers, blob_of

    def in_turn(self) -> Iterator[bytes]:
        """Read on in a blob when its next payload is asked for."""
        payloads = {number: self._read(number) for number in self.groups}
        for number in self._numbers:
            yield next(payloads[number])

    def side_by_side(self) -> Iterator[bytes]:
        """Read all blobs at once."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(BLOBS_AT_ONCE, len(self.groups))) as pool:
            reads = {number: pool.submit(self._read_all, number) for number in self.groups}
            try:
                for number in self._numbers:
                    yield _next_of(reads[number].result())
            finally:
                for waiting in reads.values():
                    waiting.cancel()

    async def aread(self) -> AsyncGenerator[bytes, None]:
        """Read all blobs at once, without blocking the event loop."""
        import asyncio

        room = asyncio.Semaphore(BLOBS_AT_ONCE)
        reads = {
            number: asyncio.create_task(self._aread_all(number, room)) for number in self.groups
        }
        try:
            for number in self._numbers:
                yield _next_of(await reads[number])
        finally:
            for waiting in reads.values():
                waiting.cancel()
            await asyncio.gather(*reads.values(), return_exceptions=True)

    def _read(self, number: int) -> Iterator[bytes]:
        yield from self._blob_of(number).read_many(self.groups[number])

    def _read_all(self, number: int) -> Read:
        read: deque[bytes] = deque()
        try:
            read.extend(self._read(number))
        except Exception as exc:
            return read, exc
        return read, None

    async def _aread_all(self, number: int, room: asyncio.Semaphore) -> Read:
        from asyncio import get_running_loop

        read: deque[bytes] = deque()
        try:
            async with room:
                blob = await get_running_loop().run_in_executor(threads(), self._blob_of, number)
                reading = cast("AsyncGenerator[bytes, None]", blob.aread_many(self.groups[number]))
                async with aclosing(reading) as payloads:
                    async for payload in payloads:
                        read.append(payload)
        except Exception as exc:
            return read, exc
        return read, None


def _next_of(read: Read) -> bytes:
    """Give the next payload of a blob; an error where it is reached."""
    payloads, error = read
    if not payloads and error:
        raise error
    return payloads.popleft()
