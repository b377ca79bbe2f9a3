"""The rows that a caller means: by names, by members, by their numbers, or by a mask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from blobpack.model import Member, check_several, row_number, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from blobpack.index.rows import Rows
    from blobpack.model import Which

    # a member's name, offset_start and offset_end
    Place = tuple[str, int, int]

# Names that are looked up together. A remote index fetches the pages and blocks of all of them at once, and keeps them
# in memory until they are all found.
NAMES_AT_ONCE = 4096


def place_of(member: Member) -> Place:
    """Return what makes two members the same one: their name and their offsets. Facts do not count."""
    return member.name, member.offset_start, member.offset_end


def rows_of_several(
    index: Rows, several: Iterable[Which], name: str = "several"
) -> NDArray[np.int64]:
    """Return the rows of several names, Members or rows, in the order asked; see Rows.rows.

    Args:
        index: The index that has the rows.
        several: The names, Members or rows.
        name: Name of the argument that held them, for messages.
    """
    import numpy as np

    check_several(name, several, "names, Members or rows")
    if isinstance(several, (np.ndarray, range)):
        return existing_rows(several, len(index), name)
    asked = iter(several)
    found: list[int] = []
    # Members that are not the last one of their name
    hidden: dict[int, Member] = {}
    while some := list(islice(asked, NAMES_AT_ONCE)):
        for which, row in zip(some, _last_rows(index, some, name), strict=True):
            if row < 0 and isinstance(which, str):
                raise index._not_found(which)
            if row < 0 and isinstance(which, Member):
                hidden[len(found)] = which
            found.append(row)
    if hidden:
        rows = index._hidden_rows()
        for at, member in hidden.items():
            if place_of(member) not in rows:
                raise index._not_found(member)
            found[at] = rows[place_of(member)]
    return np.array(found, np.int64)


def _last_rows(index: Rows, some: list[Which], name: str) -> list[int]:
    """Return a row for each; -1 if there is no such name, or if the last member of a Member's name is another one."""
    names = [
        which if isinstance(which, str) else which.name
        for which in some
        if isinstance(which, (str, Member))
    ]
    hits = iter(index._search(names))

    def row_of(which: Which) -> int:
        if not isinstance(which, (str, Member)):
            try:
                return row_number(which, len(index))
            except TypeError:
                raise TypeError(
                    f"{name} must be names, Members or rows, and one is {shown(which)}"
                ) from None
        hit = next(hits)
        if hit is None or (isinstance(which, Member) and hit[1:3] != place_of(which)[1:]):
            return -1
        return hit.row

    return list(map(row_of, some))


def hidden_rows(index: Rows) -> dict[Place, int]:
    """Return the rows of all members that are not the last of their name, by name and offsets.

    Of members with one name and equal offsets, the last one counts.
    """
    found: dict[Place, int] = {}
    row = 0
    for piece in index._pieces():
        for first in range(0, len(piece), NAMES_AT_ONCE):
            part = piece.slice(first, min(first + NAMES_AT_ONCE, len(piece)))
            names = list(part.iter_names())
            for place, (name, last) in enumerate(zip(names, index._search(names), strict=True)):
                if last is not None and last.row != row + place:
                    start, end = part.offset_start[place], part.offset_end[place]
                    found[name, start, end] = row + place
            row += len(part)
    return found


def existing_rows(rows: Any, count: int, name: str = "rows") -> NDArray[np.int64]:
    """Return rows that a caller chose, as numbers from the start.

    Args:
        rows: (k,) whole numbers, negative ones counted from the end; or a mask, (count,) bool.
        count: Number of rows that there are.
        name: Name of the argument, for messages.

    Raises:
        IndexError: there is no such row, or the mask has another length.
        TypeError: this is neither a list or array of whole numbers nor a mask.
    """
    import numpy as np

    numbers = _numbers(rows, count, name)
    wrong = np.flatnonzero((numbers < -count) | (numbers >= count))
    if len(wrong):
        raise IndexError(f"no row {numbers[wrong[0]]} among {count} rows")
    return np.where(numbers < 0, numbers + count, numbers)


def _numbers(rows: Any, count: int, name: str) -> NDArray[np.int64]:
    """Return rows or a mask as numbers, (k,) int64; whether these rows exist is not checked."""
    import numpy as np

    try:
        chosen = np.asarray(rows)
    # a list of lists of several lengths
    except ValueError:
        chosen = np.asarray(None)
    # NumPy would take one number for a list of it, cut 1.5 to 1, and take True beside a 2 for 1
    is_list = chosen.ndim == 1 and not (
        isinstance(rows, Sequence)
        and chosen.dtype.kind != "b"
        and {bool, np.bool_} & set(map(type, rows))
    )
    if is_list and chosen.dtype.kind == "b":
        if len(chosen) != count:
            raise IndexError(f"a mask of {len(chosen)} rows for {count} rows")
        return np.flatnonzero(chosen)
    # an empty list becomes float64
    if not is_list or (len(chosen) and chosen.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be a list or array of whole numbers, or a mask, not {shown(rows)}"
        )
    return chosen.astype(np.int64)
