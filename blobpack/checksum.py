"""CRC-32C for Python code. Native code calls the same C library directly."""

from __future__ import annotations


def crc32c(payload: bytes, crc: int = 0) -> int:
    """Return the CRC-32C of bytes; `crc` is the checksum of the bytes before them, if there are any."""
    # imported at the first checksum: `import blobpack` and a selection, say, do not need the library
    from google_crc32c import extend

    extended: int = extend(crc, payload)
    return extended
