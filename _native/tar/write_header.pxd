"""Write a member's header: ustar where it fits, pax before it only for what does not.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy, memset

from tar.header cimport (
    BLOCK,
    CHECKSUM_OFFSET,
    MAGIC_OFFSET,
    MTIME_OFFSET,
    PREFIX_OFFSET,
    SIZE_OFFSET,
    TYPEFLAG_OFFSET,
    padded,
)
from common.utf8 cimport decode_char

cdef enum:
    NAME_BYTES = 100
    PREFIX_BYTES = 155
    MODE_OFFSET = 100
    UID_OFFSET = 108
    GID_OFFSET = 116
    # " path=" and the newline, or the like, beside digits and value
    RECORD_EXTRA_BYTES = 16

cdef struct member_header:
    const unsigned char* name
    int64_t name_length
    int64_t size
    int64_t mtime                  # seconds since 1970; kept within what ustar holds
    int64_t prefix_length          # 0: all in name; -1: it does not fit ustar
    bint binary                    # the name is not UTF-8


cdef inline int64_t largest_octal() noexcept nogil:
    return (<int64_t> 1 << 33) - 1  # eleven octal digits: just under 8 GiB


cdef inline int64_t split_name(
    const unsigned char* name, int64_t length
) noexcept nogil:
    """Find the "/" that parts prefix from name.

    0: none is needed, -1: the name does not fit ustar.
    """
    cdef int64_t i
    for i in range(length):
        if name[i] >= 0x80:
            return -1
    if length <= NAME_BYTES:
        return 0
    for i in range(length - NAME_BYTES - 1, min(PREFIX_BYTES + 1, length - 1)):
        if i > 0 and name[i] == b"/":
            return i
    return -1


cdef inline bint is_utf8(const unsigned char* name, int64_t length) noexcept nogil:
    cdef int64_t pos = 0
    cdef uint32_t point
    while pos < length:
        pos += decode_char(name + pos, length - pos, &point)
        if 0xDC80 <= point < 0xDD00:
            return False
    return True


cdef inline void describe(
    member_header* header,
    const unsigned char* name,
    int64_t name_length,
    int64_t size,
    int64_t mtime,
) noexcept nogil:
    """Fill in a header's facts, and decide what fits."""
    header.name = name
    header.name_length = name_length
    header.size = size
    header.mtime = min(max(mtime, 0), largest_octal())
    header.prefix_length = split_name(name, name_length)
    header.binary = header.prefix_length < 0 and not is_utf8(name, name_length)


cdef inline int digits_of(int64_t number) noexcept nogil:
    cdef int digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


cdef inline int64_t record_length(
    int64_t key_length, int64_t value_length
) noexcept nogil:
    """Compute the length of "LENGTH KEY=VALUE\\n", which counts its own digits."""
    cdef int64_t rest = key_length + value_length + 3
    cdef int64_t length = rest + digits_of(rest)
    return rest + digits_of(length)


cdef inline int64_t records_length(const member_header* header) noexcept nogil:
    cdef int64_t length = 0
    if header.prefix_length < 0:
        length += record_length(4, header.name_length)
        if header.binary:
            length += record_length(10, 6)
    if header.size > largest_octal():
        length += record_length(4, digits_of(header.size))
    return length


cdef inline int64_t header_length(const member_header* header) noexcept nogil:
    """Compute the bytes before the payload: 512, or more with a pax header."""
    cdef int64_t records = records_length(header)
    return BLOCK if records == 0 else 2 * BLOCK + padded(records)


cdef inline unsigned char* put_decimal(
    unsigned char* to, int64_t number
) noexcept nogil:
    cdef int digits = digits_of(number)
    cdef int i
    for i in range(digits - 1, -1, -1):
        to[i] = 48 + number % 10
        number //= 10
    return to + digits


cdef inline unsigned char* put_record(
    unsigned char* to,
    const char* key,
    int64_t key_length,
    const void* text,
    int64_t length,
) noexcept nogil:
    to = put_decimal(to, record_length(key_length, length))
    to[0] = b" "
    memcpy(to + 1, key, key_length)
    to[key_length + 1] = b"="
    memcpy(to + key_length + 2, text, length)
    to[key_length + 2 + length] = b"\n"
    return to + key_length + length + 3


cdef inline void put_octal(
    unsigned char* field, int digits, int64_t number
) noexcept nogil:
    """Fill a field with that many octal digits.

    The NUL behind them is there already.
    """
    cdef int i
    for i in range(digits - 1, -1, -1):
        field[i] = 48 + (number & 7)
        number >>= 3


cdef inline void put_size(unsigned char* field, int64_t size) noexcept nogil:
    """Fill the size's 12 bytes: octal digits, or base-256 where these are too few."""
    cdef int i
    if size <= largest_octal():
        put_octal(field, 11, size)
        return
    field[0] = 0x80
    for i in range(11, 0, -1):
        field[i] = size & 0xFF
        size >>= 8


cdef inline void put_block(
    unsigned char* block, unsigned char typeflag, int64_t size, int64_t mtime
) noexcept nogil:
    """Fill in all of a header but its names; these are there, the rest is zero."""
    cdef uint32_t total = 8 * 32
    cdef int i
    put_octal(block + MODE_OFFSET, 7, 0o644)
    put_octal(block + UID_OFFSET, 7, 0)
    put_octal(block + GID_OFFSET, 7, 0)
    put_size(block + SIZE_OFFSET, size)
    put_octal(block + MTIME_OFFSET, 11, mtime)
    block[TYPEFLAG_OFFSET] = typeflag
    memcpy(block + MAGIC_OFFSET, b"ustar\x0000", 8)
    for i in range(BLOCK):
        total += block[i]
    put_octal(block + CHECKSUM_OFFSET, 6, total)
    block[CHECKSUM_OFFSET + 7] = 32


cdef inline void put_name(
    unsigned char* block, const member_header* header
) noexcept nogil:
    """Fill in name and prefix.

    For a pax member, what an old reader may make of the name.
    """
    cdef const unsigned char* rest = header.name
    cdef int64_t i
    if header.prefix_length > 0:
        memcpy(block + PREFIX_OFFSET, header.name, header.prefix_length)
        rest += header.prefix_length + 1
        memcpy(block, rest, header.name_length - header.prefix_length - 1)
        return
    for i in range(min(header.name_length, NAME_BYTES)):
        block[i] = rest[i] if rest[i] < 0x80 else b"?"


cdef inline void put_header(
    unsigned char* to, const member_header* header
) noexcept nogil:
    """Write the header: header_length(header) bytes."""
    cdef int64_t length = records_length(header)
    cdef unsigned char* record
    cdef unsigned char number[20]
    cdef int64_t size
    memset(to, 0, BLOCK)
    if length:
        memcpy(to, b"././@PaxHeader", 14)
        put_block(to, b"x", length, 0)
        to += BLOCK
        record = to
        if header.binary:
            record = put_record(record, b"hdrcharset", 10, b"BINARY", 6)
        if header.prefix_length < 0:
            record = put_record(record, b"path", 4, header.name, header.name_length)
        if header.size > largest_octal():
            put_decimal(number, header.size)
            record = put_record(record, b"size", 4, number, digits_of(header.size))
        memset(record, 0, -length & (BLOCK - 1))   # up to the end of the block
        to += padded(length)
        memset(to, 0, BLOCK)
    put_name(to, header)
    size = header.size if header.size <= largest_octal() else 0
    put_block(to, b"0", size, header.mtime)
