"""The 512-byte tar header: its layout, and decoders that check each field they read.

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar, "Basic Tar Format".
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memchr, memcmp

cdef extern from * nogil:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    /* Sixteen bytes an addition: 8 ns a header, the plain loop takes 28. */
    static inline uint32_t blobpack_sum_block(const unsigned char* block) {
        const __m128i* at = (const __m128i*)block;
        const __m128i zero = _mm_setzero_si128();
        __m128i sum = zero, odd = zero;
        for (int i = 0; i < 32; i += 2) {
            sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_loadu_si128(at + i), zero));
            odd = _mm_add_epi64(odd, _mm_sad_epu8(_mm_loadu_si128(at + i + 1), zero));
        }
        sum = _mm_add_epi64(sum, odd);
        sum = _mm_add_epi64(sum, _mm_srli_si128(sum, 8));
        return (uint32_t)_mm_cvtsi128_si32(sum);
    }
    #else
    #include <string.h>
    /* In lanes of 16 bits, which 512 bytes can't overflow: 15 ns. */
    static inline uint32_t blobpack_sum_block(const unsigned char* block) {
        uint64_t even = 0, odd = 0, word;
        for (int i = 0; i < 512; i += 8) {
            memcpy(&word, block + i, 8);
            even += word & 0x00ff00ff00ff00ffULL;
            odd += word >> 8 & 0x00ff00ff00ff00ffULL;
        }
        even += odd;
        even = (even & 0x0000ffff0000ffffULL) + (even >> 16 & 0x0000ffff0000ffffULL);
        return (uint32_t)even + (uint32_t)(even >> 32);
    }
    #endif
    """
    uint32_t blobpack_sum_block(const unsigned char* block)

cdef enum:
    BLOCK = 512
    SIZE_OFFSET = 124              # 12
    MTIME_OFFSET = 136             # 12
    CHECKSUM_OFFSET = 148          # 8
    TYPEFLAG_OFFSET = 156          # 1
    LINKNAME_OFFSET = 157          # 100
    MAGIC_OFFSET = 257             # 6, then 2 of version
    UNAME_OFFSET = 265             # 32
    PREFIX_OFFSET = 345            # 155; star: 131
    GNU_EXTENDED_OFFSET = 482      # old GNU sparse: more map blocks follow
    STAR_EXTENDED_OFFSET = 355     # star sparse: the same flag
    STAR_MAGIC_OFFSET = 508        # "tar\0"
    MAP_EXTENDED_OFFSET = 504      # the flag in a block of sparse map


cdef inline int64_t padded(int64_t size) noexcept nogil:
    """Round a size up to whole blocks; the caller has bounded it well below 2**63."""
    return (size + BLOCK - 1) & ~(<int64_t> BLOCK - 1)


cdef inline int64_t field_length(
    const unsigned char* field, int64_t width
) noexcept nogil:
    """Count the bytes of a text field up to its first NUL."""
    cdef const unsigned char* end = <const unsigned char*> memchr(field, 0, width)
    return width if end == NULL else end - field


cdef inline int64_t decode_base256(
    const unsigned char* field, int width
) noexcept nogil:
    """Decode a GNU base-256 number; -1 when it is negative or beyond 2**62."""
    cdef int64_t value = 0
    cdef int i
    if field[0] != 0x80:  # 0xff starts a negative number; the rest are nobody's
        return -1
    for i in range(1, width):
        if value >> 54:
            return -1
        value = (value << 8) | field[i]
    return value


cdef inline int64_t decode_number(const unsigned char* field, int width) noexcept nogil:
    """Decode a numeric field, octal or base-256; -1 when it is neither, or negative.

    Octal digits may be led by spaces and end at a NUL, a space or the field's end; an
    empty field is 0.
    """
    cdef int64_t value = 0
    cdef int i = 0
    if field[0] & 0x80:
        return decode_base256(field, width)
    while i < width and field[i] == 32:
        i += 1
    while i < width and 48 <= field[i] <= 55:
        value = (value << 3) | (field[i] - 48)
        i += 1
    while i < width and field[i] == 32:
        i += 1
    return value if i == width or field[i] == 0 else -1


cdef inline int64_t decode_mtime(const unsigned char* field) noexcept nogil:
    """Decode a time, which may be negative in base 256; 0 when it is no number."""
    cdef int64_t value = -1
    cdef int i
    if field[0] != 0xFF:
        return max(decode_number(field, 12), 0)
    for i in range(1, 12):
        if value < -(<int64_t> 1 << 54):
            return 0
        value = value * 256 + field[i]             # C defines no shift of a negative
    return value


cdef inline bint checksum_matches(const unsigned char* header) noexcept nogil:
    """Compare the checksum with the sum of bytes, unsigned or, in old tars, signed."""
    cdef uint32_t total = blobpack_sum_block(header)
    cdef uint32_t field = 0
    cdef int64_t wanted = decode_number(header + CHECKSUM_OFFSET, 8)
    cdef int64_t high = 0
    cdef int i
    if wanted < 0:
        return False
    for i in range(CHECKSUM_OFFSET, CHECKSUM_OFFSET + 8):
        field += header[i]
    if <int64_t> total - field + 8 * 32 == wanted:
        return True
    for i in range(BLOCK):
        if header[i] & 0x80 and not CHECKSUM_OFFSET <= i < CHECKSUM_OFFSET + 8:
            high += 1
    return <int64_t> total - field + 8 * 32 - 256 * high == wanted


cdef inline bint is_zero_block(const unsigned char* block) noexcept nogil:
    return block[0] == 0 and memcmp(block, block + 1, BLOCK - 1) == 0


cdef inline bint has_magic(const unsigned char* header) noexcept nogil:
    """Check for the magic of ustar, pax, star and GNU headers; v7 has none."""
    return memcmp(header + MAGIC_OFFSET, b"ustar", 5) == 0


cdef inline bint has_posix_magic(const unsigned char* header) noexcept nogil:
    """Only these have a prefix.

    In a GNU header the same bytes are times and offsets.
    """
    return memcmp(header + MAGIC_OFFSET, b"ustar\0", 6) == 0


cdef inline bint has_star_magic(const unsigned char* header) noexcept nogil:
    return memcmp(header + STAR_MAGIC_OFFSET, b"tar\0", 4) == 0
