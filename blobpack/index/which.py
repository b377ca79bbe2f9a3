"""Find the members that a caller asks for, each by its name, as a Member or by its row."""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING

from blobpack.asked_members import row_number
from blobpack.index.row_numbers import (
    existing_rows,
    is_numbers_or_mask,
    no_row,
    rows_as_array,
)
from blobpack.model import Member, check_several, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import FoundRow
    from blobpack.errors import MemberNotFoundError
    from blobpack.index.rows import Rows
    from blobpack.model import CheckedWhich, Which

    # the error for a name or Member that is not in the index, or for a row
    Missing = MemberNotFoundError | IndexError
    # a member's name, offset_start, offset_end and checksum; None in place of the checksum stands for any
    MemberKey = tuple[str, int, int, int | None]

# A remote index fetches the pages and blocks of all these names at once, and keeps them in memory until they are all
# found.
NAMES_SEARCHED_AT_ONCE = 4096


def rows_of_several(
    index: Rows, several: Iterable[Which], name: str = "several"
) -> NDArray[np.int64]:
    """Return the rows of several names, Members or rows, in the order asked; see Rows.rows.

    Args:
        index: The index that has the rows.
        several: The names, Members or rows.
        name: Name of the argument that held them, for messages.
    """
    return rows_as_array(numbers_of_several(index, several, name))


def numbers_of_several(
    index: Rows, several: Iterable[Which], name: str = "several"
) -> range | NDArray[np.int64]:
    """Return rows_of_several; as a range, if `several` is an index that was cut from this one as a run of rows."""
    import numpy as np

    check_several(name, several, "names, Members or rows")
    cut = index._rows_of_cut(several)
    if cut is not None:
        return cut
    if is_numbers_or_mask(several):
        return existing_rows(several, len(index), name)
    # the text in an array of NumPy is no str
    asked = iter(several.tolist() if isinstance(several, np.ndarray) else several)
    # a list of ten million numbers would take 400 MB
    found = array("q")
    while some := list(islice(asked, NAMES_SEARCHED_AT_ONCE)):
        hits = iter(find_named(index, [one for one in some if isinstance(one, (str, Member))]))
        for which in some:
            if not isinstance(which, (str, Member)):
                found.append(_number_of(which, len(index), name))
                continue
            hit = next(hits)
            if hit is None:
                raise index._not_found(which)
            found.append(hit.row)
    return np.asarray(found, np.int64)


def _number_of(row: object, count: int, name: str) -> int:
    try:
        return row_number(row, count)
    except TypeError:
        raise TypeError(f"{name} must be names, Members or rows, but one is {shown(row)}") from None


def find_named(index: Rows, several: Sequence[str | Member]) -> list[FoundRow | None]:
    """Find members by their names or as Members. Names, and the names of Members, are looked up together.

    Returns:
        One result for each; None where there is no such member.
    """
    if not several:
        return []
    hits = index._search([each if isinstance(each, str) else each.name for each in several])
    # A lookup finds the last member of a name. Members that are earlier ones of their names are found in a table that
    # the index makes of them by one pass.
    hidden: dict[int, int] = {}
    for at, (each, hit) in enumerate(zip(several, hits, strict=True)):
        if hit is not None and isinstance(each, Member) and not hit.is_of(each):
            hits[at] = None
            row = index._hidden_row(each)
            if row >= 0:
                hidden[at] = row
    if hidden:
        for at, hit in zip(hidden, index._search_rows(hidden.values()), strict=True):
            hits[at] = hit
    return hits


def hidden_rows(index: Rows) -> dict[MemberKey, int]:
    """Return the rows of all members that are not the last of their name, by name, offsets and checksum.

    Each member is there twice: with its checksum, and with None for Members whose checksum is not known. Of members
    with equal keys, the last one counts.
    """
    found: dict[MemberKey, int] = {}
    row = 0
    for piece in index._pieces():
        for first in range(0, len(piece), NAMES_SEARCHED_AT_ONCE):
            part = piece.slice(first, min(first + NAMES_SEARCHED_AT_ONCE, len(piece)))
            names = list(part.iter_names())
            for place, (name, last) in enumerate(zip(names, index._search(names), strict=True)):
                if last is not None and last.row != row + place:
                    start, end = part.offset_start[place], part.offset_end[place]
                    found[name, start, end, None] = row + place
                    if part.crc32c is not None:
                        found[name, start, end, part.crc32c[place]] = row + place
            row += len(part)
    return found


def find_members(
    index: Rows, several: Sequence[CheckedWhich]
) -> tuple[list[FoundRow], Missing | None]:
    """Find members, up to the first that does not exist; return them, and the error for that one."""
    hits = _found(index, several)
    for place, (which, hit) in enumerate(zip(several, hits, strict=True)):
        if hit is None:
            return [hit for hit in hits[:place] if hit is not None], _error(index, which)
    return [hit for hit in hits if hit is not None], None


def name_of(index: Rows, which: CheckedWhich) -> str:
    """Return the name of a member, for messages. The name of a row is looked up."""
    if isinstance(which, int):
        return index.names[which]
    return which if isinstance(which, str) else which.name


def _found(index: Rows, several: Sequence[CheckedWhich]) -> list[FoundRow | None]:
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


def _error(index: Rows, which: CheckedWhich) -> Missing:
    if isinstance(which, int):
        return no_row(which, len(index))
    # similar names are looked for, which takes time: a search of many names does not do so
    return index._not_found(which)
