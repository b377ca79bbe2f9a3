"""Members as growing C arrays: packed names and their bounds, payloads' offsets.

The arrays double, are filled without the GIL, and pass to Python without a copy.
"""

from cython cimport view
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy


cdef struct member_columns:
    char* names                    # all names, one behind the other
    int64_t names_capacity
    # (count + 1,): name i is names[name_bounds[i]:name_bounds[i + 1]]
    int64_t* name_bounds
    int64_t* offset_start          # (count,)
    int64_t* offset_end            # (count,)
    int64_t* mtime                 # (count,) where it is kept, else NULL
    bint with_mtime                # set before the first row
    int64_t capacity
    int64_t count


cdef inline int columns_reserve(
    member_columns* columns, int64_t rows, int64_t name_bytes
) noexcept nogil:
    """Make room for more rows and name bytes.

    -1 when memory is out, and nothing is lost.
    """
    cdef int64_t wanted = columns.count + rows
    cdef int64_t capacity = columns.capacity
    cdef int64_t used = columns.name_bounds[columns.count] if columns.name_bounds else 0
    cdef void* grown
    if wanted > capacity or columns.name_bounds == NULL:
        capacity = max(wanted, 2 * capacity, 64)
        grown = realloc(columns.name_bounds, (capacity + 1) * sizeof(int64_t))
        if grown == NULL:
            return -1
        columns.name_bounds = <int64_t*> grown
        columns.name_bounds[columns.count] = used
        grown = realloc(columns.offset_start, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        columns.offset_start = <int64_t*> grown
        grown = realloc(columns.offset_end, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        columns.offset_end = <int64_t*> grown
        if columns.with_mtime:
            grown = realloc(columns.mtime, capacity * sizeof(int64_t))
            if grown == NULL:
                return -1
            columns.mtime = <int64_t*> grown
        columns.capacity = capacity
    if used + name_bytes > columns.names_capacity or columns.names == NULL:
        capacity = max(used + name_bytes, 2 * columns.names_capacity, 2048)
        grown = realloc(columns.names, capacity)
        if grown == NULL:
            return -1
        columns.names = <char*> grown
        columns.names_capacity = capacity
    return 0


cdef inline int columns_push(
    member_columns* columns,
    const void* name,
    int64_t name_length,
    int64_t offset_start,
    int64_t offset_end,
) noexcept nogil:
    """Append one row; -1 when memory is out."""
    cdef int64_t row = columns.count
    cdef int64_t used
    if (
        row == columns.capacity                    # also when nothing is allocated yet
        or columns.name_bounds[row] + name_length > columns.names_capacity
    ):
        if columns_reserve(columns, 1, name_length) < 0:
            return -1
    used = columns.name_bounds[row]
    if name_length:
        memcpy(columns.names + used, name, name_length)
    columns.name_bounds[row + 1] = used + name_length
    columns.offset_start[row] = offset_start
    columns.offset_end[row] = offset_end
    columns.count = row + 1
    return 0


cdef inline int columns_extend(
    member_columns* columns, const member_columns* other, int64_t first, int64_t last
) noexcept nogil:
    """Append the rows first:last of other; -1 when memory is out."""
    cdef int64_t rows = last - first
    cdef int64_t row = columns.count
    cdef int64_t shift, name_bytes, i
    if rows <= 0:
        return 0
    name_bytes = other.name_bounds[last] - other.name_bounds[first]
    if columns_reserve(columns, rows, name_bytes) < 0:
        return -1
    shift = columns.name_bounds[row] - other.name_bounds[first]
    if name_bytes:
        memcpy(
            columns.names + columns.name_bounds[row],
            other.names + other.name_bounds[first],
            name_bytes,
        )
    for i in range(1, rows + 1):
        columns.name_bounds[row + i] = other.name_bounds[first + i] + shift
    i = rows * sizeof(int64_t)
    memcpy(columns.offset_start + row, other.offset_start + first, i)
    memcpy(columns.offset_end + row, other.offset_end + first, i)
    if columns.with_mtime:
        memcpy(columns.mtime + row, other.mtime + first, i)
    columns.count = row + rows
    return 0


cdef inline void columns_free(member_columns* columns) noexcept nogil:
    free(columns.names)
    free(columns.name_bounds)
    free(columns.offset_start)
    free(columns.offset_end)
    free(columns.mtime)
    columns.names = NULL
    columns.mtime = NULL
    columns.name_bounds = columns.offset_start = columns.offset_end = NULL
    columns.capacity = columns.count = columns.names_capacity = 0


cdef inline object owned_view(
    void* data, Py_ssize_t items, Py_ssize_t size, str kind
):
    """Hand a malloc'ed array to Python: a read-only memoryview that frees it."""
    cdef view.array owner
    if items == 0:  # an array of nothing has no pointer to own
        from array import array as empty

        return memoryview(empty(kind)).toreadonly()
    owner = view.array((items,), size, kind, "c", False)
    owner.data = <char*> data
    readable = memoryview(owner).toreadonly()
    owner.callback_free_data = free  # last: a failure before this frees nothing
    return readable


cdef inline tuple columns_to_python(member_columns* columns):
    """Hand the arrays to Python: names as "B", bounds, starts and ends as "q"."""
    cdef int64_t count, name_bytes
    if columns_reserve(columns, 0, 0) < 0:
        raise MemoryError
    count = columns.count
    name_bytes = columns.name_bounds[count]
    names = owned_view(columns.names, name_bytes, 1, "B")
    if name_bytes:  # each array is let go as it is handed over
        columns.names = NULL
    name_bounds = owned_view(columns.name_bounds, count + 1, sizeof(int64_t), "q")
    columns.name_bounds = NULL
    offset_start = owned_view(columns.offset_start, count, sizeof(int64_t), "q")
    if count:
        columns.offset_start = NULL
    offset_end = owned_view(columns.offset_end, count, sizeof(int64_t), "q")
    if count:
        columns.offset_end = NULL
    return names, name_bounds, offset_start, offset_end


cdef inline object mtime_to_python(member_columns* columns, Py_ssize_t count):
    """Hand over the times too: "q", or None where they were not kept."""
    if not columns.with_mtime:
        return None
    mtime = owned_view(columns.mtime, count, sizeof(int64_t), "q")
    if count:
        columns.mtime = NULL
    return mtime
