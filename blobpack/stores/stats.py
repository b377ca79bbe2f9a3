"""Counters of requests to S3 and HTTP servers, for each store and for the whole process, and their estimated cost."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, fields, replace
from math import inf

from blobpack.wording import counted

# Prices of S3 Standard in us-east-1: for GET and HEAD, and for PUT, COPY, POST and LIST.
USD_PER_1000_GETS = 0.0004
USD_PER_1000_PUTS = 0.005


@dataclass(slots=True)
class Stats:
    """Counters of requests. Local reads are not counted.

    Attributes:
        requests: Number of requests, including those that were sent again.
        bytes_wanted: Bytes that were asked for.
        bytes_fetched: Bytes that were received, including gaps between ranges that were fetched together.
        merged: Number of ranges that were fetched together with another one, and needed no request of their own.
        retried: Number of requests that were sent again after a fault.
        hedged: Number of requests that were sent a second time because the response was late.
        wait_s: Seconds spent waiting for responses, summed over all threads.
        puts: Number of requests that write, copy or list. S3 bills them at another price; `requests` includes them.
        bytes_sent: Bytes that were uploaded, without those that S3 copied.
        boto3_reads: Number of reads from S3 that went through boto3, which takes 20 to 70 times the processor time of our
            own connections.
        boto3_reason: Why the latest of them did, such as "an access point"; "" if none did.
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
    boto3_reads: int = 0
    boto3_reason: str = ""

    def cost_usd(
        self,
        usd_per_1000: float = USD_PER_1000_GETS,
        usd_per_1000_puts: float = USD_PER_1000_PUTS,
    ) -> float:
        """Estimate the cost of the requests in dollars.

        Transfer is not included, because its price depends on where the bytes go.

        Args:
            usd_per_1000: Price of 1,000 requests that read. Aborts of uploads, which S3 does not bill, are counted here.
            usd_per_1000_puts: Price of 1,000 requests that write, copy or list.

        Raises:
            TypeError: a price is not a number.
            ValueError: a price is negative or infinite.
        """
        check_price("usd_per_1000", usd_per_1000)
        check_price("usd_per_1000_puts", usd_per_1000_puts)
        gets = self.requests - self.puts
        return (gets * usd_per_1000 + self.puts * usd_per_1000_puts) / 1000

    def __str__(self) -> str:
        return self.described(self.cost_usd())

    def described(self, cost_usd: float) -> str:
        """Format the counters as text, with a cost in dollars that may be estimated at other prices."""
        check_price("cost_usd", cost_usd)
        boto3 = f"{counted(self.boto3_reads, 'read')} through boto3 ({self.boto3_reason}), "
        return (
            f"{counted(self.requests, 'request')}, of which {self.puts:,} to write, copy or list, "
            f"{self.bytes_wanted:,} bytes wanted, {self.bytes_fetched:,} fetched, "
            f"{self.bytes_sent:,} sent, {self.merged:,} merged, {self.retried:,} retried, "
            f"{self.hedged:,} hedged, {boto3 if self.boto3_reads else ''}{self.wait_s:.3f} s waiting in all threads, about ${cost_usd:.6f}"
        )


def check_price(name: str, price: object) -> None:
    """Check that a value is a price in dollars.

    Raises:
        TypeError: the price is not a number.
        ValueError: the price is negative or infinite.
    """
    # bool is a subclass of int
    if not isinstance(price, (int, float)) or isinstance(price, bool):
        raise TypeError(f"{name} must be a number of dollars, not {price!r}")
    if not 0 <= price < inf:
        raise ValueError(f"{name} must be at least 0 dollars, not {price}")


class Counters:
    """Counters that several threads add to. Each number is also added to the counters of the process."""

    __slots__ = ("_stats",)

    def __init__(self) -> None:
        self._stats = Stats()

    def count_request(self, wanted: int, fetched: int, wait_s: float) -> None:
        """Count a request for a blob's bytes, whether it succeeded or failed."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.bytes_wanted += wanted
                stats.bytes_fetched += fetched
                stats.wait_s += wait_s

    def count_call(self, *, is_put: bool, sent: int, wait_s: float) -> None:
        """Count a request that is not for a blob's bytes."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.puts += is_put
                stats.bytes_sent += sent
                stats.wait_s += wait_s

    def count_again(self, times: int, *, is_put: bool) -> None:
        """Count how many times more a request was sent before it succeeded or failed."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += times
                stats.retried += times
                stats.puts += times * is_put

    def count_merged(self, merged: int, gap_bytes: int) -> None:
        """Count ranges that were fetched together with others, and correct bytes_wanted for the gaps between them."""
        with _lock:
            for stats in (self._stats, _process):
                stats.merged += merged
                # count_request has counted the whole fetch, including its gaps, as wanted.
                stats.bytes_wanted -= gap_bytes

    def count_retried(self) -> None:
        """Count a request that will be sent again."""
        # Not in `requests`: count_request counts each attempt.
        with _lock:
            self._stats.retried += 1
            _process.retried += 1

    def count_hedged(self) -> None:
        """Count a request that was sent a second time because the response was late."""
        with _lock:
            for stats in (self._stats, _process):
                stats.requests += 1
                stats.hedged += 1

    def count_boto3(self, reason: str) -> None:
        """Count a read that goes through boto3."""
        with _lock:
            for stats in (self._stats, _process):
                stats.boto3_reads += 1
                stats.boto3_reason = reason

    def snapshot(self) -> Stats:
        """Return a copy of the counters."""
        with _lock:
            return replace(self._stats)


_lock = threading.Lock()
_process = Stats()


def stats() -> Stats:
    """Return the counters of all stores of this process, including closed ones."""
    with _lock:
        return replace(_process)


def _renew_after_fork() -> None:
    """Reset the counters of the process in a forked child."""
    global _lock
    # A thread of the parent may have held the lock during the fork. Nobody would release it in the child.
    _lock = threading.Lock()
    for field in fields(Stats):
        setattr(_process, field.name, field.default)


os.register_at_fork(after_in_child=_renew_after_fork)
