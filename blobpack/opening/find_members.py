"""Find several members of an index, each by its name, as a Member or by its row.

Strategy: names, and the names of Members, are looked up together, because an index in S3 fetches the pages of all of
them at once. A lookup finds the last member of a name. A Member that is an earlier one of its name is found in a table
that the index makes of such members by one pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blobpack.index.which import place_of
from blobpack.model import Member

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
    names = [
        which if isinstance(which, str) else which.name
        for which in several
        if not isinstance(which, int)
    ]
    rows = [which for which in several if isinstance(which, int) and -count <= which < count]
    by_name = iter(index._search(names) if names else ())
    by_row = iter(index._search_rows(rows) if rows else ())
    hits: list[FoundRow | None] = []
    hidden: dict[int, Member] = {}
    for which in several:
        if isinstance(which, int):
            hits.append(next(by_row) if -count <= which < count else None)
            continue
        hit = next(by_name)
        if hit is not None and isinstance(which, Member) and hit[1:3] != place_of(which)[1:]:
            hidden[len(hits)] = which
            hit = None
        hits.append(hit)
    if hidden:
        _find_hidden(index, hidden, hits)
    return hits


def _find_hidden(index: Index, hidden: dict[int, Member], hits: list[FoundRow | None]) -> None:
    """Find Members that are not the last of their names, and note them at their places among the hits."""
    rows = index._hidden_rows()
    found = {
        at: rows[place_of(member)] for at, member in hidden.items() if place_of(member) in rows
    }
    for at, hit in zip(found, index._search_rows(found.values()), strict=True):
        hits[at] = hit


def _error(index: Index, which: CheckedWhich) -> Missing:
    if isinstance(which, int):
        return IndexError(f"no row {which} among {len(index)} rows")
    # similar names are looked for, which takes time: a search of many names does not do so
    return index._not_found(which)
