"""A list of BlobImageInfo as pickle bytes, the same that CPython's pickler makes of it.

Names of 64 KiB and more, which CPython writes outside of its frames, stand in them
here; every reader takes both.

Source: CPython, Modules/_pickle.c (protocol 4); PEP 3154 (framing).
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from common.utf8 cimport decode_char

cdef enum:
    FRAME_HEADER_BYTES = 9
    FRAME_BYTES = 65536            # a frame is closed once it holds this many
    GROUP_ROWS = 1000              # one APPENDS
    ROW_BYTES = 160                # more than the opcodes of a row need beside its name
    NOT_MEMOIZED = -1

cdef struct encoder:
    unsigned char* bytes
    int64_t length
    int64_t capacity
    int64_t frame_start
    int64_t memo_count
    # memo of "" and of one-character latin-1 names: CPython has one object each
    int64_t singletons[257]


cdef inline int reserve(encoder* e, int64_t size) noexcept nogil:
    cdef void* grown
    cdef int64_t capacity
    if e.capacity - e.length >= size:
        return 0
    capacity = max(2 * e.capacity, e.length + size)
    grown = realloc(e.bytes, capacity)
    if grown == NULL:
        return -1
    e.bytes = <unsigned char*> grown
    e.capacity = capacity
    return 0


cdef inline void put(encoder* e, const char* bytes, int64_t length) noexcept nogil:
    memcpy(e.bytes + e.length, bytes, length)
    e.length += length


cdef inline void put_byte(encoder* e, unsigned char byte) noexcept nogil:
    e.bytes[e.length] = byte
    e.length += 1


cdef inline void put_little(encoder* e, uint64_t value, int width) noexcept nogil:
    cdef int i
    for i in range(width):
        put_byte(e, <unsigned char> (value >> (8 * i)))


cdef inline void open_frame(encoder* e) noexcept nogil:
    e.frame_start = e.length
    put_byte(e, 0x95)
    put_little(e, 0, 8)


cdef inline void close_frame(encoder* e) noexcept nogil:
    cdef int64_t end = e.length
    e.length = e.frame_start + 1
    put_little(e, end - e.frame_start - FRAME_HEADER_BYTES, 8)
    e.length = end


cdef inline void boundary(encoder* e) noexcept nogil:
    """The pickler looks at the frame's length before it saves each object."""
    if e.length - e.frame_start - FRAME_HEADER_BYTES >= FRAME_BYTES:
        close_frame(e)
        open_frame(e)


cdef inline void put_memo(encoder* e) noexcept nogil:
    put_byte(e, 0x94)
    e.memo_count += 1


cdef inline void get_memo(encoder* e, int64_t memo) noexcept nogil:
    if memo < 256:
        put_byte(e, b"h")
        put_byte(e, <unsigned char> memo)
    else:
        put_byte(e, b"j")
        put_little(e, memo, 4)


cdef inline void put_int(encoder* e, int64_t value) noexcept nogil:
    """Write a number that is not negative, in the shortest of the pickler's ways."""
    cdef int width
    boundary(e)
    if value < 0x100:
        put_byte(e, b"K")
        put_little(e, value, 1)
    elif value < 0x10000:
        put_byte(e, b"M")
        put_little(e, value, 2)
    elif value < (<int64_t> 1 << 31):
        put_byte(e, b"J")
        put_little(e, value, 4)
    else:
        width = 5
        while width < 8 and value >> (8 * width - 1):
            width += 1
        put_byte(e, 0x8A)
        put_byte(e, width)
        put_little(e, value, width)


cdef inline int64_t surrogates_in(
    const unsigned char* name, int64_t length
) noexcept nogil:
    """Count the bytes that are not UTF-8."""
    cdef int64_t pos = 0, count = 0
    cdef uint32_t point
    while pos < length:
        if name[pos] < 0x80:
            pos += 1
            continue
        pos += decode_char(name + pos, length - pos, &point)
        count += 0xDC80 <= point < 0xDD00
    return count


cdef inline void put_escaped(
    encoder* e, const unsigned char* name, int64_t length
) noexcept nogil:
    """Write a name, each byte that is not UTF-8 as the three bytes of its surrogate."""
    cdef int64_t pos = 0
    cdef uint32_t point
    cdef int size
    while pos < length:
        size = decode_char(name + pos, length - pos, &point)
        if 0xDC80 <= point < 0xDD00:
            put_byte(e, 0xED)
            put_byte(e, <unsigned char> (0x80 | (point >> 6 & 0x3F)))
            put_byte(e, <unsigned char> (0x80 | (point & 0x3F)))
        else:
            put(e, <const char*> name + pos, size)
        pos += size


