"""Suggestions for a name that no member has."""

from __future__ import annotations

import difflib
import glob as globs_of_files
from typing import TYPE_CHECKING

from blobpack._native.globs import match_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack.columns import Columns

SUGGESTIONS = 3
# difflib takes 80 µs to compare two names of 27 characters: 1,000 candidates take 80 ms, once for an error message
SUGGESTION_CANDIDATES = 1000


def suggest_names(columns: Columns, name: str) -> list[str]:
    """Return up to three similar names.

    A member with the same file name in another folder is the best suggestion. Otherwise, compare with names that share the
    longest beginning.
    """
    base = name.rpartition("/")[2]
    if base:
        # a name may contain * or [, which are meant literally here
        escaped = globs_of_files.escape(base)
        elsewhere = _names_matching(columns, (escaped, f"*/{escaped}"), SUGGESTIONS)
        if elsewhere:
            return elsewhere
    # halve the beginning until some names share it: log2(length) native passes over all names at most
    length = len(name)
    while length >= 0:
        begin = globs_of_files.escape(name[:length])
        candidates = _names_matching(columns, (f"{begin}*",), SUGGESTION_CANDIDATES)
        if candidates:
            return difflib.get_close_matches(name, candidates, SUGGESTIONS, 0.6)
        length = length // 2 if length else -1
    return []


def _names_matching(columns: Columns, globs: Sequence[str], most: int) -> list[str]:
    mask = match_names(columns.names, columns.name_bounds, globs)
    # a dict and not a list: members may have one name
    names: dict[str, None] = {}
    row = mask.find(1)
    while row >= 0 and len(names) < most:
        names[columns.name_at(row)] = None
        row = mask.find(1, row + 1)
    return list(names)
