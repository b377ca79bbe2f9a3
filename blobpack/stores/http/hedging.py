"""When a request is sent a second time although the first has not failed: when its answer is late.

Of a server's answers a few come late, by far more than the others, and a second request is mostly answered as
soon as any. So one that has said nothing for longer than 95 in 100 lately needed, and for twice as long as
half of them did, is asked again on another connection, and whoever speaks first is heard to the end. Twice
the median, because a second answer takes the median, too: with answers that are all about as late nothing
would be won by it. A budget holds the second requests to 5 in 100, so that a server that is slow for all
does not get more to do for it.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.http.connection import Connection


SAMPLES = 256  # answers that are remembered
SAMPLES_MIN = 32
LATE = 0.95
MEDIANS = 2
PATIENCE_MIN_S = 0.005  # below it, the scheduler is what is late
PATIENCE_UNKNOWN_S = 0.5
SHARE = 0.05
BURST = 8


class Pace:
    """How soon a server began to answer, lately, and how many requests may be hedged."""

    __slots__ = ("_count", "_left", "_samples", "patience_s")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._count = 0
        self._left: float = BURST
        self.patience_s = PATIENCE_UNKNOWN_S

    def note(self, seconds: float) -> None:
        """Note how long the first byte of an answer took; threads may lose one of each other's."""
        if len(self._samples) < SAMPLES:
            self._samples.append(seconds)
        else:
            self._samples[self._count % SAMPLES] = seconds
        self._count += 1
        self._left = min(self._left + SHARE, BURST)
        if self._count % SAMPLES_MIN == 0:
            ordered = sorted(self._samples)
            late, median = ordered[int(len(ordered) * LATE)], ordered[len(ordered) // 2]
            self.patience_s = max(late, MEDIANS * median, PATIENCE_MIN_S)

    def take(self) -> bool:
        """Take one from the budget; false when none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class OvertakenError(Exception):
    """A second connection has begun to answer before the first."""

    def __init__(self, rival: Connection) -> None:
        super().__init__()
        self.rival = rival


class Race:
    """One request, and the second connection that it is sent by if the first is late."""

    __slots__ = ("_begin_rival", "_is_over", "_timeout_s", "patience_s")

    def __init__(
        self, begin_rival: Callable[[], Connection | None], patience_s: float, timeout_s: float
    ) -> None:
        """Set the terms.

        Args:
            begin_rival: Sends the request by a second connection; None if there may be none.
            patience_s: How long the first may say nothing before that.
            timeout_s: How long it may say nothing at all.
        """
        self._begin_rival = begin_rival
        self._timeout_s = timeout_s
        self._is_over = False
        self.patience_s = min(patience_s, timeout_s)

    def receive(self, first: Connection, buffer: memoryview) -> int:
        """Receive what the first connection says; when it is late, see who speaks first.

        Raises:
            OvertakenError: it was the second.
            TimeoutError: neither.
        """
        try:
            return first.socket.recv_into(buffer)
        except TimeoutError:
            if self._is_over or self.patience_s >= self._timeout_s:
                raise
        self._is_over = True
        self._await_either(first)
        first.be_patient(self._timeout_s)
        return first.socket.recv_into(buffer)

    def _await_either(self, first: Connection) -> None:
        """Return when the first connection speaks, or there is no second."""
        rival = self._begin_rival()
        if rival is None:
            return
        is_first = False
        try:
            is_first = speaks_first(rival, first, self._timeout_s - self.patience_s)
        finally:
            if not is_first:
                rival.close()
        if is_first:
            raise OvertakenError(rival)


def speaks_first(rival: Connection, first: Connection, timeout_s: float) -> bool:
    """Tell whether the rival speaks before the first; if it fails, the first may yet succeed.

    Raises:
        TimeoutError: neither speaks.
    """
    poller = select.poll()
    for connection in (first, rival):
        poller.register(connection.socket, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        ready = [fd for fd, _ in poller.poll(left_s * 1000)]
        if first.socket.fileno() in ready:
            return False
        if ready and (heard := rival.hear()) >= 0:
            return heard > 0
    raise TimeoutError
