"""Rows of an index, as columns that Python owns: the names and offsets of members."""

from libc.stdint cimport int64_t
from libc.string cimport memset

cdef struct blob_rows:
    const unsigned char* names
    int64_t names_length
    const int64_t* name_bounds     # (count + 1,)
    const int64_t* offset_start    # (count,)
    const int64_t* offset_end
    int64_t count


cdef inline int bind_rows(
    blob_rows* rows,
    const unsigned char[::1] names,
    const int64_t[::1] name_bounds,
    const int64_t[::1] offset_start,
    const int64_t[::1] offset_end,
) except -1:
    """Point at the columns, which must outlive the rows."""
    cdef int64_t count = offset_start.shape[0]
    if offset_end.shape[0] != count or name_bounds.shape[0] != count + 1:
        raise ValueError(
            f"{count} starts, {offset_end.shape[0]} ends, "
            f"{name_bounds.shape[0]} bounds of names"
        )
    memset(rows, 0, sizeof(blob_rows))
    rows.count = count
    rows.names_length = names.shape[0]
    rows.name_bounds = &name_bounds[0]
    if names.shape[0]:                             # &names[0] of nothing is nothing
        rows.names = &names[0]
    if count:
        rows.offset_start = &offset_start[0]
        rows.offset_end = &offset_end[0]
    return 0
