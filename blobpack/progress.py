"""The progress of a long call: the value that a caller's progress function gets.

Strategy: the code that does the work counts pieces and bytes, and knows no total. The public functions know it, as far as
it can be known, and turn the counts into a Progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    # what callers pass
    ProgressCallback = Callable[["Progress"], object]
    # called with the number of pieces that are done, and the sum of their bytes
    CountCallback = Callable[[int, int], object]


class Progress(NamedTuple):
    """The progress of a call.

    Attributes:
        done: Number of pieces that are done: files, members or blobs, as the function's description says.
        done_bytes: Bytes that were read or written for them.
        total: Number of all pieces; None if it is not known.
        total_bytes: Number of all bytes; None if it is not known.
    """

    done: int
    done_bytes: int
    total: int | None = None
    total_bytes: int | None = None


def counting(
    progress: ProgressCallback | None,
    *,
    done: int = 0,
    done_bytes: int = 0,
    total: int | None = None,
    total_bytes: int | None = None,
) -> CountCallback | None:
    """Return a function that takes counts, and calls a progress function with them.

    Args:
        progress: The caller's function; None if there is none.
        done: Pieces that were done before.
        done_bytes: Bytes of these.
        total: Number of all pieces, if it is known.
        total_bytes: Number of all bytes, if it is known.
    """
    if progress is None:
        return None

    def show(more: int, more_bytes: int) -> None:
        progress(Progress(done + more, done_bytes + more_bytes, total, total_bytes))

    return show


def only_forward(progress: CountCallback | None) -> CountCallback | None:
    """Return a function that takes counts, and passes on those that are no lower than the ones before.

    For work that may begin again from the start.
    """
    if progress is None:
        return None
    most = 0

    def show(done: int, done_bytes: int) -> None:
        nonlocal most
        if done >= most:
            most = done
            progress(done, done_bytes)

    return show


def continued(
    progress: ProgressCallback | None, done: int, done_bytes: int, total: int | None
) -> ProgressCallback | None:
    """Return a progress function for one part of the work, which adds what the parts before it have done.

    Args:
        progress: The caller's function; None if there is none.
        done: Pieces of the parts before.
        done_bytes: Bytes of these.
        total: Number of pieces of all parts, if it is known.
    """
    if progress is None:
        return None

    def show(part: Progress) -> None:
        progress(Progress(done + part.done, done_bytes + part.done_bytes, total))

    return show
