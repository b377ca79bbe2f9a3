"""Which ranges to fetch: those wanted, merged where fetching what lies between costs less than a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LATENCY_S = 0.03  # of S3, where nothing was measured yet
BYTES_PER_S = 50e6  # on one connection
GAP_BYTES_MIN = 16 << 10
GAP_BYTES_MAX = 256 << 10  # more would read several times what is wanted
FETCH_BYTES_MAX = (
    2 << 20
)  # about latency times bandwidth: larger ones come sooner by two connections


class Fetch(NamedTuple):
    """One request, and the places of the ranges that it answers, in the order asked."""

    start: int
    end: int
    places: tuple[int, ...]


def gap_bytes(latency_s: float, bytes_per_s: float) -> int:
    """Tell how long a gap takes no longer to read than a request would; 0 stands for what isn't known."""
    gap = (latency_s or LATENCY_S) * (bytes_per_s or BYTES_PER_S)
    return int(min(max(gap, GAP_BYTES_MIN), GAP_BYTES_MAX))


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
    """Plan the fetches of ranges, those first whose answers are wanted first.

    Args:
        ranges: Half-open, in the order asked; equal and overlapping ones are fetched once.
        max_gap_bytes: Ranges no further apart than this are fetched together.
        max_bytes: No fetch grows beyond this by merging.
        free_gap_bytes: A gap longer than this is no longer than what is wanted on its two sides: at most half
            of what is read for it is not wanted. None sets no such bound.
    """
    fetches: list[tuple[int, int, list[int]]] = []
    wanted = 0  # by the last fetch
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
