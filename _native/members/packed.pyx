"""Columns of members made anew from others: names of chosen rows, basenames, sums.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]].
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from common.columns cimport owned_view


cdef tuple packed_views(char* packed, int64_t size, int64_t* bounds, int64_t count):
    """Hand packed names and their bounds to Python; whatever happens, nothing leaks."""
    try:
        names = owned_view(packed, size, 1, "B")
        if size:
            packed = NULL
        name_bounds = owned_view(bounds, count + 1, sizeof(int64_t), "q")
        bounds = NULL
        return names, name_bounds
    finally:
        free(packed)
        free(bounds)


def take_names(
    const unsigned char[::1] names not None,
    const int64_t[::1] name_bounds not None,
    const int64_t[::1] rows not None,
):
    """Pack the names of the given rows, in their order.

    Returns:
        names, name_bounds: Views of bytes and of int64, (len(rows) + 1,).

    Raises:
        IndexError: a row that does not exist.
    """
    cdef int64_t count = name_bounds.shape[0] - 1
    cdef int64_t i, total = 0, length
    cdef char* packed
    cdef int64_t* bounds
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < count:
            raise IndexError(f"row {rows[i]} of {count}")
        total += name_bounds[rows[i] + 1] - name_bounds[rows[i]]
    packed = <char*> malloc(max(total, 1))
    bounds = <int64_t*> malloc((rows.shape[0] + 1) * sizeof(int64_t))
    if packed == NULL or bounds == NULL:
        free(packed)
        free(bounds)
        raise MemoryError
    with nogil:
        bounds[0] = 0
        for i in range(rows.shape[0]):
            length = name_bounds[rows[i] + 1] - name_bounds[rows[i]]
            if length:
                memcpy(packed + bounds[i], &names[name_bounds[rows[i]]], length)
            bounds[i + 1] = bounds[i] + length
    return packed_views(packed, total, bounds, rows.shape[0])


def take_basenames(
    const unsigned char[::1] names not None, const int64_t[::1] name_bounds not None
):
    """Pack what stands behind the last "/" of every name.

    Returns:
        names, name_bounds: Views of bytes and of int64, (n + 1,).
    """
    cdef int64_t count = name_bounds.shape[0] - 1, row, start, end, used = 0
    cdef int64_t total = name_bounds[count] - name_bounds[0]
    cdef char* packed = <char*> malloc(max(total, 1))
    cdef int64_t* bounds = <int64_t*> malloc((count + 1) * sizeof(int64_t))
    if packed == NULL or bounds == NULL:
        free(packed)
        free(bounds)
        raise MemoryError
    with nogil:
        bounds[0] = 0
        for row in range(count):
            end = start = name_bounds[row + 1]
            while start > name_bounds[row] and names[start - 1] != b"/":
                start -= 1
            if end > start:
                memcpy(packed + used, &names[start], end - start)
            used += end - start
            bounds[row + 1] = used
    return packed_views(packed, used, bounds, count)


def measure(
    const int64_t[::1] offset_start not None,
    const int64_t[::1] offset_end not None,
):
    """Sum up the payloads' bytes, and find where the last one ends; 0, 0 of none."""
    cdef uint64_t total = 0, size
    cdef int64_t last = 0, row
    with nogil:
        for row in range(offset_start.shape[0]):
            size = <uint64_t> offset_end[row] - <uint64_t> offset_start[row]
            total = total + size if total + size >= total else <uint64_t> -1
            last = max(last, offset_end[row])
    return total, last
