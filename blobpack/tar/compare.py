"""Comparison of two tables of members: the index of a blob, and the members that a scan found in it.

Strategy: nearly all rows are equal in a sound blob. So whole runs of rows are compared at once, by numpy, and single
rows only where a run differs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blobpack.columns import Columns

# Rows that are compared at once. If a run differs, its rows are searched one by one in Python, so that a longer run
# would make each difference more expensive.
COMPARED_ROWS_MAX = 1024


def unmatched_rows(index: Columns, found: Columns) -> tuple[list[int], list[int]]:
    """Return the rows of each table that the other table does not have.

    Args:
        index: The members as the index lists them.
        found: The members as the headers describe them.

    Returns:
        only_index: Rows of index without an equal row in found, ascending.
        only_found: Rows of found without an equal row in index, ascending.
    """
    only_index: list[int] = []
    only_found: list[int] = []
    row, found_row = 0, 0
    while row < len(index) and found_row < len(found):
        equal = _count_equal_rows(index, row, found, found_row)
        row += equal
        found_row += equal
        if row == len(index) or found_row == len(found):
            break
        # Both tables are usually in archive order. So the row with the lower offset is the one without a partner,
        # and the other row may still match the next one.
        if index.offset_start[row] <= found.offset_start[found_row]:
            only_index.append(row)
            row += 1
        else:
            only_found.append(found_row)
            found_row += 1
    only_index += range(row, len(index))
    only_found += range(found_row, len(found))
    return _drop_reordered(index, only_index, found, only_found)


def _count_equal_rows(index: Columns, row: int, found: Columns, found_row: int) -> int:
    """Count the rows from here on that are equal in both tables, up to the first difference."""
    total = 0
    # A run begins with one row and grows fourfold. Behind a difference, a long run would mostly be compared in vain;
    # in a sound blob, short runs would be slow.
    rows = 1
    while rows := min(rows, len(index) - row, len(found) - found_row):
        equal = _count_equal_in_run(index, row, found, found_row, rows)
        total += equal
        row += equal
        found_row += equal
        if equal < rows:
            break
        rows = min(4 * rows, COMPARED_ROWS_MAX)
    return total


def _count_equal_in_run(index: Columns, row: int, found: Columns, found_row: int, rows: int) -> int:
    import numpy as np

    first, second = index.slice(row, row + rows), found.slice(found_row, found_row + rows)
    # The lengths are compared too: with the packed bytes alone, the names "ab", "c" would equal "a", "bc".
    if (
        np.array_equal(np.asarray(first.offset_start), np.asarray(second.offset_start))
        and np.array_equal(np.asarray(first.offset_end), np.asarray(second.offset_end))
        and np.array_equal(first.name_lengths(), second.name_lengths())
        and first.packed_names() == second.packed_names()
    ):
        return rows
    return next(i for i in range(rows) if member_key(first, i) != member_key(second, i))


def member_key(columns: Columns, row: int) -> tuple[bytes, int, int]:
    """Return what must be equal in both tables: name, offset_start and offset_end."""
    name = bytes(columns.names[columns.name_bounds[row] : columns.name_bounds[row + 1]])
    return name, columns.offset_start[row], columns.offset_end[row]


def _drop_reordered(
    index: Columns, only_index: list[int], found: Columns, only_found: list[int]
) -> tuple[list[int], list[int]]:
    """Drop pairs of equal rows, which stand at different places in the two tables.

    An index need not be in archive order: one made from an offsets file has the order of that file.
    """
    found_rows = defaultdict(list)
    # reversed, because pop() takes the last: so duplicates are paired in archive order
    for found_row in reversed(only_found):
        found_rows[member_key(found, found_row)].append(found_row)
    paired = set()
    unpaired = []
    for row in only_index:
        candidates = found_rows.get(member_key(index, row))
        if candidates:
            paired.add(candidates.pop())
        else:
            unpaired.append(row)
    return unpaired, [found_row for found_row in only_found if found_row not in paired]
