"""Columns of members made anew from others: names of chosen rows, basenames, sums.

Also the normal form of names: two names of one normal form are extracted to one file.

Names are packed UTF-8 (or whatever bytes the tar holds): name i is
names[name_bounds[i]:name_bounds[i + 1]].
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy

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


cdef int make_room(
    char** packed, int64_t** bounds, int64_t size, int64_t count
) except -1:
    """Make room for names of so many bytes, and for their bounds."""
    packed[0] = <char*> malloc(max(size, 1))
    bounds[0] = <int64_t*> malloc((count + 1) * sizeof(int64_t))
    if packed[0] == NULL or bounds[0] == NULL:
        free(packed[0])
        free(bounds[0])
        raise MemoryError
    bounds[0][0] = 0
    return 0


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
    make_room(&packed, &bounds, total, rows.shape[0])
    with nogil:
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
    cdef char* packed
    cdef int64_t* bounds
    make_room(&packed, &bounds, total, count)
    with nogil:
        for row in range(count):
            end = start = name_bounds[row + 1]
            while start > name_bounds[row] and names[start - 1] != b"/":
                start -= 1
            if end > start:
                memcpy(packed + used, &names[start], end - start)
            used += end - start
            bounds[row + 1] = used
    return packed_views(packed, used, bounds, count)


# The normal form of names

cdef inline int64_t part_length(const char* name, int64_t length) noexcept nogil:
    """Count the bytes before the first "/"."""
    cdef const char* slash = <const char*> memchr(name, 47, length)
    return length if slash == NULL else slash - name


cdef inline bint says_nothing(const char* part, int64_t length) noexcept nogil:
    """Recognise the parts of a path that lead nowhere: an empty one, and "."."""
    return length == 0 or (length == 1 and part[0] == b".")


cdef inline bint is_normal(const char* name, int64_t length) noexcept nogil:
    cdef int64_t pos = 0, part
    while pos < length:
        part = part_length(name + pos, length - pos)
        if says_nothing(name + pos, part) or pos + part == length - 1:
            return False
        pos += part + 1
    return True


cdef inline bint are_plain(
    const char* names, const int64_t* bounds, int64_t count
) noexcept nogil:
    """Recognise names that are all normal, and in which no part begins with "."."""
    cdef int64_t i
    cdef unsigned char found = 0
    # without a branch, so that compilers make it a loop over vectors
    for i in range(bounds[0], bounds[count] - 1):
        found |= (names[i] == b"/") & ((names[i + 1] == b"/") | (names[i + 1] == b"."))
    for i in range(count):
        if (
            found
            or bounds[i] == bounds[i + 1]
            or names[bounds[i]] == b"."
            or names[bounds[i]] == b"/"
            or names[bounds[i + 1] - 1] == b"/"
        ):
            return False
    return True


cdef inline int64_t put_normal(
    char* to, const char* name, int64_t length
) noexcept nogil:
    """Write a name in its normal form, and return its length, at most `length`."""
    cdef int64_t pos = 0, used = 0, part
    while pos < length:
        part = part_length(name + pos, length - pos)
        if not says_nothing(name + pos, part):
            if used:
                to[used] = b"/"
                used += 1
            memcpy(to + used, name + pos, part)
            used += part
        pos += part + 1
    return used


def normal_name(str name not None):
    """Return the normal form of a name: what it is below the folder of an extraction.

    As tar tools do, it leaves out "." and empty parts, also the one before a leading
    "/": "./a", "/a", "a/" and ".//a/." are "a". A part ".." stays.
    """
    cdef bytes encoded = name.encode("utf-8", "surrogatepass")
    cdef bytearray normal
    cdef int64_t length
    if is_normal(encoded, len(encoded)):
        return name
    normal = bytearray(len(encoded))
    length = put_normal(normal, encoded, len(encoded))
    return normal[:length].decode("utf-8", "surrogatepass")


def normal_names(names not None, name_bounds not None):
    """Pack the normal forms of names: normal_name, for columns.

    Returns:
        names, name_bounds: Views of bytes and of int64, (n + 1,); the arguments
            themselves where every name is in normal form.
    """
    cdef const unsigned char[::1] given = names
    cdef const int64_t[::1] bounds = name_bounds
    cdef int64_t count = bounds.shape[0] - 1, row = 0, start
    cdef const char* packed = b""
    cdef char* normal
    cdef int64_t* normal_bounds
    if given.shape[0]:
        packed = <const char*> &given[0]
    if are_plain(packed, &bounds[0], count):      # 1 ns a name instead of 11
        return names, name_bounds
    with nogil:
        while row < count and is_normal(
            packed + bounds[row], bounds[row + 1] - bounds[row]
        ):
            row += 1
    if row == count:
        return names, name_bounds
    make_room(&normal, &normal_bounds, bounds[count] - bounds[0], count)
    with nogil:
        for row in range(count):
            start = bounds[row]
            normal_bounds[row + 1] = normal_bounds[row] + put_normal(
                normal + normal_bounds[row], packed + start, bounds[row + 1] - start
            )
    return packed_views(normal, normal_bounds[count], normal_bounds, count)


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
