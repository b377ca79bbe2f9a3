"""Width and height in PNM and PAM.

Source: Netpbm.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from images.payload cimport STRAY_BYTES_MAX, need, peek
from images.sides cimport of, sides, unknown


cdef inline bint is_space(unsigned char byte) noexcept nogil:
    return byte == 32 or 9 <= byte <= 13


cdef inline int next_word(
    peek* p, int64_t* pos, int64_t last, unsigned char* word, int room
) noexcept nogil:
    """Step over comments to a PNM header's next word; its length, 0 for none."""
    cdef const unsigned char* byte
    cdef int length = 0
    cdef bint comment = False
    while pos[0] < last:
        byte = need(p, pos[0], 1)
        if byte == NULL:
            return 0
        if comment:
            comment = byte[0] != 10 and byte[0] != 13
        elif byte[0] == b"#":
            comment = True
        elif not is_space(byte[0]):
            if length == room:
                return 0
            word[length] = byte[0]
            length += 1
        elif length:
            return length
        pos[0] += 1
    return 0


cdef inline uint64_t next_number(peek* p, int64_t* pos, int64_t last) noexcept nogil:
    """Read the next word as a number; 0 when it is none."""
    cdef unsigned char word[10]
    cdef uint64_t number = 0
    cdef int i
    for i in range(next_word(p, pos, last, word, 10)):
        if not 48 <= word[i] <= 57:
            return 0
        number = number * 10 + word[i] - 48
    return number


cdef inline sides pam_sides(peek* p, int64_t last) noexcept nogil:
    """Read the lines of a P7 header up to the one that ends it."""
    cdef unsigned char word[10]
    cdef uint64_t width = 0, height = 0
    cdef int64_t pos = 3
    cdef int length
    while True:
        length = next_word(p, &pos, last, word, 10)
        if length == 0 or (length == 6 and memcmp(word, b"ENDHDR", 6) == 0):
            break
        if length == 5 and memcmp(word, b"WIDTH", 5) == 0:
            width = next_number(p, &pos, last)
        elif length == 6 and memcmp(word, b"HEIGHT", 6) == 0:
            height = next_number(p, &pos, last)
    return of(width, height)


cdef inline sides pnm_sides(peek* p) noexcept nogil:
    cdef const unsigned char* bytes = need(p, 0, 3)
    cdef int64_t pos = 2
    cdef uint64_t width
    if bytes == NULL:
        return unknown()
    if bytes[1] == b"7":
        return pam_sides(p, STRAY_BYTES_MAX)
    width = next_number(p, &pos, STRAY_BYTES_MAX)
    return of(width, next_number(p, &pos, STRAY_BYTES_MAX))
