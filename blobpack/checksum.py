"""CRC-32C for Python code; native code finds the same library's function itself."""

from __future__ import annotations


def crc32c(payload: bytes, crc: int = 0) -> int:
    """Compute the CRC-32C of bytes, on from that of the bytes before them."""
    from google_crc32c import extend

    extended: int = extend(crc, payload)
    return extended
