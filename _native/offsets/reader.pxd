"""Lists of rows out of pickle bytes: the opcodes an offsets file can hold, no others.

Nothing is imported, called or built but rows; any other opcode ends the reading.

Source: CPython, Lib/pickletools.py (opcodes); PEP 307 (protocol 2), PEP 3154 (4).
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

from offsets.stack cimport (
    DECODE_BAD_CLASS,
    DECODE_BAD_NUMBER,
    DECODE_BAD_OPCODE,
    DECODE_BAD_PROTOCOL,
    DECODE_BAD_RESULT,
    DECODE_BAD_STACK,
    DECODE_BAD_TEXT,
    DECODE_DONE,
    DECODE_MORE,
    DECODE_OK,
    VALUE_CLASS,
    VALUE_DICT,
    VALUE_INT,
    VALUE_LIST,
    VALUE_MARK,
    VALUE_OTHER,
    VALUE_ROW,
    VALUE_TEXT,
    VALUE_TUPLE,
    append,
    build,
    decode_status,
    decoder,
    find_mark,
    is_text,
    little,
    memoize,
    push,
    push_record,
    recall,
    set_items,
    text_is,
)


cdef inline decode_status push_long(
    decoder* d, const unsigned char* bytes, int64_t width
) noexcept nogil:
    """Push a little-endian number in two's complement, of up to eight bytes."""
    cdef int64_t number = little(bytes, <int> width)
    if 0 < width < 8 and bytes[width - 1] & 0x80:
        number -= <int64_t> 1 << (8 * width)
    return push(d, VALUE_INT, number, 0)


cdef inline decode_status push_text(
    decoder* d, int64_t header, int64_t length
) noexcept nogil:
    """Push a text of which header bytes (opcode and length) come first.

    More bytes may be needed.
    """
    cdef decode_status status
    if length < 0 or length > (<int64_t> 1 << 32):
        return DECODE_BAD_NUMBER
    if d.length - d.pos < header + length:
        return DECODE_MORE
    if not is_text(d.bytes + d.pos + header, length):
        return DECODE_BAD_TEXT
    status = push(d, VALUE_TEXT, d.pos + header, length)
    d.pos += header + length
    return status


cdef inline decode_status push_global(decoder* d) noexcept nogil:
    """GLOBAL: module and name, a line each."""
    cdef const unsigned char* text = d.bytes + d.pos + 1
    cdef int64_t length = min(d.length - d.pos - 1, 128)
    cdef const char* wanted = b"supervisely.api.image_api\nBlobImageInfo\n"
    if length < 40:
        return DECODE_MORE if memcmp(text, wanted, length) == 0 else DECODE_BAD_CLASS
    if memcmp(text, wanted, 40):
        return DECODE_BAD_CLASS
    d.pos += 41
    return push(d, VALUE_CLASS, 0, 0)


cdef inline decode_status stack_global(decoder* d) noexcept nogil:
    if (
        d.depth < 2
        or d.stack[d.depth - 1].kind != VALUE_TEXT
        or d.stack[d.depth - 2].kind != VALUE_TEXT
    ):
        return DECODE_BAD_STACK
    if not (
        text_is(d, &d.stack[d.depth - 2], b"supervisely.api.image_api", 25)
        and text_is(d, &d.stack[d.depth - 1], b"BlobImageInfo", 13)
    ):
        return DECODE_BAD_CLASS
    d.depth -= 2
    return push(d, VALUE_CLASS, 0, 0)


cdef inline decode_status new_object(decoder* d) noexcept nogil:
    if (
        d.depth < 2
        or d.stack[d.depth - 1].kind != VALUE_TUPLE
        or d.stack[d.depth - 2].kind != VALUE_CLASS
    ):
        return DECODE_BAD_STACK
    d.depth -= 2
    return push_record(d, VALUE_ROW)


cdef inline int argument_bytes(unsigned char opcode) noexcept nogil:
    """Return the fixed number of bytes behind an opcode; -1 if it is refused."""
    if opcode in (0x80, 0x8C, 0x8A, b"K", b"h", b"q"):
        return 1
    if opcode == b"M":
        return 2
    if opcode in (b"J", b"X", b"j", b"r", 0x8B):
        return 4
    if opcode == 0x95 or opcode == 0x8D or opcode == b"G":
        return 8
    if (
        opcode in (b"]", b")", b"}", b"(", b"N", b"c", b"b", b"s", b"u", b"a", b"e")
        or opcode == b"."
        or opcode in (0x81, 0x88, 0x89, 0x93, 0x94)
    ):
        return 0
    return -1


