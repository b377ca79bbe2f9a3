"""A clock for `scripts/bench --cpu`: processor time of this process, and of the programs that it has waited for."""

from __future__ import annotations

import resource


def processor_seconds() -> float:
    """Return the processor time in seconds, of user and system."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
