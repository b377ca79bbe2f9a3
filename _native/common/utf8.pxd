"""Names are bytes; as str, those that are not UTF-8 stand as surrogates (PEP 383)."""

from libc.stdint cimport int64_t, uint32_t


cdef inline bint is_continuation(unsigned char byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef inline int decode_char(
    const unsigned char* bytes, int64_t length, uint32_t* point
) noexcept nogil:
    """Decode one character and return how many bytes it takes.

    A byte that is not UTF-8 becomes U+DC80 to U+DCFF.

    Source: RFC 3629; PEP 383.
    """
    cdef unsigned char first = bytes[0]
    if first < 0x80:
        point[0] = first
        return 1
    if 0xC2 <= first < 0xE0 and length > 1 and is_continuation(bytes[1]):
        point[0] = (<uint32_t> first & 0x1F) << 6 | (bytes[1] & 0x3F)
        return 2
    if (
        0xE0 <= first < 0xF0
        and length > 2
        and is_continuation(bytes[1])
        and is_continuation(bytes[2])
    ):
        point[0] = (
            (<uint32_t> first & 0x0F) << 12
            | (<uint32_t> bytes[1] & 0x3F) << 6
            | (bytes[2] & 0x3F)
        )
        if point[0] >= 0x800 and not 0xD800 <= point[0] < 0xE000:
            return 3
    if (
        0xF0 <= first < 0xF5
        and length > 3
        and is_continuation(bytes[1])
        and is_continuation(bytes[2])
        and is_continuation(bytes[3])
    ):
        point[0] = (
            (<uint32_t> first & 0x07) << 18
            | (<uint32_t> bytes[1] & 0x3F) << 12
            | (<uint32_t> bytes[2] & 0x3F) << 6
            | (bytes[3] & 0x3F)
        )
        if 0x10000 <= point[0] < 0x110000:
            return 4
    point[0] = 0xDC00 | first
    return 1
