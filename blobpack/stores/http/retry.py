"""When a request that failed is sent again: with full jitter, when the server says, for a minute, within a budget.

The minute is that of a server that restarts, or says so; the budget is shared by all threads. A wrong answer is
not an outage, and ends by a count of attempts.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from blobpack.threads import is_wanted

if TYPE_CHECKING:
    from blobpack.stores.http.response import Answer

log = logging.getLogger(__name__)

ATTEMPTS = 10  # at least; at 16 % faults one read in a hundred million is lost
TRIED_FOR_S = 60.0  # at least, where the server is at fault
RETRY_AFTER_MAX_S = 30.0  # a server that asks for more is asked again sooner
WANTED_POLL_S = 0.5
BACKOFF_S = 0.05
SLOW_DOWN_BACKOFF_S = 0.2
BACKOFF_MAX_S = 5.0
TIMEOUT_S = 2.0  # for the first byte and between bytes; doubled by each attempt that took so long
TIMEOUT_MAX_S = 30.0
BUDGET_RETRIES = 5000  # 128 threads through an outage of a minute take 4,000
BUDGET_REGAINED = 0.25  # of a retry, for each request that succeeds
SLOW_DOWN_STATUSES = (429, 503)
WRONG_STATUSES = (200, 206)  # an answer, but not what was asked for


class Fault(Exception):  # noqa: N818 (it never leaves the stores)
    """An attempt failed, and another may succeed.

    Attributes:
        status: The HTTP status, 0 if none came.
        request: The server's name for the request, "?" if none came.
        at_once: A kept connection had been closed: no reason to wait.
        retry_after_s: How long the server asks to be left alone.
        part: Of an answer that was cut, what came.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        request: str = "?",
        at_once: bool = False,
        retry_after_s: float = 0.0,
        part: Answer | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request = request
        self.at_once = at_once
        self.retry_after_s = retry_after_s
        self.part = part


class UnreachableFault(Fault):
    """There is no connection, so nothing was sent."""


class TimeoutFault(Fault):
    """No byte came for as long as the attempt waits."""


class Budget:
    """Retries that may still be made: so an outage isn't made worse by all that retry."""

    __slots__ = ("_left", "_lock", "_most")

    def __init__(self, most: float = BUDGET_RETRIES) -> None:
        self._left = self._most = most
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one; false when none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def regain(self) -> None:
        """Note a request that succeeded."""
        if self._left < self._most:
            with self._lock:
                self._left = min(self._most, self._left + BUDGET_REGAINED)

    def renew_lock(self) -> None:
        """Forget, in a forked child, that a thread of the parent may have held the lock."""
        self._lock = threading.Lock()


class Trial:
    """The attempts at one request."""

    __slots__ = ("_gives_up_at", "_timed_out", "_was_stale", "budget", "failed", "what")

    def __init__(self, what: str, budget: Budget, *, is_patient: bool = True) -> None:
        """Begin.

        Args:
            what: Names the request, for the log.
            budget: Retries are taken from it.
            is_patient: Try for a minute at least, where the server is at fault; else ten times.
        """
        self.what = what
        self.budget = budget
        self.failed = 0
        self._gives_up_at = time.monotonic() + (TRIED_FOR_S if is_patient else 0)
        self._timed_out = 0
        self._was_stale = False

    @property
    def timeout_s(self) -> float:
        """How long the next attempt waits for bytes: longer if others waited in vain."""
        return min(TIMEOUT_S * (1 << self._timed_out), TIMEOUT_MAX_S)

    def may_retry(self, fault: Fault, *, has_progressed: bool = False) -> bool:
        """Note a fault, and wait before the next attempt; false if there is to be none.

        After progress the trial begins anew: the next attempt has less to do, and is taken from no budget.
        """
        if has_progressed:
            self.failed = 0
            self._gives_up_at = time.monotonic() + TRIED_FOR_S
        if fault.at_once and not self._was_stale:  # the server had closed what we kept: no failure
            self._was_stale = True
            return True
        self.failed += 1
        self._timed_out += isinstance(fault, TimeoutFault)
        if self._is_last(fault) or not is_wanted():
            return False
        if not has_progressed and not self.budget.take():
            return False
        log.debug("%s: attempt %d: %s (request %s)", self.what, self.failed, fault, fault.request)
        jitter_s = backoff_s(self.failed, slow_down=fault.status in SLOW_DOWN_STATUSES)
        return waited(min(fault.retry_after_s, RETRY_AFTER_MAX_S) + jitter_s)

    def _is_last(self, fault: Fault) -> bool:
        if self.failed < ATTEMPTS:
            return False
        return fault.status in WRONG_STATUSES or time.monotonic() >= self._gives_up_at


def waited(seconds: float) -> bool:
    """Wait; false if meanwhile nobody waits any more for what this thread reads."""
    while seconds > WANTED_POLL_S:
        time.sleep(WANTED_POLL_S)
        seconds -= WANTED_POLL_S
        if not is_wanted():
            return False
    time.sleep(seconds)
    return is_wanted()


def backoff_s(failed: int, *, slow_down: bool = False) -> float:
    """Choose a time to wait after so many attempts that failed.

    Source: AWS Architecture Blog, "Exponential Backoff and Jitter": full jitter.
    """
    first = SLOW_DOWN_BACKOFF_S if slow_down else BACKOFF_S
    return random.uniform(0, min(first * 2 ** (failed - 1), BACKOFF_MAX_S))
