"""Samples of a tar: members that follow each other, and whose names differ only behind a first dot.

WebDataset introduced the rule. DALI, Megatron-Energon and wids each follow it with small differences for odd names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# names of files about the tar itself, such as __meta__/info.json
ABOUT_ITSELF = re.compile(r"__[^/]*__(?:$|/)")


def split_for_dali(name: str) -> tuple[str, str] | None:
    """Return the stem and the rest of a name as DALI splits it; None for a file that belongs to no sample.

    The stem ends before the first dot of the last part. Files that begin with a dot, or have none, belong to no sample.
    """
    folder, slash, last = name.rpartition("/")
    stem, dot, rest = last.partition(".")
    return (f"{folder}{slash}{stem}", rest) if dot and stem else None


def split_for_energon(name: str) -> tuple[str, str] | None:
    """Return the stem and the rest of a name as Energon splits it; None for a file that belongs to no sample."""
    if ABOUT_ITSELF.match(name):
        return None
    folder, slash, last = name.rpartition("/")
    stem, dot, rest = last.partition(".")
    # a/.b.jpg belongs to the sample "a/", but a.1/.b.jpg to none
    if not dot or not (stem or (slash and "." not in folder)):
        return None
    return f"{folder}{slash}{stem}", rest


def split_for_wids(name: str) -> tuple[str, str] | None:
    """Return the stem and the rest of a name as wids splits it; None for a name without a dot."""
    folder, slash, last = name.rpartition("/")
    stem, dot, rest = last.partition(".")
    if not dot:
        stem, dot, rest = name.partition(".")
        return (stem, rest) if dot else None
    return f"{folder}{slash}{stem}", rest


def group_samples(
    names: Iterable[str], split: Callable[[str], tuple[str, str] | None]
) -> list[tuple[str, list[tuple[int, str]]]]:
    """Group members into samples.

    Args:
        names: The names of the members, in archive order.
        split: Returns stem and rest of a name; None for a member that belongs to no sample.

    Returns:
        For each sample its stem, and the row and the rest of the name of each of its members.
    """
    samples: list[tuple[str, list[tuple[int, str]]]] = []
    last = None
    # If a stem comes again later, that is another sample, as in all three programs.
    for row, name in enumerate(names):
        found = split(name)
        if found is None:
            continue
        stem, rest = found
        if stem != last:
            samples.append((stem, []))
            last = stem
        samples[-1][1].append((row, rest))
    return samples
