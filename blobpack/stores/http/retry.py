"""Retries: after which faults a request is sent again, and after what delay.

Strategy: exponential backoff with full jitter, or Retry-After if the server sends it. Retries go on for a minute,
because that is how long a server may take to restart. If no answer comes, they end after a minute and a half, however
long the timeouts of the attempts have become. All threads share a budget of retries, so that an outage is not
made worse by clients that retry. A wrong response is not an outage: retries after it end by a number of attempts.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from blobpack.look_ahead import is_wanted
from blobpack.stores.http.response import NO_ID

if TYPE_CHECKING:
    from blobpack.stores.http.response import Response

log = logging.getLogger(__name__)

# Least number of attempts. If 16 % of the requests fail, one read in a hundred million fails ten times in a row.
ATTEMPTS = 10
# Least time for which a request is tried, if the server is at fault.
TRIED_FOR_S = 60.0
# Most time for all attempts at one request that gets no answer. The last attempt may begin at its end, and takes up to
# 12 s more: to connect, for the TLS handshake, and TIMEOUT_S. So does the first one, before this time begins. All in
# all it is less than two minutes.
ANSWERED_WITHIN_S = 90.0
# A server that asks for a longer pause is asked again sooner: a user waits for the read.
RETRY_AFTER_MAX_S = 30.0
# A pause of up to 35 s is cut into pieces. After each one the thread looks whether its result is still wanted, so that
# Ctrl-C does not wait for the pause.
WANTED_POLL_S = 0.5
BACKOFF_S = 0.05
# 429 and 503 SlowDown ask for fewer requests, so the first pause is four times as long.
SLOW_DOWN_BACKOFF_S = 0.2
BACKOFF_MAX_S = 5.0
# Limit for the first byte, and between bytes. AWS advises to retry small GETs after 2 s, then after 4 s ("Timeouts and
# Retries for Latency-Sensitive Applications"). So each attempt that timed out doubles the limit, up to 30 s.
TIMEOUT_S = 2.0
TIMEOUT_MAX_S = 30.0
# 128 threads take 4,000 retries through an outage of a minute.
BUDGET_RETRIES = 5000
# Each request that succeeds gives back a quarter of a retry. So in the long run one request in five is a retry at most.
BUDGET_REGAINED = 0.25
SLOW_DOWN_STATUSES = (429, 503)
# The server is up, but sent other bytes than those asked for. Such a request gets ATTEMPTS attempts: the minute
# (TRIED_FOR_S) is for outages.
WRONG_STATUSES = (200, 206)


class Fault(Exception):  # noqa: N818 (it never leaves the stores)
    """One attempt at a request failed, and another attempt may succeed.

    Attributes:
        status: HTTP status; 0 if no response came.
        request_id: The id under which the server logged the request; NO_ID if no response came.
        at_once: The server had closed a kept connection, so the next attempt need not wait.
        retry_after_s: Seconds that the server asks to wait.
        part: The incomplete response, if its body was cut.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        request_id: str = NO_ID,
        at_once: bool = False,
        retry_after_s: float = 0.0,
        part: Response | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id
        self.at_once = at_once
        self.retry_after_s = retry_after_s
        self.part = part


class UnreachableFault(Fault):
    """No connection could be made, so no request was sent."""


class TimeoutFault(Fault):
    """No byte came within the timeout of the attempt."""


class SlowFault(TimeoutFault):
    """Bytes came until the end, but too slowly."""


class RetryBudget:
    """The number of retries that all threads together may still make to one server."""

    __slots__ = ("_left", "_lock", "_most")

    def __init__(self) -> None:
        self._left: float = BUDGET_RETRIES
        self._most = BUDGET_RETRIES
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Use up one retry of the budget; return False if none is left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def regain(self) -> None:
        """Note a request that succeeded."""
        # Compared without the lock first: the budget is nearly always full, and this runs after each request.
        if self._left < self._most:
            with self._lock:
                self._left = min(self._most, self._left + BUDGET_REGAINED)

    def renew_lock(self) -> None:
        """Replace the lock in a forked child: a thread of the parent may have held it during the fork."""
        self._lock = threading.Lock()


