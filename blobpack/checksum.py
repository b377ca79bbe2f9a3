"""CRC-32C, by libcrc32c as google-crc32c brings it: called from Python, and by native code without the GIL."""

from __future__ import annotations

import functools


@functools.cache
def crc32c_address() -> int:
    """Find libcrc32c's `crc32c_extend` for native code.

    Returns:
        The function's address; 0 where google-crc32c came without the library, and native code does with a
        table of its own.

    Source: google/crc32c, crc32c.h: uint32_t crc32c_extend(uint32_t crc, const uint8_t* data, size_t count).
    """
    import ctypes

    try:
        from google_crc32c import _crc32c
    except ImportError:
        return 0
    try:  # a handle finds what its own dependencies export
        function = ctypes.CDLL(_crc32c.__file__).crc32c_extend
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def crc32c(payload: bytes, crc: int = 0) -> int:
    """Compute the CRC-32C of bytes, on from that of the bytes before them."""
    from google_crc32c import extend

    extended: int = extend(crc, payload)
    return extended
