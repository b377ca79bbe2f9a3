"""The name lookup of the index file: pages of 4,096 bytes, each a small hash table.

A name's hash says which page; a page is checked when it is first used. A line of eight
slots is one cache line, and a slot is 32 bits of the hash and the row.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from common.crc32c cimport crc32c_function
from common.hash cimport mixed

cdef enum:
    PAGE_BYTES = 4096
    PAGE_HEADER_BYTES = 8          # checksum, number
    PAGE_POSITIONS = 511           # in a directory page
    DIRECTORY = 1 << 31            # the number of the directory's first page
    PAGE_SLOTS = 504
    PAGE_NAMES = 400               # on average
    LINE_BYTES = 64
    LINES = 63                     # the first line is the page's header
    LINE_SLOTS = 8
    FREE_ROW = 0xFFFFFFFF

cdef struct slot:
    uint32_t print
    uint32_t row


cdef inline uint64_t seeded(uint64_t hashed, uint64_t seed) noexcept nogil:
    return mixed(hashed ^ seed)


cdef inline int64_t page_of(uint64_t hashed, uint64_t pages) noexcept nogil:
    return <int64_t> (((hashed >> 32) * pages) >> 32)


cdef inline int64_t line_of(uint64_t hashed) noexcept nogil:
    return <int64_t> (((hashed & 0xFFFF) * LINES) >> 16)


cdef inline uint32_t print_of(uint64_t hashed) noexcept nogil:
    return <uint32_t> (hashed >> 16)


cdef inline int64_t slot_position(uint64_t hashed, int64_t probe) noexcept nogil:
    cdef int64_t line = line_of(hashed) + (probe >> 3)
    if line >= LINES:
        line -= LINES
    return LINE_BYTES * (line + 1) + sizeof(slot) * (probe & 7)


cdef inline void slot_at(
    const unsigned char* page, uint64_t hashed, int64_t probe, slot* found
) noexcept nogil:
    """Read the slot a name comes to at a probe, 0 ≤ probe < 504."""
    memcpy(found, page + slot_position(hashed, probe), sizeof(slot))


cdef inline void put_slot(
    unsigned char* page, uint64_t hashed, int64_t probe, uint32_t row
) noexcept nogil:
    cdef slot kept
    kept.print = print_of(hashed)
    kept.row = row
    memcpy(page + slot_position(hashed, probe), &kept, sizeof(slot))


cdef inline bint page_is_whole(
    const unsigned char* page, uint32_t number, crc32c_function crc32c
) noexcept nogil:
    """Compare a page with its checksum, and with its place by its number."""
    cdef uint32_t crc, found
    memcpy(&crc, page, 4)
    memcpy(&found, page + 4, 4)
    return found == number and crc == crc32c(0, page + 4, PAGE_BYTES - 4)


cdef inline void seal_page(
    unsigned char* page, uint32_t number, crc32c_function crc32c
) noexcept nogil:
    cdef uint32_t crc
    memcpy(page + 4, &number, 4)
    crc = crc32c(0, page + 4, PAGE_BYTES - 4)
    memcpy(page, &crc, 4)