cdef inline int singleton_of(const unsigned char* name, int64_t length) noexcept nogil:
    """Index the names of which CPython keeps one object: "" and one latin-1 character.

    -1 for all others.
    """
    cdef uint32_t point
    if length == 0:
        return 256
    if length > 2 or decode_char(name, length, &point) != length or point > 255:
        return -1
    return point


cdef inline int put_name(
    encoder* e, const unsigned char* name, int64_t length
) noexcept nogil:
    cdef int64_t escaped = surrogates_in(name, length)
    cdef int64_t size = length + 2 * escaped
    cdef int singleton = singleton_of(name, length)
    if reserve(e, size + ROW_BYTES) < 0:
        return -1
    boundary(e)
    if singleton >= 0 and e.singletons[singleton] != NOT_MEMOIZED:
        get_memo(e, e.singletons[singleton])
        return 0
    if size < 256:
        put_byte(e, 0x8C)
        put_little(e, size, 1)
    else:
        put_byte(e, b"X")
        put_little(e, size, 4)
    if escaped:
        put_escaped(e, name, length)
    else:
        put(e, <const char*> name, length)
    if singleton >= 0:
        e.singletons[singleton] = e.memo_count
    put_memo(e)
    return 0


cdef inline void put_key(
    encoder* e, const char* key, int64_t length, int64_t memo
) noexcept nogil:
    boundary(e)
    if e.memo_count > memo:
        get_memo(e, memo)
        return
    put_byte(e, 0x8C)
    put_byte(e, <unsigned char> length)
    put(e, key, length)
    put_memo(e)


cdef inline void put_class(encoder* e) noexcept nogil:
    boundary(e)
    if e.memo_count > 1:
        get_memo(e, 3)
        return
    put(e, b"\x8c\x19supervisely.api.image_api", 27)
    put_memo(e)
    # the first row has it, so no frame ends within it
    put(e, b"\x8c\x0dBlobImageInfo", 15)
    put_memo(e)
    put_byte(e, 0x93)
    put_memo(e)


cdef inline int put_row(
    encoder* e,
    const unsigned char* name,
    int64_t length,
    int64_t offset_start,
    int64_t offset_end,
) noexcept nogil:
    """Write one instance: its class by NEWOBJ, its state as a dict, BUILD.

    There is room for ROW_BYTES.
    """
    put_class(e)
    boundary(e)
    put_byte(e, b")")
    put_byte(e, 0x81)
    put_memo(e)
    boundary(e)
    put_byte(e, b"}")
    put_memo(e)
    put_byte(e, b"(")
    put_key(e, b"name", 4, 6)
    if put_name(e, name, length) < 0:
        return -1
    put_key(e, b"offset_start", 12, 8)
    put_int(e, offset_start)
    put_key(e, b"offset_end", 10, 9)
    put_int(e, offset_end)
    put_byte(e, b"u")
    put_byte(e, b"b")
    return 0


cdef inline int put_list(
    encoder* e,
    const unsigned char* names,
    const int64_t* name_starts,
    const int64_t* name_ends,
    const int64_t* offset_start,
    const int64_t* offset_end,
    int64_t count,
) noexcept nogil:
    """Write one pickle: a list of instances, appended by groups."""
    cdef int64_t row
    if reserve(e, ROW_BYTES + count * 64) < 0:
        return -1
    put(e, b"\x80\x04", 2)
    open_frame(e)
    put_byte(e, b"]")
    put_memo(e)
    for row in range(count):
        if row % GROUP_ROWS == 0 and count > 1:
            put_byte(e, b"(")
        if put_row(
            e, names + name_starts[row], name_ends[row] - name_starts[row],
            offset_start[row], offset_end[row],
        ) < 0 or reserve(e, ROW_BYTES) < 0:
            return -1
        if count == 1:
            put_byte(e, b"a")
        elif row % GROUP_ROWS == GROUP_ROWS - 1 or row == count - 1:
            put_byte(e, b"e")
    put_byte(e, b".")
    close_frame(e)
    return 0
