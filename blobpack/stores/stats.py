"""What was asked of S3 or HTTP, and what that costs: counters, of each store and of the whole process."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, fields, replace
from math import inf

# S3 Standard, us-east-1: GET and HEAD; PUT, COPY, POST and LIST
USD_PER_1000_GETS = 0.0004
USD_PER_1000_PUTS = 0.005


@dataclass(slots=True)
class Stats:
    """Counters of the requests that were made; local reads are none.

    Attributes:
        requests: Sent, those sent again included.
        bytes_wanted: Of what was asked for.
        bytes_fetched: Of what came, with the gaps between ranges that were fetched together.
        merged: Ranges that were fetched together with another, and took no request of their own.
        retried: Requests that were sent again.
        hedged: Requests that were sent a second time before the first had failed.
        wait_s: Seconds spent waiting for answers, those of all threads added up.
        puts: Of the requests, those that write, copy or list, which S3 bills at another price.
        bytes_sent: Of what was uploaded; what S3 copied by itself isn't in it.
    """

    requests: int = 0
    bytes_wanted: int = 0
    bytes_fetched: int = 0
    merged: int = 0
    retried: int = 0
    hedged: int = 0
    wait_s: float = 0.0
    puts: int = 0
    bytes_sent: int = 0

    def cost_usd(
        self,
        usd_per_1000: float = USD_PER_1000_GETS,
        usd_per_1000_puts: float = USD_PER_1000_PUTS,
    ) -> float:
        """Estimate what the requests cost; what a byte costs depends on where it goes, and isn't in it.

        Args:
            usd_per_1000: Of requests that read. One that aborts an upload, which S3 does not bill, is taken for one.
            usd_per_1000_puts: Of those that write, copy or list.

        Raises:
            TypeError: a price is no number.
            ValueError: a price is negative or infinite.
        """
        check_price("usd_per_1000", usd_per_1000)
        check_price("usd_per_1000_puts", usd_per_1000_puts)
        gets = self.requests - self.puts
        return (gets * usd_per_1000 + self.puts * usd_per_1000_puts) / 1000

    def __str__(self) -> str:
        return self.described(self.cost_usd())

    def described(self, cost_usd: float) -> str:
        """Write them as text, with a cost that was estimated at other prices, say."""
        check_price("cost_usd", cost_usd)
        return (
            f"{self.requests:,} requests, of which {self.puts:,} to write, copy or list, "
            f"{self.bytes_wanted:,} bytes wanted, {self.bytes_fetched:,} fetched, "
            f"{self.bytes_sent:,} sent, {self.merged:,} merged, {self.retried:,} retried, "
            f"{self.hedged:,} hedged, {self.wait_s:.3f} s waiting in all threads, about ${cost_usd:.6f}"
        )


def check_price(name: str, price: object) -> None:
    """Check that a value is a price in dollars.

    Raises:
        TypeError: the price is no number.
        ValueError: the price is negative or infinite.
    """
    if not isinstance(price, (int, float)) or isinstance(price, bool):
        raise TypeError(f"{name} must be a number of dollars, not {price!r}")
    if not 0 <= price < inf:
        raise ValueError(f"{name} must be at least 0 dollars, not {price}")


class Counters:
    """Stats that threads add to; what is added is added to the process's, too."""

    __slots__ = ("_stats",)

    def __init__(self) -> None:
        self._stats = Stats()

    def count_request(self, wanted: int, fetched: int, wait_s: float) -> None:
        """Count a request that was answered, or given up."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.bytes_wanted += wanted
                stats.bytes_fetched += fetched
                stats.wait_s += wait_s

    def count_call(self, *, is_put: bool, sent: int, wait_s: float) -> None:
        """Count a request that wasn't for a blob's bytes."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.puts += is_put
                stats.bytes_sent += sent
                stats.wait_s += wait_s

    def count_again(self, times: int, *, is_put: bool) -> None:
        """Count that a request was sent so many times more, before it was answered."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += times
                stats.retried += times
                stats.puts += times * is_put

    def count_merged(self, merged: int, gap_bytes: int) -> None:
        """Count ranges that came with others, and the bytes that nobody wanted."""
        with _lock:
            for stats in (self._stats, _process):
                stats.merged += merged
                stats.bytes_wanted -= gap_bytes

    def count_retried(self) -> None:
        """Count a request that will be sent again."""
        with _lock:
            self._stats.retried += 1
            _process.retried += 1

    def count_hedged(self) -> None:
        """Count a request that was sent a second time before the first had failed."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.hedged += 1

    def snapshot(self) -> Stats:
        """Copy them as they are now."""
        with _lock:
            return replace(self._stats)


_lock = threading.Lock()
_process = Stats()


def stats() -> Stats:
    """Tell what all stores of this process have asked for, those that are closed included."""
    with _lock:
        return replace(_process)


def _renew() -> None:
    """Begin anew in a forked child, where a thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()
    for field in fields(Stats):
        setattr(_process, field.name, field.default)


os.register_at_fork(after_in_child=_renew)
