"""Find the rows that a caller asks for: by names, Members, row numbers or a mask."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from blobpack.index.origin import as_array
from blobpack.model import Member, check_several, check_whole, row_number, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from blobpack._native.results import FoundRow
    from blobpack.index.rows import Rows
    from blobpack.model import Which

    # a member's name, offset_start, offset_end and checksum; None in place of the checksum stands for any
    Place = tuple[str, int, int, int | None]

# Names that are looked up together. A remote index fetches the pages and blocks of all of them at once, and keeps them
# in memory until they are all found.
NAMES_AT_ONCE = 4096


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
    cut = index._rows_of_cut(several)
    if cut is not None:
        return as_array(cut)
    if _is_numbers_or_mask(several):
        return existing_rows(several, len(index), name)
    # the text in an array of NumPy is no str
    asked = iter(several.tolist() if isinstance(several, np.ndarray) else several)
    found: list[int] = []
    while some := list(islice(asked, NAMES_AT_ONCE)):
        hits = iter(find_named(index, [one for one in some if isinstance(one, (str, Member))]))
        for which in some:
            if not isinstance(which, (str, Member)):
                found.append(_number_of(which, len(index), name))
                continue
            hit = next(hits)
            if hit is None:
                raise index._not_found(which)
            found.append(hit.row)
    return np.array(found, np.int64)


def _number_of(row: object, count: int, name: str) -> int:
    try:
        return row_number(row, count)
    except TypeError:
        raise TypeError(f"{name} must be names, Members or rows, and one is {shown(row)}") from None


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


def hidden_rows(index: Rows) -> dict[Place, int]:
    """Return the rows of all members that are not the last of their name, by name, offsets and checksum.

    Each member is there twice: with its checksum, and with None for Members whose checksum is not known. Of members
    with equal keys, the last one counts.
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
                    found[name, start, end, None] = row + place
                    if part.crc32c is not None:
                        found[name, start, end, part.crc32c[place]] = row + place
            row += len(part)
    return found


def _is_numbers_or_mask(several: Any) -> bool:
    """Return whether this is an array, a column or a range of rows, or a mask; a list may hold names, Members and rows."""
    if isinstance(several, range):
        return True
    # of NumPy, pandas or Arrow
    if hasattr(several, "__array__"):
        return _as_array(several).dtype.kind in "biu"
    return isinstance(several, Sequence) and set(map(type, several)) == {bool}


def existing_rows(rows: Any, count: int, name: str = "rows") -> NDArray[np.int64]:
    """Return rows that a caller chose, as numbers from the start.

    Args:
        rows: (k,) whole numbers, negative ones counted from the end; or a mask, (count,) bool. A missing value in a mask
            of pandas counts as False.
        count: Number of rows that there are.
        name: Name of the argument, for messages.

    Raises:
        IndexError: there is no such row, or the mask has another length.
        TypeError: this is neither a list or array of whole numbers nor a mask.
    """
    import numpy as np

    if isinstance(rows, range):
        _check_ends(rows, count)
        numbers = as_array(rows)
    else:
        numbers = _numbers(rows, count, name)
        # before the cast to int64, which would make -1 of the uint64 2**64 - 1
        wrong = np.flatnonzero((numbers < -count) | (numbers >= count))
        if len(wrong):
            raise _no_row(numbers[wrong[0]], count)
    whole = numbers.astype(np.int64, copy=False)
    return np.where(whole < 0, whole + count, whole)


def rows_to_read(rows: Any, count: int) -> Sequence[int]:
    """Return existing_rows as a sequence of int. A range without negative numbers is returned as it is, at any length."""
    if isinstance(rows, range) and (not rows or min(rows[0], rows[-1]) >= 0):
        _check_ends(rows, count)
        return rows
    listed: list[int] = existing_rows(rows, count).tolist()
    return listed


def _check_ends(rows: range, count: int) -> None:
    """Check that all rows of a range exist."""
    if rows and not all(-count <= end < count for end in (rows[0], rows[-1])):
        # at most 2 * count numbers of a range exist, so this ends soon
        raise _no_row(next(row for row in rows if not -count <= row < count), count)


def _no_row(row: object, count: int) -> IndexError:
    return IndexError(f"no row {row} among {count} rows")


def _numbers(rows: Any, count: int, name: str) -> NDArray[Any]:
    """Return rows or a mask as whole numbers, (k,), of any integer type. Rows may be out of range, if the type holds them."""
    import numpy as np

    chosen = _as_array(rows)
    # NumPy makes floats of numbers beyond int64, or an array of objects
    if isinstance(rows, Sequence) and chosen.dtype.kind in "fO":
        _check_whole_numbers(rows, count)
    # NumPy would take one number for a list of it, cut 1.5 to 1, and take True beside a 2 for 1
    is_list = chosen.ndim == 1 and not (
        isinstance(rows, Sequence)
        and chosen.dtype.kind != "b"
        and {bool, np.bool_} & set(map(type, rows))
    )
    if is_list and chosen.dtype.kind == "b":
        if len(chosen) != count:
            raise IndexError(f"the mask has {len(chosen)} values, but there are {count} rows")
        return np.flatnonzero(chosen)
    # an empty list becomes float64
    if not is_list or (len(chosen) and chosen.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be a list or array of whole numbers, or a mask, not {shown(rows)}"
        )
    return chosen if len(chosen) else np.zeros(0, np.int64)


def _check_whole_numbers(rows: Sequence[Any], count: int) -> None:
    """Check that the rows of a list exist, if all of them are whole numbers."""
    try:
        wrong = [row for row in rows if not -count <= check_whole("row", row) < count]
    except TypeError:
        return
    if wrong:
        raise _no_row(wrong[0], count)


def _as_array(rows: Any) -> NDArray[Any]:
    """Return an array of rows or of a mask; one without a dimension if it is neither."""
    import numpy as np

    try:
        chosen = np.asarray(rows)
    # a list of lists of several lengths
    except ValueError:
        return np.asarray(None)
    if chosen.dtype.kind == "O" and _is_mask_of_pandas(rows):
        # an array of objects, because values are missing
        return np.where(sys.modules["pandas"].isna(chosen), False, chosen).astype(bool)
    return chosen


def _is_mask_of_pandas(rows: Any) -> bool:
    # who has a column or an array of pandas has imported pandas, and importing it takes 0.3 s
    pandas = sys.modules.get("pandas")
    return (
        pandas is not None
        and isinstance(rows, (pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray))
        and pandas.api.types.is_bool_dtype(rows.dtype)
    )
