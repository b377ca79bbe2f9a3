"""Plan fetches: ranges that were asked for, merged where reading the gap between them costs less than a request.

Strategy: a gap may be as long as what arrives in the time that one more request would take: latency times
bandwidth. Both are estimated from the answers that came before (`SpeedEstimate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# of S3, until something was measured; the bandwidth is that of one connection
TYPICAL_LATENCY_S = 0.03
TYPICAL_BYTES_PER_S = 50e6
SMALL_ANSWER_BYTES = (
    64 << 10
)  # the time of such an answer is mostly latency, of a longer one mostly bandwidth
SMOOTHING = 0.1  # weight of the newest measurement
GAP_BYTES_MIN = 16 << 10
GAP_BYTES_MAX = 256 << 10  # more would read several times what is wanted
# about latency times bandwidth: larger fetches come sooner by two connections
FETCH_BYTES_MAX = 2 << 20


class Fetch(NamedTuple):
    """One request, and which of the ranges it answers: their places in the order asked."""

    start: int
    end: int
    places: tuple[int, ...]


class SpeedEstimate:
    """Latency and bandwidth of the way to a server, as moving averages of what was measured.

    Attributes:
        latency_s: Time until the answer to a small request has come; 0 before the first.
        bytes_per_s: How fast long answers came; 0 before the first.
    """

    __slots__ = ("bytes_per_s", "latency_s")

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.bytes_per_s = 0.0

    def note(self, answer_bytes: int, took_s: float) -> None:
        """Take an answer into account; of two threads that note at once, one may be lost.

        Args:
            answer_bytes: Bytes of the answer.
            took_s: Time from the request to the last of them, without the time to connect.
        """
        if answer_bytes <= SMALL_ANSWER_BYTES:
            self.latency_s += (took_s - self.latency_s) * (SMOOTHING if self.latency_s else 1)
        else:
            rate = answer_bytes / max(took_s - self.latency_s, 1e-6)
            self.bytes_per_s += (rate - self.bytes_per_s) * (SMOOTHING if self.bytes_per_s else 1)


def gap_bytes(
    latency_s: float,
    bytes_per_s: float,
    *,
    least: int = GAP_BYTES_MIN,
    most: int = GAP_BYTES_MAX,
) -> int:
    """Compute how long a gap may be that is read sooner than one more request would be answered.

    Args:
        latency_s: Of the server; 0 if it is not known.
        bytes_per_s: Of the server; 0 if it is not known.
        least: Shorter gaps are always read.
        most: Longer gaps never are.
    """
    gap = (latency_s or TYPICAL_LATENCY_S) * (bytes_per_s or TYPICAL_BYTES_PER_S)
    return int(min(max(gap, least), most))


def merged_ranges(
    ranges: Iterable[tuple[int, int]], *, max_gap_bytes: int, max_bytes: int
) -> list[tuple[int, int]]:
    """Merge ranges, sorted by start, into fetches.

    Args:
        ranges: Half-open; equal and overlapping ones are fetched once.
        max_gap_bytes: Ranges no further apart than this are fetched together.
        max_bytes: No fetch grows beyond this by merging.
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
    """Plan the fetches of ranges, in the order in which their answers are needed first.

    Args:
        ranges: Half-open, in the order asked; equal and overlapping ones are fetched once.
        max_gap_bytes: Ranges no further apart than this are fetched together.
        max_bytes: No fetch grows beyond this by merging.
        free_gap_bytes: Gaps up to this size are always merged. Larger ones only if they are no longer than what
            is wanted on their two sides, so that at least half of the bytes was asked for. None: no limit.
    """
    fetches: list[tuple[int, int, list[int]]] = []
    wanted = 0  # bytes of the last fetch that were asked for
    for place in sorted(range(len(ranges)), key=ranges.__getitem__):
        start, end = ranges[place]
        if fetches:
            first, last, places = fetches[-1]
            grown = max(end, last)
            gap = start - last
            is_worth_it = gap <= max_gap_bytes and (
                free_gap_bytes is None or gap <= max(free_gap_bytes, wanted + end - start)
            )
            if grown == last or (is_worth_it and grown - first <= max_bytes):
                places.append(place)
                fetches[-1] = (first, grown, places)
                wanted += grown - max(start, last)
                continue
        fetches.append((start, end, [place]))
        wanted = end - start
    planned = [Fetch(start, end, tuple(sorted(places))) for start, end, places in fetches]
    return sorted(planned, key=lambda fetch: fetch.places[0])
