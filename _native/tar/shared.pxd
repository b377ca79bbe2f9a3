"""Long names that a pax global header gives to many rows: kept once, not for each row.

A name of a member's own takes as many bytes in the tar. But a global header of 1 MiB
names each of the headers behind it, of 512 bytes: with a copy for each row, a tar of
2 MB took 2 GB. Short ones are copied: eight times as long as a header at most.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport realloc

from common.columns cimport columns_push, member_columns
from tar.extended cimport text

cdef enum:
    SHARED_BYTES_MIN = 4096

cdef struct text_numbers:  # of rows; the name of such a row is empty in its columns
    int64_t* number                # (rows,) -1: a name of its own; NULL: so have all
    int64_t capacity


cdef inline int set_number(
    text_numbers* numbers, int64_t row, int64_t number
) noexcept nogil:
    """Note the text of a row; -1 when memory is out.

    The rows between the last one that was noted and this one have names of their own.
    """
    cdef int64_t capacity = max(row + 1, 2 * numbers.capacity), i
    cdef void* grown
    if row >= numbers.capacity:
        grown = realloc(numbers.number, capacity * sizeof(int64_t))
        if grown == NULL:
            return -1
        numbers.number = <int64_t*> grown
        for i in range(numbers.capacity, capacity):
            numbers.number[i] = -1
        numbers.capacity = capacity
    numbers.number[row] = number
    return 0


cdef inline int64_t keep_text(
    member_columns* texts, int64_t* number, text name, int64_t pos
) noexcept nogil:
    """Keep a text, unless it is kept already, and return its number.

    -1 when memory is out. The first member that has it begins at pos.
    """
    if number[0] < 0:
        if columns_push(texts, name.bytes, name.length, pos, 0) < 0:
            return -1
        number[0] = texts.count - 1
    return number[0]


cdef inline text name_in_row(
    const member_columns* rows,
    int64_t row,
    const text_numbers* numbers,
    const member_columns* texts,
) noexcept nogil:
    cdef text name
    if row < numbers.capacity and numbers.number[row] >= 0:
        row = numbers.number[row]
        rows = texts
    name.bytes = <const unsigned char*> rows.names + rows.name_bounds[row]
    name.length = rows.name_bounds[row + 1] - rows.name_bounds[row]
    return name
