"""Row numbers that a caller chose: as a range, a list, an array of any package, or a mask."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blobpack.model import check_whole, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def is_numbers_or_mask(several: Any) -> bool:
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
        numbers = rows_as_array(rows)
    else:
        numbers = _numbers(rows, count, name)
        # before the cast to int64, which would make -1 of the uint64 2**64 - 1
        wrong = np.flatnonzero((numbers < -count) | (numbers >= count))
        if len(wrong):
            raise no_row(numbers[wrong[0]], count)
    # a copy: the caller may change the array
    whole = numbers.astype(np.int64)
    whole[whole < 0] += count
    return whole


def rows_to_read(rows: Any, count: int) -> Sequence[int]:
    """Return existing_rows as a sequence of int. A range without negative numbers is returned as it is, at any length."""
    if isinstance(rows, range) and (not rows or min(rows[0], rows[-1]) >= 0):
        _check_ends(rows, count)
        return rows
    return as_ints(existing_rows(rows, count))


def as_ints(rows: range | NDArray[np.int64]) -> Sequence[int]:
    """Return rows as a sequence of int."""
    if isinstance(rows, range):
        return rows
    listed: list[int] = rows.tolist()
    return listed


def _check_ends(rows: range, count: int) -> None:
    """Check that all rows of a range exist."""
    if rows and not all(-count <= end < count for end in (rows[0], rows[-1])):
        # at most 2 * count numbers of a range exist, so this ends soon
        raise no_row(next(row for row in rows if not -count <= row < count), count)


def no_row(row: object, count: int) -> IndexError:
    """Return the error for a row that does not exist."""
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
        raise no_row(wrong[0], count)


def as_run(rows: NDArray[np.int64]) -> range | NDArray[np.int64]:
    """Return rows as a range, if each one follows the one before."""
    first, count = (int(rows[0]), len(rows)) if len(rows) else (0, 0)
    # the first and the last row already rule out most arrays
    if count and rows[-1] - first == count - 1 and ascends(rows, strictly=True):
        return range(first, first + count)
    return rows


def ascends(rows: range | NDArray[np.int64], *, strictly: bool = False) -> bool:
    """Return whether no row is smaller than the one before; strictly: whether each one is larger."""
    if isinstance(rows, range):
        return rows.step > 0
    return bool((rows[1:] > rows[:-1] if strictly else rows[1:] >= rows[:-1]).all())


def rows_as_array(rows: range | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows as an array."""
    import numpy as np

    # np.asarray would make a Python int of each number of a range
    return np.arange(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


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
