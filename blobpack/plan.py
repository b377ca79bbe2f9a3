"""Which ranges to fetch: those wanted, merged where fetching what lies between costs less than a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def merged_ranges(
    ranges: Iterable[tuple[int, int]], *, max_gap_bytes: int, max_bytes: int
) -> list[tuple[int, int]]:
    """Merge ranges, sorted by start, into fetches.

    Args:
        ranges: Half-open; equal and overlapping ones are fetched once.
        max_gap_bytes: Ranges no further apart than this are fetched together.
        max_bytes: No fetch grows beyond this by merging.
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(set(ranges)):
        if merged:
            first, last = merged[-1]
            if start - last <= max_gap_bytes and max(end, last) - first <= max_bytes:
                merged[-1] = (first, max(end, last))
                continue
        merged.append((start, end))
    return merged
