"""CRC-32C for Python code: the shell around crc32c.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from common.crc32c cimport (
    crc32c_function,
    extend_by_library,
    extend_by_table,
    find_crc32c,
)
from common.crc32c_wide cimport has_wide_crc32c, wide_crc32c

cdef enum:
    LONG_BYTES = 65536             # their checksum takes longer than releasing the GIL


def crc32c(const unsigned char[::1] payload not None, uint32_t crc=0):
    """Return the CRC-32C of bytes.

    Args:
        payload: The bytes.
        crc: The checksum of the bytes before them, if there are any.
    """
    return extend(find_crc32c(), crc, payload)


def crc32c_by(str way not None, const unsigned char[::1] payload not None):
    """Return the CRC-32C of bytes, computed in the way that is named.

    Args:
        way: "wide", "library" or "table".
        payload: The bytes.

    Raises:
        ValueError: there is no such way on this machine.
    """
    cdef crc32c_function by = NULL
    if way == "wide" and has_wide_crc32c():
        by = wide_crc32c
    elif way == "library":
        by = extend_by_library()
    elif way == "table":
        by = extend_by_table
    if by == NULL:
        raise ValueError(f"no such way here: {way!r}")
    return extend(by, 0, payload)


cdef uint32_t extend(
    crc32c_function by, uint32_t crc, const unsigned char[::1] payload
) except? 0:
    cdef size_t length = payload.shape[0]
    if length == 0:                                # &payload[0] of nothing is nothing
        return crc
    if length < LONG_BYTES:
        return by(crc, &payload[0], length)
    with nogil:
        crc = by(crc, &payload[0], length)
    return crc
