"""CRC-32C without the GIL: by a wide multiplier, or by libcrc32c's own function.

Where the processor has no such multiplier, google-crc32c brings the library, which uses
the processor's CRC-32C instruction where there is one. Each module looks the function
up once, when the first checksum is wanted: importing google_crc32c takes longer than
reading a member. Where the library is missing, a table of half bytes computes the same
checksums, some 30 times slower.

Source: RFC 3720, B.4; google/crc32c, crc32c.h.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint8_t

from common.crc32c_wide cimport has_wide_crc32c, wide_crc32c

ctypedef uint32_t (*crc32c_function)(uint32_t, const uint8_t*, size_t) noexcept nogil

cdef extern from "<dlfcn.h>" nogil:
    int RTLD_LAZY
    void* dlopen(const char*, int)
    void* dlsym(void*, const char*)

cdef extern from *:
    """
    static uint32_t (*crc32c_found)(uint32_t, const uint8_t*, size_t);

    static const uint32_t crc32c_half_bytes[16] = {
        0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1,
        0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
        0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
        0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75,
    };
    """
    crc32c_function crc32c_found   # NULL until it is looked up
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


cdef inline crc32c_function extend_by_library() except? NULL:
    """Find libcrc32c's crc32c_extend(); NULL when it is not there."""
    cdef void* module
    try:
        from google_crc32c import _crc32c
    except ImportError:
        return NULL
    # The module is loaded already, so this only fetches its handle, which stays open;
    # dlsym() then also searches the libraries that the module was linked with.
    module = dlopen(_crc32c.__file__.encode(), RTLD_LAZY)
    return <crc32c_function> dlsym(module, "crc32c_extend") if module else NULL


cdef inline crc32c_function find_crc32c() except NULL:
    """Return the function that extends a CRC-32C by more bytes."""
    global crc32c_found
    if crc32c_found == NULL:
        crc32c_found = wide_crc32c if has_wide_crc32c() else extend_by_library()
        if crc32c_found == NULL:
            crc32c_found = extend_by_table
    return crc32c_found
