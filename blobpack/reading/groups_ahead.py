"""Decode items ahead of the caller, in groups.

Strategy: threads decode, because the decoders release the GIL. The caller's thread decodes, too, whenever it would
otherwise wait. So as many threads decode as there are processors, and what the caller's thread has decoded is in the cache
of its processor. A thread decodes a group of small items at once. Memory is bounded, because groups are small and few.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from blobpack.look_ahead import LookAhead
from blobpack.threads import processor_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")

DECODERS_MAX = 16
# Groups of decoded images for each thread. A group may be one image of 36 MB (12 MP as RGB), so only one waits while the
# next is decoded.
DECODED_AHEAD = 2
# Handing a group over to a thread takes about 40 µs, and decoding an image of 2 KB about 20. So a thread gets many small
# images at once, and large ones alone.
FIRST_ITEMS_MAX = 8
GROUP_ITEMS_MAX = 64
GROUP_BYTES_MAX = 128 << 10
# More than all small images ahead of the caller take, and little enough for any process.
KEPT_BYTES = 8 << 20


class _Decoded(NamedTuple, Generic[Result]):
    """Results of a group, up to the first item that failed, and its error."""

    results: list[Result]
    failure: Exception | None


class _Group(Generic[Item, Result]):
    """Items to decode, by whichever thread comes first.

    Attributes:
        decoded: The results; None: not yet.
    """

    def __init__(self, items: list[Item], decode: Callable[[list[Item]], Iterator[Result]]) -> None:
        self._items = items
        self._decode = decode
        self._begun = threading.Lock()  # held once decoding has begun
        self.decoded: _Decoded[Result] | None = None

    def run(self) -> None:
        """Decode the items, unless a thread has begun to."""
        if not self._begun.acquire(blocking=False):
            return
        results: list[Result] = []
        failure: Exception | None = None
        try:
            for result in self._decode(self._items):
                results.append(result)
        # raised where its result would have been yielded
        except Exception as exc:
            failure = exc
        self.decoded = _Decoded(results, failure)


def decode_groups(
    decode: Callable[[list[Item]], Iterator[Result]],
    items: Iterable[Item],
    size_of: Callable[[Item], int],
) -> Iterator[Result]:
    """Yield the result of each item, in order, while threads decode the items that follow.

    The error of an item is raised where its result would have been yielded. An error of the iterable is raised after all
    results before it.

    Args:
        decode: Function that runs in one of the threads, or in the caller's. It yields the results of a group of items, in
            order, up to one that fails.
        items: Iterable; the caller's thread iterates it.
        size_of: Returns the size of an item before it is decoded, in bytes.
    """
    keep_freed_memory()
    for decoded in _decoded_groups(decode, _grouped(items, size_of)):
        yield from decoded.results
        if decoded.failure is not None:
            try:
                raise decoded.failure
            finally:
                # else this frame and the traceback, which refer to each other, would keep the results in memory
                del decoded


def _decoded_groups(
    decode: Callable[[list[Item]], Iterator[Result]], groups: Iterator[list[Item]]
) -> Iterator[_Decoded[Result]]:
    processors = processor_count(DECODERS_MAX)
    ahead: deque[_Group[Item, Result]] = deque()
    failure: Exception | None = None
    # with one processor there is one thread, which decodes while the caller waits for something else
    with LookAhead[None](max(processors - 1, 1), name="decode") as threads:
        while True:
            # Without a bound, threads would decode all items before a slow caller takes them.
            while failure is None and len(ahead) < processors * DECODED_AHEAD:
                try:
                    group = next(groups)
                except StopIteration:
                    break
                except Exception as exc:
                    failure = exc
                    break
                _hand_over(_Group(group, decode), ahead, threads)
            if not ahead:
                break
            yield _next_decoded(ahead, threads)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure


def _hand_over(
    group: _Group[Item, Result], ahead: deque[_Group[Item, Result]], threads: LookAhead[None]
) -> None:
    """Append a group, and let a thread decode it, if the caller's thread will not do so at once."""
    if ahead:
        threads.submit(group.run)
    else:
        # starting a thread takes as long as decoding ten small images
        threads.put(None)
    ahead.append(group)


def _next_decoded(ahead: deque[_Group[Item, Result]], threads: LookAhead[None]) -> _Decoded[Result]:
    """Remove the first group, and return its results; decode groups until they are there."""
    first = ahead[0]
    for group in ahead:
        if first.decoded is not None:
            break
        group.run()
    if first.decoded is None:
        threads.pop()  # a thread decodes it: wait
    else:
        threads.skip()
    ahead.popleft()
    return cast("_Decoded[Result]", first.decoded)


@cache
def keep_freed_memory() -> None:
    """Let the process keep some memory that it frees, for the next images, instead of returning it to the system."""
    import numpy as np

    # By default, glibc returns more than 128 KiB of free memory at once, and the system clears it again for the next
    # images: 15 of 91 µs for an image of 128 by 128 pixels. When a block is freed that was mapped by itself, glibc raises
    # its limit to twice the block's size (mallopt(3), M_TRIM_THRESHOLD). The block is never touched, so it takes no
    # memory. Other libraries of C do nothing here.
    np.empty(KEPT_BYTES, np.uint8)


def _grouped(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield groups of items. The first groups are smaller, so that the first result can be taken soon."""
    group: list[Item] = []
    size, most = 0, FIRST_ITEMS_MAX
    try:
        for item in items:
            group.append(item)
            size += size_of(item)
            if len(group) == most or size >= GROUP_BYTES_MAX:
                yield group
                group, size, most = [], 0, min(2 * most, GROUP_ITEMS_MAX)
    except Exception:
        # the items before the one that can't be read come first
        if group:
            yield group
        raise
    if group:
        yield group
