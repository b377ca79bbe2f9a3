"""How many threads are worth it."""

from __future__ import annotations

import os


def processors(most: int) -> int:
    """Count the processors this process may use, up to what the work gains from."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, most)
