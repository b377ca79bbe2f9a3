"""Options of requests, set for one thread, because the stores in between have no parameter that would pass them on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Options(threading.local):
    """The options of one thread's requests."""

    hedge = False


_options = _Options()


def with_options(read: Callable[..., T], *args: object, hedge: bool) -> T:
    """Return read(*args); the requests that it makes in this thread have these options.

    Args:
        read: Reads from a store.
        args: What it is called with.
        hedge: Send a request a second time when its answer is late.
    """
    _options.hedge = hedge
    try:
        return read(*args)
    finally:
        _options.hedge = False


def is_hedged() -> bool:
    """Return whether a request of this thread is sent a second time when its answer is late."""
    return _options.hedge
