"""State of a pickle that is being read: its stack, its memo, and rows.

Source: CPython, Lib/pickletools.py.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy

from common.columns cimport columns_push, member_columns
from common.utf8 cimport decode_char

cdef enum:
    REPEATS_MAX = 16               # names may be memoized, but not to fill the memory
    REPEATED_BYTES = 1048576

cdef enum value_kind:
    VALUE_MARK
    VALUE_OTHER                    # None, a bool, a float: carried, not used
    VALUE_INT                      # a: the number
    VALUE_TEXT                     # a: where it stands in the pickle, b: its bytes
    VALUE_CLASS
    VALUE_TUPLE                    # the empty one
    VALUE_LIST
    VALUE_ROW                      # a: its record
    VALUE_DICT                     # a: its record

cdef enum:
    HAS_NAME = 1
    HAS_START = 2
    HAS_END = 4
    HAS_ALL = 7

cdef struct value:
    value_kind kind
    int64_t a
    int64_t b

cdef struct record:
    int64_t name_start
    int64_t name_length
    int64_t offset_start
    int64_t offset_end
    int has

cdef enum decode_status:
    DECODE_OK
    DECODE_MORE                    # the bytes end inside an opcode
    DECODE_DONE                    # STOP
    DECODE_NO_MEMORY
    DECODE_BAD_OPCODE
    DECODE_BAD_PROTOCOL
    DECODE_BAD_CLASS
    DECODE_BAD_STACK
    DECODE_BAD_MEMO
    DECODE_BAD_ROW
    DECODE_BAD_RANGE
    DECODE_BAD_TEXT
    DECODE_BAD_NUMBER
    DECODE_BAD_RESULT
    DECODE_BOMB

cdef struct decoder:
    unsigned char* buffer
    int64_t capacity
    # in the buffer, from the pickle's first byte on: positions stay true
    unsigned char* bytes
    int64_t length
    int64_t pos
    value* stack
    int64_t depth
    int64_t stack_capacity
    value* memo
    int64_t memo_count
    int64_t memo_capacity
    record* records
    int64_t record_count
    int64_t record_capacity
    int64_t name_bytes             # of the rows that this pickle has given so far
    member_columns rows


cdef inline int64_t little(const unsigned char* bytes, int width) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(width):
        number |= <uint64_t> bytes[i] << (8 * i)
    return <int64_t> number


cdef inline int grow_values(value** values, int64_t* capacity) noexcept nogil:
    cdef int64_t larger = max(2 * capacity[0], 1024)
    cdef void* grown
    grown = realloc(values[0], larger * sizeof(value))
    if grown == NULL:
        return -1
    values[0] = <value*> grown
    capacity[0] = larger
    return 0


cdef inline decode_status push(
    decoder* d, value_kind kind, int64_t a, int64_t b
) noexcept nogil:
    if d.depth == d.stack_capacity and grow_values(&d.stack, &d.stack_capacity) < 0:
        return DECODE_NO_MEMORY
    d.stack[d.depth].kind = kind
    d.stack[d.depth].a = a
    d.stack[d.depth].b = b
    d.depth += 1
    return DECODE_OK


cdef inline decode_status push_record(decoder* d, value_kind kind) noexcept nogil:
    cdef void* grown
    cdef int64_t capacity
    if d.record_count == d.record_capacity:
        capacity = max(2 * d.record_capacity, 1024)
        grown = realloc(d.records, capacity * sizeof(record))
        if grown == NULL:
            return DECODE_NO_MEMORY
        d.records = <record*> grown
        d.record_capacity = capacity
    d.records[d.record_count].has = 0
    d.record_count += 1
    return push(d, kind, d.record_count - 1, 0)


cdef inline decode_status memoize(decoder* d, int64_t index) noexcept nogil:
    """Keep the top of the stack.

    Picklers number their memos from 0 on, so a gap is no pickler's.
    """
    if (
        d.depth == 0
        or d.stack[d.depth - 1].kind == VALUE_MARK
        or index < 0
        or index > d.memo_count
    ):
        return DECODE_BAD_MEMO
    if index == d.memo_capacity and grow_values(&d.memo, &d.memo_capacity) < 0:
        return DECODE_NO_MEMORY
    d.memo[index] = d.stack[d.depth - 1]
    d.memo_count = max(d.memo_count, index + 1)
    return DECODE_OK


cdef inline decode_status recall(decoder* d, int64_t index) noexcept nogil:
    if index < 0 or index >= d.memo_count:
        return DECODE_BAD_MEMO
    return push(d, d.memo[index].kind, d.memo[index].a, d.memo[index].b)


cdef inline bint text_is(
    decoder* d, const value* text, const char* wanted, int64_t length
) noexcept nogil:
    return text.b == length and memcmp(d.bytes + text.a, wanted, length) == 0


cdef inline decode_status set_field(
    decoder* d, record* into, const value* key, const value* field
) noexcept nogil:
    """Set one field of a row: the SDK's attributes, and the keys of its REST form.

    Others are let be.
    """
    if key.kind != VALUE_TEXT:
        return DECODE_BAD_ROW
    if text_is(d, key, b"name", 4) or text_is(d, key, b"title", 5):
        if field.kind != VALUE_TEXT:
            return DECODE_BAD_ROW
        into.name_start = field.a
        into.name_length = field.b
        into.has |= HAS_NAME
    elif text_is(d, key, b"offset_start", 12) or text_is(d, key, b"offsetStart", 11):
        if field.kind != VALUE_INT:
            return DECODE_BAD_ROW
        into.offset_start = field.a
        into.has |= HAS_START
    elif text_is(d, key, b"offset_end", 10) or text_is(d, key, b"offsetEnd", 9):
        if field.kind != VALUE_INT:
            return DECODE_BAD_ROW
        into.offset_end = field.a
        into.has |= HAS_END
    elif text_is(d, key, b"sourceBlob", 10):
        if field.kind != VALUE_DICT:
            return DECODE_BAD_ROW
        if d.records[field.a].has & HAS_START:
            into.offset_start = d.records[field.a].offset_start
        if d.records[field.a].has & HAS_END:
            into.offset_end = d.records[field.a].offset_end
        into.has |= d.records[field.a].has & (HAS_START | HAS_END)
    elif field.kind > VALUE_TEXT:
        return DECODE_BAD_ROW
    return DECODE_OK


cdef inline int64_t find_mark(const decoder* d) noexcept nogil:
    cdef int64_t i = d.depth - 1
    while i >= 0 and d.stack[i].kind != VALUE_MARK:
        i -= 1
    return i


cdef inline decode_status set_items(decoder* d, int64_t first) noexcept nogil:
    """Put the pairs from first on into the dict below them, or below their mark."""
    cdef int64_t i, target = first - 1
    cdef record* into
    cdef decode_status status
    if target >= 0 and d.stack[target].kind == VALUE_MARK:
        target -= 1
    if target < 0 or d.stack[target].kind != VALUE_DICT or (d.depth - first) & 1:
        return DECODE_BAD_STACK
    into = &d.records[d.stack[target].a]
    for i in range(first, d.depth, 2):
        status = set_field(d, into, &d.stack[i], &d.stack[i + 1])
        if status != DECODE_OK:
            return status
    d.depth = target + 1
    return DECODE_OK


cdef inline decode_status build(decoder* d) noexcept nogil:
    """Set an instance's state."""
    if (
        d.depth < 2
        or d.stack[d.depth - 1].kind != VALUE_DICT
        or d.stack[d.depth - 2].kind != VALUE_ROW
    ):
        return DECODE_BAD_STACK
    d.records[d.stack[d.depth - 2].a] = d.records[d.stack[d.depth - 1].a]
    d.depth -= 1
    return DECODE_OK


