"""The order of members by their names.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]]. They are compared byte by byte.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from common.columns cimport owned_view
from common.packed_names cimport compare, packed_names


cdef void sort(
    packed_names names, int64_t* rows, int64_t* spare, int64_t count
) noexcept nogil:
    """Sort rows by name; rows of one name keep their order. spare holds count / 2 rows.

    A merge sort: where two halves are in order already, they are not merged, so rows
    that consist of a few sorted runs, as in a collection, take little more than one
    comparison each.
    """
    cdef int64_t half = count // 2, left = 0, right = half, put = 0
    if count < 2:
        return
    sort(names, rows, spare, half)
    sort(names, rows + half, spare, count - half)
    if compare(names, rows[half - 1], rows[half]) <= 0:
        return
    memcpy(spare, rows, half * sizeof(int64_t))
    while left < half and right < count:
        if compare(names, spare[left], rows[right]) <= 0:
            rows[put] = spare[left]
            left += 1
        else:
            rows[put] = rows[right]
            right += 1
        put += 1
    memcpy(rows + put, spare + left, (half - left) * sizeof(int64_t))


cdef int64_t keep_last(
    packed_names names, int64_t* rows, int64_t count
) noexcept nogil:
    """Keep only the last of the rows with one name, and return how many are left."""
    cdef int64_t i, kept = 0
    for i in range(count):
        if i + 1 == count or compare(names, rows[i], rows[i + 1]) != 0:
            rows[kept] = rows[i]
            kept += 1
    return kept


cdef packed_names view_of(
    const unsigned char[::1] names, const int64_t[::1] name_bounds
) noexcept:
    cdef packed_names view
    view.bytes = &names[0] if names.shape[0] else NULL
    view.bounds = &name_bounds[0]
    return view


def names_ascend(
    const unsigned char[::1] names not None, const int64_t[::1] name_bounds not None
):
    """Return whether every name is above the one before it."""
    cdef packed_names view = view_of(names, name_bounds)
    cdef int64_t row, count = name_bounds.shape[0] - 1
    cdef bint ascends = True
    with nogil:
        for row in range(1, count):
            if compare(view, row - 1, row) >= 0:
                ascends = False
                break
    return ascends


def rows_by_name(
    const unsigned char[::1] names not None, const int64_t[::1] name_bounds not None
):
    """Return the rows in the order of their names; of equal names, only the last row.

    Returns:
        View of int64, (k,).
    """
    cdef packed_names view = view_of(names, name_bounds)
    cdef int64_t row, count = name_bounds.shape[0] - 1, kept = 0
    cdef int64_t* rows = <int64_t*> malloc(max(count, 1) * sizeof(int64_t))
    cdef int64_t* spare = <int64_t*> malloc(max(count // 2, 1) * sizeof(int64_t))
    if rows == NULL or spare == NULL:
        free(rows)
        free(spare)
        raise MemoryError
    with nogil:
        for row in range(count):
            rows[row] = row
        sort(view, rows, spare, count)
        kept = keep_last(view, rows, count)
        free(spare)
    try:
        found = owned_view(<char*> rows, kept, sizeof(int64_t), "q")
        if kept:  # owned_view of nothing owns nothing
            rows = NULL
        return found
    finally:
        free(rows)
