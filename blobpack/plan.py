"""Planning of fetches: which of the requested ranges are read by one request.

Strategy: merge two ranges if reading the gap between them takes less time than one more request. That is the case if the
gap is shorter than latency times bandwidth, the bytes that arrive during the latency of a request. Both are estimated
from earlier answers (`SpeedEstimate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Assumed for S3 until answers were measured. The bandwidth is that of one connection.
TYPICAL_LATENCY_S = 0.03
TYPICAL_BYTES_PER_S = 50e6
# Up to this size, an answer's time counts as latency, and above it as bandwidth: at 50 MB/s, 64 KiB take 1.3 ms of some
# 30 ms.
SMALL_ANSWER_BYTES = 64 << 10
# weight of the newest measurement: one slow answer moves an average by a tenth of its excess
SMOOTHING = 0.1
GAP_BYTES_MIN = 16 << 10
# larger gaps would make a batch read several times the bytes it needs
GAP_BYTES_MAX = 256 << 10
# about latency times bandwidth, rounded up: two connections deliver a larger fetch sooner than one does
FETCH_BYTES_MAX = 2 << 20


class Fetch(NamedTuple):
    """One request, and the ranges that it answers.

    Attributes:
        start: Start of the request.
        end: End of the request, one past its last byte.
        places: Places of the answered ranges in the list that was given to the planner.
    """

    start: int
    end: int
    places: tuple[int, ...]


class SpeedEstimate:
    """Latency and bandwidth of a server, as moving averages of measured answers.

    Attributes:
        latency_s: Time from a request to the end of a small answer; 0 before the first one.
        bytes_per_s: Bandwidth during large answers; 0 before the first one.
    """

    __slots__ = ("bytes_per_s", "latency_s")

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.bytes_per_s = 0.0

    def note(self, answer_bytes: int, took_s: float) -> None:
        """Add an answer to the averages. If two threads add at the same time, one of the two answers may be lost.

        Args:
            answer_bytes: Size of the answer.
            took_s: Time from the request to the last byte of the answer, without the time to connect.
        """
        # without a lock, because an estimate survives a lost answer, and every request passes here
        if answer_bytes <= SMALL_ANSWER_BYTES:
            self.latency_s += (took_s - self.latency_s) * (SMOOTHING if self.latency_s else 1)
        else:
            # clocks are coarse, and a large answer may come faster than the average small one
            rate = answer_bytes / max(took_s - self.latency_s, 1e-6)
            self.bytes_per_s += (rate - self.bytes_per_s) * (SMOOTHING if self.bytes_per_s else 1)


def gap_bytes(
    latency_s: float,
    bytes_per_s: float,
    *,
    least: int = GAP_BYTES_MIN,
    most: int = GAP_BYTES_MAX,
) -> int:
    """Return the largest gap that takes less time to read than one more request would take.

    Args:
        latency_s: Latency of the server; 0 if it is not known.
        bytes_per_s: Bandwidth of the server; 0 if it is not known.
        least: Shorter gaps are always read, so the result is never smaller.
        most: Longer gaps are never read, so the result is never larger.
    """
    gap = (latency_s or TYPICAL_LATENCY_S) * (bytes_per_s or TYPICAL_BYTES_PER_S)
    return int(min(max(gap, least), most))


def merged_ranges(
    ranges: Iterable[tuple[int, int]], *, max_gap_bytes: int, max_bytes: int
) -> list[tuple[int, int]]:
    """Merge ranges into fetches, and return the fetches sorted by start.

    Args:
        ranges: Half-open; equal and overlapping ones are fetched once.
        max_gap_bytes: Largest gap that is read over.
        max_bytes: Largest size that merging may reach; a single larger range is one fetch.
    """
    planned = plan_fetches(list(ranges), max_gap_bytes=max_gap_bytes, max_bytes=max_bytes)
    return sorted((fetch.start, fetch.end) for fetch in planned)


def plan_fetches(
    ranges: Sequence[tuple[int, int]],
    *,
    max_gap_bytes: int,
    max_bytes: int,
    free_gap_bytes: int | None = None,
) -> list[Fetch]:
    """Plan the fetches for ranges, in the order in which their answers are needed first.

    Args:
        ranges: Half-open, in the order in which they are needed; equal and overlapping ones are fetched once.
        max_gap_bytes: Largest gap that is read over.
        max_bytes: Largest size that merging may reach; a single larger range is one fetch.
        free_gap_bytes: Gaps up to this size are always merged. Larger ones only if they are no longer than the bytes
            asked for on their two sides, so that at least half of the merged range was asked for. None: no limit.
    """
    fetches: list[tuple[int, int, list[int]]] = []
    # bytes of the last fetch that were asked for, without the gaps in it
    asked_bytes = 0
    for place in sorted(range(len(ranges)), key=ranges.__getitem__):
        start, end = ranges[place]
        if fetches:
            first, last, places = fetches[-1]
            grown = max(end, last)
            gap = start - last
            is_worth_it = gap <= max_gap_bytes and (
                free_gap_bytes is None or gap <= max(free_gap_bytes, asked_bytes + end - start)
            )
            # a range inside the last fetch costs nothing, even if that fetch is larger than max_bytes
            if grown == last or (is_worth_it and grown - first <= max_bytes):
                places.append(place)
                fetches[-1] = (first, grown, places)
                asked_bytes += grown - max(start, last)
                continue
        fetches.append((start, end, [place]))
        asked_bytes = end - start
    # ranges were merged in the order of the blob; answers are needed in the order of the caller
    planned = [Fetch(start, end, tuple(sorted(places))) for start, end, places in fetches]
    return sorted(planned, key=lambda fetch: fetch.places[0])