class Retries:
    """The attempts at one request.

    Attributes:
        what: The request, for the log.
        budget: The budget that retries are taken from.
        failed: Number of attempts that failed since the last progress.
    """

    __slots__ = (
        "_answered_by",
        "_gives_up_at",
        "_timed_out",
        "_was_stale",
        "budget",
        "failed",
        "what",
    )

    def __init__(self, what: str, budget: RetryBudget, *, is_patient: bool = True) -> None:
        """Start counting attempts.

        Args:
            what: Names the request in the log.
            budget: Retries are taken from this budget.
            is_patient: If the server is at fault, try for at least a minute; False: ten times.
        """
        self.what = what
        self.budget = budget
        self.failed = 0
        now = time.monotonic()
        self._gives_up_at = now + (TRIED_FOR_S if is_patient else 0)
        self._answered_by = now + ANSWERED_WITHIN_S
        self._timed_out = 0
        self._was_stale = False

    @property
    def timeout_s(self) -> float:
        """Timeout of the next attempt. It doubles with each attempt that timed out, as far as time is left."""
        doubled = min(TIMEOUT_S * (1 << self._timed_out), TIMEOUT_MAX_S)
        return max(TIMEOUT_S, min(doubled, self._answered_by - time.monotonic()))

    def may_retry(self, fault: Fault, *, has_progressed: bool = False) -> bool:
        """Note a fault and sleep until the next attempt; return False if there must be no other attempt.

        After progress the count starts again: the next attempt has fewer bytes to read. It is not taken from the
        budget.
        """
        now = time.monotonic()
        if has_progressed:
            self.failed = 0
            self._gives_up_at = now + TRIED_FOR_S
        if has_progressed or isinstance(fault, SlowFault):
            self._answered_by = now + ANSWERED_WITHIN_S
        # If the server had closed a kept connection, that is no failed attempt. This holds only once: a server that
        # always closes must not be asked forever.
        if fault.at_once and not self._was_stale:
            self._was_stale = True
            return True
        self.failed += 1
        self._timed_out += isinstance(fault, TimeoutFault)
        if self._is_last(fault, now) or not is_wanted():
            return False
        if not has_progressed and not self.budget.take():
            return False
        log.debug(
            "%s: attempt %d: %s (request %s)", self.what, self.failed, fault, fault.request_id
        )
        # Jitter also on top of Retry-After: all clients were given the same number of seconds.
        jitter_s = backoff_s(self.failed, slow_down=fault.status in SLOW_DOWN_STATUSES)
        pause_s = min(fault.retry_after_s, RETRY_AFTER_MAX_S) + jitter_s
        return sleep_while_wanted(min(pause_s, self._answered_by - now))

    def _is_last(self, fault: Fault, now: float) -> bool:
        if now >= self._answered_by:
            return True
        if self.failed < ATTEMPTS:
            return False
        return fault.status in WRONG_STATUSES or now >= self._gives_up_at


def sleep_while_wanted(seconds: float) -> bool:
    """Sleep; return False, perhaps early, if nobody waits any more for the result of this thread."""
    while seconds > WANTED_POLL_S:
        time.sleep(WANTED_POLL_S)
        seconds -= WANTED_POLL_S
        if not is_wanted():
            return False
    time.sleep(seconds)
    return is_wanted()


def backoff_s(failed: int, *, slow_down: bool = False) -> float:
    """Choose a random delay in seconds after a number of failed attempts.

    Source: AWS Architecture Blog, "Exponential Backoff and Jitter": full jitter.
    """
    first = SLOW_DOWN_BACKOFF_S if slow_down else BACKOFF_S
    return random.uniform(0, min(first * 2 ** (failed - 1), BACKOFF_MAX_S))