cdef inline int surrogate_bytes(const unsigned char* text, int64_t left) noexcept nogil:
    """Return 3 if the text begins with a surrogate, ED A0 80 to ED BF BF, or 0."""
    if (
        left < 3
        or text[0] != 0xED
        or text[1] & 0xE0 != 0xA0
        or text[2] & 0xC0 != 0x80
    ):
        return 0
    return 3


cdef inline bint is_text(const unsigned char* text, int64_t length) noexcept nogil:
    """Return whether bytes are UTF-8 in which surrogates may stand alone.

    Python's pickles store every str so ("surrogatepass").
    """
    cdef int64_t pos = 0
    cdef uint64_t word
    cdef uint32_t point
    cdef int size
    while pos < length:
        # most texts are ASCII, and eight characters of it are seen at once
        if length - pos >= 8:
            memcpy(&word, text + pos, 8)
            if not word & <uint64_t> 0x8080808080808080:
                pos += 8
                continue
        if text[pos] < 0x80:
            pos += 1
            continue
        size = decode_char(text + pos, length - pos, &point)
        if size == 1:
            size = surrogate_bytes(text + pos, length - pos)
        if size == 0:
            return False
        pos += size
    return True


cdef inline int64_t unescape(unsigned char* name, int64_t length) noexcept nogil:
    """Turn surrogates of a name back into the bytes they stand for, in place.

    Returns:
        The new length; -1 if no tar holds such a name.
    """
    cdef int64_t pos = 0, used = 0
    cdef uint32_t point
    cdef int size
    while pos < length:
        if name[pos] < 0x80:
            name[used] = name[pos]
            used += 1
            pos += 1
            continue
        size = decode_char(name + pos, length - pos, &point)
        if size > 1:
            while size:
                name[used] = name[pos]
                used += 1
                pos += 1
                size -= 1
            continue
        # Of the surrogates, U+DC80 to U+DCFF are bytes of a name: ED B2 80 to ED B3 BF.
        # The others are no bytes of any name.
        if name[pos + 1] & 0xFE != 0xB2:
            return -1
        name[used] = (name[pos + 1] & 1) << 6 | (name[pos + 2] & 0x3F) | 0x80
        used += 1
        pos += 3
    return used


