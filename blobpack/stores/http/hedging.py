"""Hedging: a request whose response is late is sent a second time, on another connection.

Strategy: a few of a server's responses come far later than the others, and a second request is usually answered at
normal speed. So a request is hedged after a delay: the time within which 95 % of the recent responses began, and at
least twice their median. The connection that answers first is read to its end. Twice the median, because the second
response takes about a median, too: if all responses are equally late, hedging could not win. A budget limits hedged
requests to 5 %, so that a server that is slow for everybody does not get more work.

Measured with 64 random reads from a server 20 ms away that stalls 1 % of its responses: the 90th percentile of a batch
falls from 2,116 to 209 ms, for 1 % more requests.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from blobpack.stores.http.connection import Connection


# Number of recent responses that the delay is computed from, and the number after which it is computed again. With 32,
# the 95th percentile is the second-longest time: a single stalled response does not raise the delay.
RESPONSE_TIMES_MAX = 256
RESPONSE_TIMES_MIN = 32
LATE = 0.95
MEDIANS = 2
# Least delay. Twice the median of a server nearby can be 1 ms, and a busy client is late by more than that.
HEDGE_AFTER_MIN_S = 0.005
# The delay while too few responses have come to compute one.
HEDGE_AFTER_UNKNOWN_S = 0.5
# Silence inside a body that counts as a late response.
STALLED_S = 0.5
# Each response adds a twentieth of a hedged request to the budget. The budget holds eight at most, because a short
# stall may delay several requests at once.
HEDGED_SHARE = 0.05
HEDGED_BURST = 8


class HedgeTiming:
    """The delay after which requests to one server are hedged, and the budget of hedged requests.

    Attributes:
        hedge_after_s: The delay in seconds.
    """

    __slots__ = ("_budget", "_count", "_times_s", "hedge_after_s")

    def __init__(self) -> None:
        self._times_s: list[float] = []
        self._count = 0
        self._budget: float = HEDGED_BURST
        self.hedge_after_s = HEDGE_AFTER_UNKNOWN_S

    def note(self, seconds: float) -> None:
        """Note the time to the first byte of a response."""
        # Without a lock: if two threads overwrite each other's time, one of 256 is lost.
        if len(self._times_s) < RESPONSE_TIMES_MAX:
            self._times_s.append(seconds)
        else:
            self._times_s[self._count % RESPONSE_TIMES_MAX] = seconds
        self._count += 1
        self._budget = min(self._budget + HEDGED_SHARE, HEDGED_BURST)
        # Not at each response: sorting 256 times takes 13 µs, and a whole GET takes about 50.
        if self._count % RESPONSE_TIMES_MIN == 0:
            ordered = sorted(self._times_s)
            late, median = ordered[int(len(ordered) * LATE)], ordered[len(ordered) // 2]
            self.hedge_after_s = max(late, MEDIANS * median, HEDGE_AFTER_MIN_S)

    def take_from_budget(self) -> bool:
        """Use up one hedged request of the budget; return False if none is left."""
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


class OvertakenError(Exception):
    """The second connection answered before the first."""

    def __init__(self, second: Connection) -> None:
        super().__init__()
        self.second = second


class HedgedReceiver:
    """Receives the response to one request, and hedges the request if the response is late.

    Attributes:
        hedge_after_s: Seconds that the first connection may take until the request is sent a second time.
    """

    __slots__ = ("_has_begun", "_send_again", "_timeout_s", "_was_late", "hedge_after_s")

    def __init__(
        self, send_again: Callable[[], Connection | None], hedge_after_s: float, timeout_s: float
    ) -> None:
        """Prepare to receive.

        Args:
            send_again: Sends the request on a second connection; returns None if that is not possible.
            hedge_after_s: Seconds until the request is sent a second time.
            timeout_s: Seconds that both connections may take.
        """
        self._send_again = send_again
        self._timeout_s = timeout_s
        self._has_begun = False
        self._was_late = False
        self.hedge_after_s = min(hedge_after_s, timeout_s)

    def receive(self, first: Connection, buffer: memoryview) -> int:
        """Receive bytes from the first connection; if the response is late to begin, wait for either connection.

        Raises:
            OvertakenError: the second connection answered first.
            TimeoutError: neither connection answered.
        """
        try:
            received = first.socket.recv_into(buffer)
        except TimeoutError:
            # The socket has had the whole timeout already.
            if self._was_late or self.hedge_after_s >= self._timeout_s:
                raise
            received = self._receive_late(first, buffer)
        self._has_begun = True
        return received

    def _receive_late(self, first: Connection, buffer: memoryview) -> int:
        """Receive bytes after the delay has passed without any; see receive."""
        # The delay is one of first bytes. Inside a body, pauses of that length are usual, and hedging them would use up
        # the budget, and throw away what has come. A body that stalls is silent for longer.
        if self._has_begun and self.hedge_after_s < STALLED_S < self._timeout_s:
            first.set_timeout(STALLED_S - self.hedge_after_s)
            try:
                return first.socket.recv_into(buffer)
            except TimeoutError:
                pass
            finally:
                first.set_timeout(self.hedge_after_s)
        self._was_late = True
        self._await_either(first)
        first.set_timeout(self._timeout_s)
        return first.socket.recv_into(buffer)

    def _await_either(self, first: Connection) -> None:
        """Return when the first connection answers, or if there is no second one.

        Raises:
            OvertakenError: the second connection answered first.
        """
        second = self._send_again()
        if second is None:
            return
        overtakes = False
        try:
            overtakes = second_answers_first(second, first, self._timeout_s - self.hedge_after_s)
        finally:
            # A response is on its way to the connection that lost: no other request may use it.
            if not overtakes:
                second.close()
        if overtakes:
            raise OvertakenError(second)


def second_answers_first(second: Connection, first: Connection, timeout_s: float) -> bool:
    """Return whether the second connection answers before the first.

    If the second one fails, the result is False: the first may still succeed.

    Raises:
        TimeoutError: neither connection answers.
    """
    # poll, because select fails on file descriptors of 1,024 and above (select(2))
    poller = select.poll()
    for connection in (first, second):
        poller.register(connection.socket, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while (left_s := deadline - time.monotonic()) > 0:
        ready = [fd for fd, _ in poller.poll(left_s * 1000)]
        if first.socket.fileno() in ready:
            return False
        # -1: the socket was readable, but TLS had no application data; keep waiting
        if ready and (received := second.receive_now()) >= 0:
            return received > 0
    raise TimeoutError
