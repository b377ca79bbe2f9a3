"""Request options of the current thread, for callers that can't pass them through the stores.

Strategy: a thread-local variable. Whether a request is hedged depends on who reads, a batch or a single read. Between
the reader and the connection stand stores (zstd, cache) whose read_range has no parameter for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Options(threading.local):
    """Options of the requests of one thread."""

    hedge = False


_options = _Options()


def with_options(read: Callable[..., T], *args: object, hedge: bool) -> T:
    """Call read(*args), and apply these options to the requests that it makes in this thread.

    Args:
        read: Reads from a store.
        args: Arguments of read.
        hedge: Send a request a second time if its response is late.
    """
    _options.hedge = hedge
    try:
        return read(*args)
    finally:
        # The thread may belong to a shared pool, whose next work has other options.
        _options.hedge = False


def is_hedged() -> bool:
    """Return whether the requests of this thread are sent a second time if their responses are late."""
    return _options.hedge
