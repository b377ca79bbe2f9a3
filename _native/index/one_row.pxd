"""One row of an index file: its number, and its offsets in an open block."""

from libc.stdint cimport int64_t

from index.blocks cimport block_view, name_in, offsets_in

cdef extern from "Python.h":
    Py_ssize_t PyNumber_AsSsize_t(object, object) except? -1


cdef inline int64_t row_number(object row, int64_t count) except -1:
    """Return a row's number from the start; negative rows count from the end."""
    cdef int64_t number
    try:
        # True is an int, but a mistake as a row
        if isinstance(row, bool):
            raise TypeError
        number = PyNumber_AsSsize_t(row, OverflowError)
    except TypeError:
        raise TypeError(f"row must be a whole number, not {row!r:.200}") from None
    except OverflowError:
        number = count
    if number < -count or number >= count:
        raise IndexError(f"no row {row} among {count} rows")
    return number + count if number < 0 else number


cdef inline bint bounds_in(
    const block_view* view, int64_t place, int64_t* start, int64_t* end
) noexcept nogil:
    """Read a row's offsets; false when they are none, or the row's name is damaged."""
    cdef const unsigned char* name
    cdef int64_t length
    return name_in(view, place, &name, &length) and offsets_in(view, place, start, end)
