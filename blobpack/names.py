"""Names and globs as callers give them: one or several, strings or members."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blobpack.model import Member


def listed(globs: Iterable[str]) -> list[str]:
    """Take globs, or one that was given alone."""
    return [globs] if isinstance(globs, str) else list(globs)


def names_of(names: Iterable[str | Member]) -> Iterator[str]:
    """Take names, or the names of members.

    Raises:
        TypeError: one name instead of several: its letters are not meant.
    """
    if isinstance(names, str):
        raise TypeError(f"several names are wanted, not one: [{names!r}]")
    return (name if isinstance(name, str) else name.name for name in names)