cdef inline decode_status emit(decoder* d, const value* item) noexcept nogil:
    """Append a list's item as a row."""
    cdef record* row
    cdef const unsigned char* name
    cdef int64_t length, used, i
    cdef bint plain = True
    if item.kind != VALUE_ROW and item.kind != VALUE_DICT:
        return DECODE_BAD_ROW
    row = &d.records[item.a]
    if row.has != HAS_ALL:
        return DECODE_BAD_ROW
    if row.offset_start < 0 or row.offset_end < row.offset_start:
        return DECODE_BAD_RANGE
    d.name_bytes += row.name_length
    if d.name_bytes > REPEATS_MAX * d.pos + REPEATED_BYTES:
        return DECODE_BOMB
    name = d.bytes + row.name_start
    if columns_push(
        &d.rows, name, row.name_length, row.offset_start, row.offset_end
    ) < 0:
        return DECODE_NO_MEMORY
    for i in range(row.name_length):
        plain = plain and name[i] < 0x80
    if plain:
        return DECODE_OK
    used = d.rows.name_bounds[d.rows.count - 1]
    length = unescape(<unsigned char*> d.rows.names + used, row.name_length)
    if length < 0:
        return DECODE_BAD_TEXT
    d.rows.name_bounds[d.rows.count] = used + length
    return DECODE_OK


cdef inline decode_status append(
    decoder* d, int64_t first, int64_t target
) noexcept nogil:
    """Append the items from first on to the list at target."""
    cdef int64_t i
    cdef decode_status status
    if target != 0 or d.stack[target].kind != VALUE_LIST:
        return DECODE_BAD_STACK
    for i in range(first, d.depth):
        status = emit(d, &d.stack[i])
        if status != DECODE_OK:
            return status
    d.depth = target + 1
    return DECODE_OK