cdef inline decode_status finish(decoder* d) noexcept nogil:
    """STOP: what is left must be the one list."""
    if d.depth != 1 or d.stack[0].kind != VALUE_LIST:
        return DECODE_BAD_RESULT
    d.pos += 1
    return DECODE_DONE


cdef inline decode_status read_text_or_long(
    decoder* d, unsigned char opcode, int width
) noexcept nogil:
    """An opcode whose argument tells the length of what follows."""
    cdef int64_t length = little(d.bytes + d.pos + 1, width)
    cdef decode_status status
    if opcode != 0x8A and opcode != 0x8B:
        return push_text(d, 1 + width, length)
    if length > 8:
        return DECODE_BAD_NUMBER
    if d.length - d.pos < 1 + width + length:
        return DECODE_MORE
    status = push_long(d, d.bytes + d.pos + 1 + width, length)
    d.pos += 1 + width + length
    return status


cdef inline decode_status read_object(decoder* d, unsigned char opcode) noexcept nogil:
    """An opcode that makes or fills an object."""
    cdef int64_t mark
    if opcode == b"}":
        return push_record(d, VALUE_DICT)
    if opcode == b"]":
        return push(d, VALUE_LIST, 0, 0)
    if opcode == b")":
        return push(d, VALUE_TUPLE, 0, 0)
    if opcode == b"(":
        return push(d, VALUE_MARK, 0, 0)
    if opcode == 0x93:
        return stack_global(d)
    if opcode == 0x81:
        return new_object(d)
    if opcode == b"b":
        return build(d)
    if opcode == b"s":
        return set_items(d, d.depth - 2) if d.depth >= 3 else DECODE_BAD_STACK
    if opcode == b"a":
        return append(d, d.depth - 1, d.depth - 2) if d.depth >= 2 else DECODE_BAD_STACK
    mark = find_mark(d)  # without one, or with nothing below it, there is no target
    if opcode == b"u":
        return set_items(d, mark + 1)
    return append(d, mark + 1, mark - 1)


cdef inline decode_status read_opcode(decoder* d) noexcept nogil:
    """Execute the opcode at d.pos, if it is whole."""
    cdef unsigned char opcode
    cdef const unsigned char* argument
    cdef int width
    cdef decode_status status
    if d.pos == d.length:
        return DECODE_MORE
    opcode = d.bytes[d.pos]
    width = argument_bytes(opcode)
    if width < 0:
        return DECODE_BAD_OPCODE
    if (d.pos == 0) != (opcode == 0x80):
        return DECODE_BAD_PROTOCOL                 # PROTO comes first, and only there
    if d.length - d.pos < 1 + width:
        return DECODE_MORE
    argument = d.bytes + d.pos + 1
    if opcode == b".":
        return finish(d)
    if opcode == b"c":
        return push_global(d)
    if opcode in (0x8C, b"X", 0x8D, 0x8A, 0x8B):
        return read_text_or_long(d, opcode, width)
    status = DECODE_OK
    if opcode == 0x80:
        if not 2 <= argument[0] <= 5:
            return DECODE_BAD_PROTOCOL
    elif opcode == 0x94:
        status = memoize(d, d.memo_count)
    elif opcode == b"q" or opcode == b"r":
        status = memoize(d, little(argument, width))
    elif opcode == b"h" or opcode == b"j":
        status = recall(d, little(argument, width))
    elif opcode == b"K" or opcode == b"M":
        status = push(d, VALUE_INT, little(argument, width), 0)
    elif opcode == b"J":
        status = push_long(d, argument, 4)
    elif opcode == b"N" or opcode == 0x88 or opcode == 0x89 or opcode == b"G":
        status = push(d, VALUE_OTHER, 0, 0)
    elif opcode != 0x95:  # a frame's length is only a hint for reading ahead
        status = read_object(d, opcode)
    if status == DECODE_OK:
        d.pos += 1 + width
    return status


cdef inline decode_status decode_pickle(decoder* d) noexcept nogil:
    """Execute opcodes up to STOP, the end of the bytes, or a fault.

    D.pos is the opcode at fault.
    """
    cdef decode_status status = DECODE_OK
    while status == DECODE_OK:
        status = read_opcode(d)
    return status
