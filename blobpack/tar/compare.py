"""Two tables of members, compared row by row."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blobpack.columns import Columns

COMPARED_ROWS_MAX = 1024


def unmatched_rows(index: Columns, found: Columns) -> tuple[list[int], list[int]]:
    """Step through both tables side by side; the rows of each that the other does not have."""
    left: list[int] = []
    right: list[int] = []
    one, other = 0, 0
    while one < len(index) and other < len(found):
        same = _count_equal_rows(index, one, found, other)
        one += same
        other += same
        if one == len(index) or other == len(found):
            break
        if index.offset_start[one] <= found.offset_start[other]:
            left.append(one)
            one += 1
        else:
            right.append(other)
            other += 1
    left += range(one, len(index))
    right += range(other, len(found))
    return _drop_reordered(index, left, found, right)


def _count_equal_rows(index: Columns, one: int, found: Columns, other: int) -> int:
    """Count the rows that are alike in both tables from here on."""
    total = 0
    rows = 1
    while rows := min(rows, len(index) - one, len(found) - other):
        same = _count_equal_in_run(index, one, found, other, rows)
        total += same
        one += same
        other += same
        if same < rows:
            break
        rows = min(4 * rows, COMPARED_ROWS_MAX)
    return total


def _count_equal_in_run(index: Columns, one: int, found: Columns, other: int, rows: int) -> int:
    import numpy as np

    first, second = index.slice(one, one + rows), found.slice(other, other + rows)
    if (
        np.array_equal(np.asarray(first.offset_start), np.asarray(second.offset_start))
        and np.array_equal(np.asarray(first.offset_end), np.asarray(second.offset_end))
        and np.array_equal(_name_lengths(first), _name_lengths(second))
        and first.packed_names() == second.packed_names()
    ):
        return rows
    return next(row for row in range(rows) if member_key(first, row) != member_key(second, row))


def _name_lengths(columns: Columns) -> NDArray[np.int64]:
    import numpy as np

    return np.diff(np.asarray(columns.name_bounds))


def member_key(columns: Columns, row: int) -> tuple[bytes, int, int]:
    """Return what identifies a row in both tables: name, offset_start and offset_end."""
    name = bytes(columns.names[columns.name_bounds[row] : columns.name_bounds[row + 1]])
    return name, columns.offset_start[row], columns.offset_end[row]


def _drop_reordered(
    index: Columns, left: list[int], found: Columns, right: list[int]
) -> tuple[list[int], list[int]]:
    """Take out rows that are in both tables, but in another order."""
    places = defaultdict(list)
    for other in reversed(right):
        places[member_key(found, other)].append(other)
    paired = set()
    alone = []
    for one in left:
        others = places.get(member_key(index, one))
        if others:
            paired.add(others.pop())
        else:
            alone.append(one)
    return alone, [other for other in right if other not in paired]
