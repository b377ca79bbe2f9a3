"""Find several members of an index, each by its name, as a Member or by its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.index.which import find_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blobpack._native.results import FoundRow
    from blobpack.errors import MemberNotFoundError
    from blobpack.index.index import Index
    from blobpack.model import CheckedWhich

    # the error for a name or Member that is not in the index, or for a row
    Missing = MemberNotFoundError | IndexError


def find_members(
    index: Index, several: Sequence[CheckedWhich]
) -> tuple[list[FoundRow], Missing | None]:
    """Find members, up to the first that does not exist; return them, and the error for that one."""
    hits = _found(index, several)
    for place, (which, hit) in enumerate(zip(several, hits, strict=True)):
        if hit is None:
            return [hit for hit in hits[:place] if hit is not None], _error(index, which)
    return [hit for hit in hits if hit is not None], None


def name_of(index: Index, which: CheckedWhich) -> str:
    """Return the name of a member, for messages. The name of a row is looked up."""
    if isinstance(which, int):
        return index.names[which]
    return which if isinstance(which, str) else which.name


def _found(index: Index, several: Sequence[CheckedWhich]) -> list[FoundRow | None]:
    """Find each of several members; None where there is no such member."""
    count = len(index)
    named = [which for which in several if not isinstance(which, int)]
    rows = [which for which in several if isinstance(which, int) and -count <= which < count]
    by_name = iter(find_named(index, named))
    by_row = iter(index._search_rows(rows) if rows else ())

    def next_found(which: CheckedWhich) -> FoundRow | None:
        if not isinstance(which, int):
            return next(by_name)
        return next(by_row) if -count <= which < count else None

    return list(map(next_found, several))


def _error(index: Index, which: CheckedWhich) -> Missing:
    if isinstance(which, int):
        return IndexError(f"no row {which} among {len(index)} rows")
    # similar names are looked for, which takes time: a search of many names does not do so
    return index._not_found(which)
