"""What who asks wishes of the requests that a thread makes: said here, past the stores between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _Wishes(threading.local):
    """Those of one thread."""

    hedge = False
    is_wanted: Callable[[], bool] | None = None


_wishes = _Wishes()


def read_by(
    read: Callable[..., T],
    *args: object,
    hedge: bool = False,
    is_wanted: Callable[[], bool] | None = None,
) -> T:
    """Run what reads.

    Args:
        read: Is called, in this thread.
        args: With these.
        hedge: Its requests are sent a second time when their answers are late.
        is_wanted: Tells whether somebody still waits; what fails else isn't sent again.
    """
    _wishes.hedge, _wishes.is_wanted = hedge, is_wanted
    try:
        return read(*args)
    finally:
        _wishes.hedge, _wishes.is_wanted = False, None


def is_hedged() -> bool:
    """Tell whether the requests of this thread are hedged now."""
    return _wishes.hedge


def is_wanted() -> bool:
    """Tell whether somebody still waits for what this thread reads."""
    asked = _wishes.is_wanted
    return asked is None or asked()
