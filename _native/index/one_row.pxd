"""One row of an index file, given to Python: its name and facts, in an open block."""

from libc.stdint cimport int64_t, uint8_t

from index.blocks cimport (
    CRC32C,
    HEIGHT,
    MEDIA_TYPE,
    WIDTH,
    block_column,
    block_view,
    mtime_in,
    name_in,
    offsets_in,
    value_at,
)
from index.rows cimport HAS_CRC32C, HAS_HEIGHT, HAS_MEDIA_TYPE, HAS_MTIME, HAS_WIDTH

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
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


cdef inline object name_at_place(const block_view* view, int64_t place):
    """Return the name in a block; None when its bounds are no bounds."""
    cdef const unsigned char* name
    cdef int64_t length
    if not name_in(view, place, &name, &length):
        return None
    return PyUnicode_DecodeUTF8(<const char*> name, length, "surrogateescape")


cdef inline object known_at_place(
    const block_view* view, block_column column, bint has_it, int64_t place
):
    return (value_at(view, column, place) or None) if has_it else None


cdef inline tuple facts_at_place(
    const block_view* view, int64_t place, int facts, tuple media_types
):
    """Return the facts in a block in the order of Member; 0 is unknown."""
    cdef uint8_t code = 0
    cdef object crc = None, mtime = None
    if facts & HAS_MEDIA_TYPE:
        code = <uint8_t> value_at(view, MEDIA_TYPE, place)
    if facts & HAS_CRC32C:
        crc = value_at(view, CRC32C, place)
    if facts & HAS_MTIME:
        mtime = mtime_in(view, place) or None
    return (
        # a later version of the format may add media types
        media_types[code] if 0 < code < len(media_types) else None,
        known_at_place(view, WIDTH, facts & HAS_WIDTH, place),
        known_at_place(view, HEIGHT, facts & HAS_HEIGHT, place),
        crc,
        mtime,
    )
