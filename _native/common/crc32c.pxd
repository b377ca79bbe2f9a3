"""CRC-32C without the GIL: by libcrc32c's own function, whose address is handed in.

blobpack.checksum finds the address; the library takes the processor's instruction for
it. Where there is no library, a table of half bytes does the same, slowly.

Source: RFC 3720, B.4; google/crc32c, crc32c.h.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint8_t, uintptr_t

ctypedef uint32_t (*crc32c_function)(uint32_t, const uint8_t*, size_t) noexcept nogil

cdef extern from *:
    """
    static const uint32_t crc32c_half_bytes[16] = {
        0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1,
        0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
        0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
        0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
    };
    """
    const uint32_t[16] crc32c_half_bytes


cdef inline uint32_t extend_by_table(
    uint32_t crc, const uint8_t* bytes, size_t length
) noexcept nogil:
    cdef size_t i
    crc = ~crc
    for i in range(length):
        crc ^= bytes[i]
        crc = (crc >> 4) ^ crc32c_half_bytes[crc & 15]
        crc = (crc >> 4) ^ crc32c_half_bytes[crc & 15]
    return ~crc


cdef inline crc32c_function crc32c_at(uintptr_t address) noexcept nogil:
    """Take the library's function at an address, the table's at 0."""
    return <crc32c_function> address if address else extend_by_table
